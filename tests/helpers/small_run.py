"""A plan of seconds, and the driver called as a user does."""

import os
import subprocess
import sys
from pathlib import Path

import warm

ROOT = Path(__file__).parents[2]
PLAN = "hparams/plans/quickstart.yaml"
TINY = {
    "prepare": {
        "set": {
            "n_speakers": 6,
            "n_test_speakers": 4,
            "n_sessions": 2,
            "n_utterances": 2,
            "min_seconds": 1.0,
            "max_seconds": 1.5,
            "n_trials": 60,
            "n_sounds": 2,
        }
    },
    "bootstrap": {
        "set": {
            "n_epochs": 2,
            "batch_size": 8,
            "crop": 0.8,
        }
    },
    "labels": {"set": {"n_centroids": 8, "n_clusters": 4}},
    "train": {"set": {"n_epochs": 1, "crop": 0.8, "batch_size": 4}},
    "large_margin": {"set": {"n_epochs": 1, "crop": 1.0, "batch_size": 4}},
    "score": {"set": {"n_bootstrap": 20, "top_k": 2}},
}
EMBEDDER = {
    "width": 8,
    "width_last": 16,
    "attention_channels": 8,
    "embedding_size": 8,
}


def start(*words, **options):
    """The driver as a user starts it: a Python of its own, and its steps."""
    return subprocess.Popen(
        [sys.executable, "recipes/run_rounds.py", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        **options,
    )


def call(*words):
    """The driver and its steps as forks: its status, and what it said."""
    return warm.run(
        [sys.executable, "recipes/run_rounds.py", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
