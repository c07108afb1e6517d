"""Section B: back-ends of attention, resuming, one process, host syncs."""

from __future__ import annotations

import os
import socket
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
import torch.distributed
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import dino_step, finetune_step
from benchmarks.gpu_sections.common import (
    ROOT,
    Items,
    Options,
    Row,
    seconds_of,
)
from benchmarks.gpu_sections.parity_cases import sizes, write_speech
from recipes import train_speaker
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.utils.precision import full_precision

BACKENDS = ("MATH", "EFFICIENT_ATTENTION", "FLASH_ATTENTION", "CUDNN_ATTENTION")
# Name, whether there is a bias, whether it has a gradient, and whether its
# rows are padded to a multiple of 8, which some kernels need.
CASES = (
    ("no bias", False, False, False),
    ("fixed bias", True, False, False),
    ("trained bias", True, True, False),
    ("trained bias, padded", True, True, True),
)
N_KILLED = 3  # batches before the kill


def items(options: Options) -> Items:
    """Yield the cases of attention, then what a training is compared with."""
    for dtype in (torch.float32, torch.bfloat16):
        for name, *case in CASES:
            title = f"attention, {name}, {str(dtype).split('.')[1]}"
            yield title, partial(attention, options, dtype, *case)
    yield "kill and resume", partial(kill_and_resume, options)
    yield "a group of one process", partial(one_process, options)
    yield "host syncs, fine-tuning", partial(syncs, options, "speaker")
    yield "host syncs, DINO", partial(syncs, options, "dino")


def attention(
    options: Options,
    dtype: torch.dtype,
    biased: bool,
    trained: bool,
    padded: bool,
) -> Row:
    """Time forward and backward of attention with each back-end."""
    n_rows, n_heads, n_frames = options.pick(
        (60, 12, 150), (2, 2, 50), (1, 2, 9)
    )
    shape = n_rows, n_heads, n_frames, 64
    q, k, v = (
        torch.randn(shape, device=options.device, dtype=dtype).requires_grad_()
        for _ in range(3)
    )
    bias = None
    if biased:
        width = -(-n_frames // 8) * 8 if padded else n_frames
        bias = torch.randn(*shape[:3], width, device=options.device)
        bias = bias.to(dtype).requires_grad_(trained)

    def step() -> None:
        mask = None if bias is None else bias[..., :n_frames]
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
        out.sum().backward()

    row: Row = {}
    for name in BACKENDS:
        try:
            with sdpa_kernel([getattr(SDPBackend, name)]):
                row[name] = seconds_of(step, options)
        except Exception as error:
            row[name] = f"refused: {type(error).__name__}"
    row["chosen_by_torch"] = seconds_of(step, options)
    return row


class KilledError(Exception):
    """Stands for a kill in mid-training."""


def train(folder: Path, output: str, options: Options, **given: Any) -> Path:
    """Train a small embedder on noise; return its weights' file."""
    values = {
        "train_annotation": folder / "labels.csv",
        "data_folder": folder,
        "output_folder": folder / output,
        "embedder": sizes()["ecapa.yaml"],
        "crop": 0.4,
        "batch_size": 4,
        "n_epochs": 2,
        "valid_fraction": 0,
        "num_workers": 0,
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": 2,
        "device": options.device,
        **given,
    }
    argv = ["train_speaker_ecapa.yaml", "--noprogressbar"]
    with full_precision():
        train_speaker.main([*argv, *(f"--{k}={v}" for k, v in values.items())])
    return folder / output / "embedder" / "embedding_model.ckpt"


def write_corpus(folder: Path) -> None:
    """Write noise of sixteen utterances of four speakers."""
    wavs = 0.1 * np.random.default_rng(0).normal(size=(16, 9600))
    write_speech(folder, wavs, [9600] * 16)
    table = read_manifest(folder / "train.csv", "utterances").table.copy()
    table["spk_id"] = [f"s{row % 4}" for row in range(len(table))]
    write_manifest(folder / "labels.csv", table, "pseudo_labels")


def largest_difference(first: Path, second: Path) -> float:
    """Return the largest difference of two files of weights."""
    one, two = (
        torch.load(path, map_location="cpu") for path in (first, second)
    )
    return max(
        float((one[k].double() - two[k].double()).abs().max()) for k in one
    )


def kill_and_resume(options: Options) -> Row:
    """Compare a training that was killed and goes on with one at a stretch."""
    brain = train_speaker.SpeakerBrain
    fit_batch, count = brain.fit_batch, iter(range(10**6))

    def dying(self: Any, batch: Any) -> torch.Tensor:
        if next(count) >= N_KILLED:
            raise KilledError
        return fit_batch(self, batch)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder)
        whole = train(folder, "whole", options)
        try:
            with mock.patch.object(brain, "fit_batch", dying):
                train(folder, "killed", options)
        except KilledError:
            pass
        resumed = train(folder, "killed", options)
        other = train(folder, "other", options, seed=2)
        difference = largest_difference(whole, resumed)
        fault = largest_difference(whole, other)
    return {
        "difference": difference,
        "difference_of_another_seed": fault,
        "ok": difference == 0 < fault,
    }


