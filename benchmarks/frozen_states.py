"""Seconds of an epoch with a frozen encoder: in each step, or computed once.

The recipe's own training of MHFA on a frozen encoder, from audio, and the same
on the states that it keeps. What computing the states takes is given apart: it
is paid once. The last of the epochs is timed, without validation.

Synthetic voices and a tiny random Whisper unless a manifest and an encoder are
given; the labels are drawn at random, for they cost the same. To run it:

> PYTHONPATH=. python benchmarks/frozen_states.py --encoder=FOLDER \
      --train_annotation=corpus/train.csv --data_folder=corpus
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.cells import start
from benchmarks.measuring import machine
from recipes import train_speaker
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.models.state_cache import StateCopies
from speechbrain_ext.utils.files import write_json

TINY = {
    "model_type": "whisper",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "encoder_ffn_dim": 128,
}
N_CLASSES = 30
SHOWN = ("n_layers", "n_utterances", "state_copies", "crop", "batch_size")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", help="source; else tiny and random")
    parser.add_argument("--n_layers", type=int, help="layers kept; else all")
    parser.add_argument("--train_annotation", help="manifest; else made")
    parser.add_argument("--data_folder", help="of the manifest")
    parser.add_argument("--n_utterances", type=int, default=300)
    parser.add_argument("--state_copies", type=int, default=1)
    parser.add_argument("--augment_folder", default="null")
    parser.add_argument("--n_epochs", type=int, default=2)
    parser.add_argument("--crop", type=float, default=2.0)
    parser.add_argument("--batch_size", type=int, default=50)
    parser.add_argument(
        "--output", default="results/benchmarks/frozen_states.json"
    )
    return parser.parse_args(argv)


def write_labels(arguments: argparse.Namespace, folder: Path) -> str:
    """Write random labels of some utterances; return their data folder."""
    data, annotation = arguments.data_folder, arguments.train_annotation
    if annotation is None:
        data = str(folder / "voices")
        annotation = f"{data}/train.csv"
        start("prepare_toy", "prepare_toy.yaml", output_folder=data)
    manifest = read_manifest(annotation, "utterances")
    generator = np.random.default_rng(1986)
    longer = manifest.table[manifest.duration >= arguments.crop]
    n_rows = min(arguments.n_utterances, len(longer))
    table = longer.iloc[generator.permutation(len(longer))[:n_rows]]
    names = [f"s{row % N_CLASSES}" for row in range(n_rows)]
    labels = table.assign(spk_id=names)
    write_manifest(folder / "labels.csv", labels, "pseudo_labels")
    return data


class Clock:
    """Seconds of each epoch of a Brain, and of making its states."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.states = 0.0

    def train(self, argv: list[str]) -> None:
        """Run the recipe and time its parts."""
        fit, make = train_speaker.SpeakerBrain._fit_train, StateCopies.make

        def timed_fit(brain: Any, *args: Any, **named: Any) -> None:
            began = time.perf_counter()
            fit(brain, *args, **named)
            self.epochs.append(time.perf_counter() - began)

        def timed_make(states: Any, *args: Any, **named: Any) -> None:
            began = time.perf_counter()
            make(states, *args, **named)
            self.states += time.perf_counter() - began

        with (
            mock.patch.object(
                train_speaker.SpeakerBrain, "_fit_train", timed_fit
            ),
            mock.patch.object(StateCopies, "make", timed_make),
        ):
            train_speaker.main(argv)


def measure(
    arguments: argparse.Namespace, folder: Path, data: str, n_copies: int
) -> Clock:
    """Train once, with or without states that are kept."""
    embedder: dict[str, Any] = {
        "freeze": "all",
        "n_layers": arguments.n_layers,
        "n_heads": 8,
        "encoder_source": arguments.encoder,
        "encoder_config": {} if arguments.encoder else TINY,
    }
    options = {
        "train_annotation": folder / "labels.csv",
        "data_folder": data,
        "output_folder": folder / f"copies{n_copies}",
        "embedder": json.dumps(embedder),
        "augment_folder": arguments.augment_folder,
        "state_copies": n_copies,
        "crop": arguments.crop,
        "batch_size": arguments.batch_size,
        "n_epochs": arguments.n_epochs,
        "num_workers": 0,
        "gate": "null",
        "correct_from_epoch": "null",
        "l2_sp_weight": 0,
        "lr_parts": "{}",
        "embedder_yaml": "embedders/whisper_mhfa.yaml",
    }
    clock = Clock()
    words = [f"--{key}={value}" for key, value in options.items()]
    leaf = "hparams/train_speaker_encoder_mhfa.yaml"
    clock.train([leaf, "--noprogressbar", *words])
    return clock


def report(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure both, and compare."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_labels(arguments, folder)
        anew = measure(arguments, folder, data, 0)
        kept = measure(arguments, folder, data, arguments.state_copies)
    first, second = anew.epochs[-1], kept.epochs[-1]
    encoder = Path(arguments.encoder).name if arguments.encoder else "random"
    return {
        "kind": "benchmark",
        "what": "seconds of an epoch of train_speaker with MHFA on a frozen "
        "encoder: states computed in each step, or once; ratio is the first "
        "over the second",
        "encoder": encoder,
        "voices": "synthetic" if arguments.train_annotation is None else "real",
        **{key: getattr(arguments, key) for key in SHOWN},
        "augmented": arguments.augment_folder != "null",
        "each_step_seconds": round(first, 3),
        "kept_seconds": round(second, 3),
        "states_seconds": round(kept.states, 3),
        "ratio": round(first / second, 2),
        **machine("cpu"),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write."""
    arguments = parse(argv)
    found = report(arguments)
    print(
        f"an epoch: {found['each_step_seconds']} s with the encoder in each "
        f"step, {found['kept_seconds']} s on kept states, {found['ratio']} "
        f"times less; the states took {found['states_seconds']} s, once"
    )
    write_json(arguments.output, found)


if __name__ == "__main__":
    run(main)
