"""Recordings of noise with their manifest, and a small embedder for them."""

import numpy as np
import soundfile
import torch

from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.models.embedder import build_embedder

LENGTHS = [5000, 4000, 5000, 6000, 4000]
SMALL = {
    "n_mels": 20,
    "width": 16,
    "width_last": 24,
    "attention_channels": 8,
    "embedding_size": 8,
}


def write_recordings(folder):
    """Write wavs and ``all.csv``; utterances are ``u0``, ``u1``, ..."""
    generator = np.random.default_rng(0)
    for number, length in enumerate(LENGTHS):
        wav = 0.1 * generator.normal(size=length)
        soundfile.write(folder / f"{number}.wav", wav, 16000)
    rows = [
        {
            "ID": f"u{number}",
            "duration": length / 16000,
            "wav": f"$data_root/{number}.wav",
            "start": 0,
            "stop": length,
        }
        for number, length in enumerate(LENGTHS)
    ]
    write_manifest(folder / "all.csv", rows, "utterances")
    return folder


def small_embedder():
    torch.manual_seed(0)
    return build_embedder("hparams/embedders/ecapa.yaml", SMALL).eval()