@contextmanager
def group_of_one(options: Options) -> Iterator[str]:
    """Make this process one that torchrun has started alone."""
    backend = "nccl" if options.on_gpu else "gloo"
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    variables = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with mock.patch.dict(os.environ, variables):
        try:
            yield backend
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()


def one_process(options: Options) -> Row:
    """Compare a training in a process group of one with a plain one."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder)
        given = {"n_epochs": 1}
        train(folder, "plain", options, **given)
        train(folder, "other", options, seed=2, **given)
        with group_of_one(options) as backend:
            given["distributed_backend"] = backend
            train(folder, "group", options, **given)
        for output in ("plain", "other", "group"):
            table = pd.read_csv(folder / output / "train_curve.csv")
            found[output] = float(table.loss.iloc[-1])
    # BatchNorm sums in another order: later steps would show it.
    difference = abs(found["group"] / found["plain"] - 1)
    fault = abs(found["other"] / found["plain"] - 1)
    return {
        "backend": backend,
        "loss_difference": difference,
        "loss_difference_of_another_seed": fault,
        "ok": difference < 1e-4 < fault,
    }


class Reads(TorchDispatchMode):
    """Places that read a value of the device, for which a GPU has to end all.

    What an optimiser reads, its count of steps, lies on the CPU. On a CPU the
    reads of copies on the host count too.
    """

    WAITING = ("_local_scalar_dense", "nonzero", "equal", "masked_select")

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.kind = torch.device(device).type
        self.places: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Note the place of the operation if it reads, and run it."""
        first = args[0] if args else None
        there = getattr(first, "device", torch.device("meta"))
        if (
            there.type == self.kind
            and func.overloadpacket.__name__ in self.WAITING
        ):
            stack = traceback.extract_stack()[:-1]  # without this frame
            own = [f for f in stack if f.filename.startswith(str(ROOT))]
            # Its last line may be of the benchmark, which reads the loss.
            counts = own and "benchmarks" not in own[-1].filename
            if counts and not any("torch/optim" in f.filename for f in stack):
                name = Path(own[-1].filename).relative_to(ROOT)
                self.places[f"{name}:{own[-1].name}"] += 1
        return func(*args, **(kwargs or {}))


def syncs(options: Options, kind: str) -> Row:
    """Count the reads of values in a training step, which make a GPU wait."""
    step = step_of(options, kind)
    step()
    with Reads(options.device) as reads:
        step()
    places = dict(reads.places)
    return {"places": places, "n_reads": sum(places.values())}


def step_of(options: Options, kind: str) -> Callable[[], float]:
    """Return a step of a training, small on a CPU."""
    words = [f"--device={options.device}"]
    if kind == "dino":
        arguments = dino_step.parse(["--sslsv=none", *words, *DINO_WORDS])
        return dino_step.ours(arguments, dino_step.draw(arguments))[1]
    arguments = finetune_step.parse(["--authors=none", *words, *SPEAKER_WORDS])
    step = finetune_step.ours(arguments)[1]
    return partial(step, finetune_step.phases(arguments)["after"])


DINO_WORDS = (
    "--batch_size=2 --width=16 --n_prototypes=32 --global_crop=0.4".split()
)
SPEAKER_WORDS = (
    "--hidden_size=64 --n_layers=2 --conv_dim=16 --batch_size=4 "
    "--n_classes=8 --crop=0.3"
).split()
