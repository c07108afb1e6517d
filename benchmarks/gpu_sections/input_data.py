"""Section E: augmentation and loading beside a training step."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import augment
from benchmarks.gpu_sections.common import Items, Options, Row
from benchmarks.gpu_sections.parity_cases import write_speech
from speechbrain_ext.augment.augmenter import Augment
from speechbrain_ext.dataio.audio import read_speech


def items(options: Options) -> Items:
    """Yield the share of augmentation, the bank's memory and the loader."""
    yield "augmentation beside ECAPA-TDNN", partial(share, options)
    yield "bank of sounds", partial(bank, options)
    yield "loader", partial(loader, options)


def made_up(options: Options) -> Augment:
    """Return the augmentation with sounds that are made up."""
    with tempfile.TemporaryDirectory() as folder:
        augment.make_sounds(Path(folder), options.pick(20, 3, 2))
        return Augment(folder)


def share(options: Options) -> Row:
    """Measure augmentation of a batch and a step of ECAPA-512."""
    n_rows, n_frames = options.pick((256, 32000), (8, 8000), (2, 4000))
    wavs = 0.1 * torch.randn(n_rows, n_frames, device=options.device)
    ours, steps = augment.compare(made_up(options), wavs, n_rows, 2)
    seconds, step = statistics.median(ours), statistics.median(steps)
    return {
        "seconds": seconds,
        "step_seconds": step,
        "share_of_both": seconds / (seconds + step),
        "crops_per_second": n_rows / seconds,
    }


def bank(options: Options) -> Row:
    """Measure the memory of the sounds on the device, by hours of sound."""
    sounds = made_up(options).to(options.device)
    tensors = [*sounds.parameters(), *sounds.buffers()]
    size = sum(x.numel() * x.element_size() for x in tensors)
    banks = (sounds.music, sounds.speech, sounds.noise, sounds.rirs)
    hours = sum(b.samples.numel() for b in banks) / 16000 / 3600
    return {"bytes": size, "hours": hours, "mb_per_hour": size / 1e6 / hours}


class Crops(torch.utils.data.Dataset):
    """Crops of three seconds, or of what there is, of wav files."""

    def __init__(self, folder: Path, n_files: int, n_frames: int, n_crops: int):
        self.folder, self.n_files = folder, n_files
        self.n_frames, self.n_crops = n_frames, n_crops

    def __len__(self) -> int:
        return self.n_crops

    def __getitem__(self, index: int) -> torch.Tensor:
        name = f"u{index % self.n_files:05d}.wav"
        return read_speech(str(self.folder / name), 0, self.n_frames)


def loader(options: Options) -> Row:
    """Measure the crops that workers read in a second, in warm files."""
    n_files, n_frames, n_crops = options.pick(
        (256, 48240, 20000), (8, 8000, 400), (2, 4000, 20)
    )
    n_workers = min(os.cpu_count() or 1, options.pick(14, 2, 0))
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        wavs = 0.1 * generator.normal(size=(n_files, n_frames))
        write_speech(Path(name), wavs, [n_frames] * n_files)
        crops = Crops(Path(name), n_files, n_frames, n_crops)
        batches = torch.utils.data.DataLoader(
            crops, batch_size=20, num_workers=n_workers
        )
        start = time.perf_counter()
        for batch in batches:
            batch.to(options.device, non_blocking=True)
        seconds = time.perf_counter() - start
    return {"n_workers": n_workers, "crops_per_second": n_crops / seconds}
