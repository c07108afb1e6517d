"""Time of augmenting a batch against a training step of ECAPA-512.

Both are timed on the same device, turn by turn, on the batch of 2 s crops of
the published settings. To run it:

> python benchmarks/augment.py --device=cpu --augment_folder=MUSAN_AND_RIR

Without a folder, noises and decaying impulse responses are made up: the time
depends on their number and length, not on their sound.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

from speechbrain_ext.augment.augmenter import Augment
from speechbrain_ext.models.embedder import Embedder, build_embedder
from speechbrain_ext.utils.files import write_json
from speechbrain_ext.utils.keyed_random import crop_keys
from speechbrain_ext.utils.provenance import versions


def make_sounds(folder: Path, n_files: int = 20) -> None:
    """Make a folder of noises of 10 s and rooms of 0.1 to 1 s."""
    generator = np.random.default_rng(0)
    for kind in ("noise", "music", "speech", "rir"):
        (folder / kind).mkdir()
        for number in range(n_files):
            wav = generator.normal(size=160_000) / 8
            if kind == "rir":
                # Time to decay by 60 dB.
                seconds = 0.1 + 0.9 * number / (n_files - 1)
                wav = wav[:16_000] * 10 ** (
                    -3 * np.arange(16_000) / (16_000 * seconds)
                )
            soundfile.write(folder / kind / f"{number}.wav", wav, 16_000)


def load(folder: str | None) -> Augment:
    """Build the augmentation from a folder, or from synthetic sounds."""
    if folder is not None:
        return Augment(folder)
    with tempfile.TemporaryDirectory() as made:
        make_sounds(Path(made))
        return Augment(made)


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """Time one call, including its work on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def train_step(embedder: Embedder, wavs: torch.Tensor, chunk: int) -> None:
    """Run forward and backward, summing gradients over chunks of a batch."""
    embedder.zero_grad(set_to_none=True)
    for part in wavs.split(chunk):
        embedder(part).square().sum().backward()


def compare(
    augment: Augment, wavs: torch.Tensor, chunk: int, n_repeats: int
) -> tuple[list[float], list[float]]:
    """Time augmentation and a training step alternately, after a warm-up."""
    embedder = build_embedder("hparams/embedders/ecapa.yaml", {"width": 512})
    embedder.to(wavs.device)
    names = [str(row) for row in range(len(wavs))]
    ours, steps = [], []
    for repeat in range(n_repeats + 1):
        keys = crop_keys(0, repeat, names, 1)[:, 0]
        apply = partial(augment.by_keys, wavs, keys)
        ours.append(seconds_of(apply, wavs.device))
        step = partial(train_step, embedder, wavs, chunk)
        steps.append(seconds_of(step, wavs.device))
    return ours[1:], steps[1:]


def main() -> None:
    """Time, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--augment_folder")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument(
        "--chunk", type=int, default=256, help="fewer, where memory is short"
    )
    parser.add_argument("--n_frames", type=int, default=32_000)
    parser.add_argument("--n_repeats", type=int, default=3)
    parser.add_argument("--output", default="results/benchmarks/augment.json")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    wavs = torch.randn(arguments.batch_size, arguments.n_frames, device=device)
    augment = load(arguments.augment_folder)
    ours, steps = compare(
        augment, wavs / 10, arguments.chunk, arguments.n_repeats
    )
    ratio = statistics.median(
        one / other for one, other in zip(ours, steps, strict=True)
    )
    gpu = device.type == "cuda"
    report = {
        "kind": "benchmark",
        "what": "augmentation of a batch (clean, rir, music, babble and noise "
        "in equal shares) against forward and backward of ECAPA-512 in fp32, "
        f"medians of {arguments.n_repeats} turns",
        "batch": list(wavs.shape),
        "chunk": arguments.chunk,
        "sounds": "given" if arguments.augment_folder else "made up",
        "augment_seconds": round(statistics.median(ours), 4),
        "ecapa_seconds": round(statistics.median(steps), 4),
        "ratio": round(ratio, 4),
        "device": torch.cuda.get_device_name(device) if gpu else "cpu",
        "processor": platform.machine(),
        "n_cores": os.cpu_count(),
        "n_threads": torch.get_num_threads(),
        "versions": versions(),
    }
    print(
        f"{report['batch']} on {report['device']}: augmentation "
        f"{report['augment_seconds']} s, ECAPA-512 {report['ecapa_seconds']} "
        f"s, ratio {report['ratio']}"
    )
    write_json(arguments.output, report)


if __name__ == "__main__":
    main()
