"""Time of one DINO training step: ours and sslsv's, in turns.

From waveforms to moved weights: features, student on 2 global and 4 local
crops, teacher on the global ones, loss, backward, clipping of each tensor,
SGD, moving average. Ours is the recipe's own ``DinoBrain.fit_batch``; theirs
is one turn of their trainer's loop. Both get the same crops and shapes, in one
process and in turns. Their code (github.com/theolepage/sslsv) is read from a
local checkout. To run it, from the root of this repository:

> PYTHONPATH=. python benchmarks/dino_step.py --sslsv PATH --device cuda \
      --precision bf16
"""

from __future__ import annotations

import argparse
import gc
import importlib
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch

from benchmarks.measuring import N_WARM_UP, commit, in_turns, machine
from recipes import train_dino
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.training.settings import TrainDino
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json

ROOT = Path(__file__).parents[1]
LEAF = ROOT / "hparams" / "train_dino_ecapa.yaml"
N_GLOBAL, N_LOCAL = 2, 4
# Settings that gave sslsv 2.82 %; our YAML has the others.
EMBEDDING_SIZE, LR, WEIGHT_DECAY = 512, 0.2, 5e-5

# Parameters that are trained, and a step that returns its loss.
Trained = list[torch.nn.Parameter]
Step = Callable[[], float]
Side = Callable[[argparse.Namespace, torch.Tensor], tuple[Trained, Step]]


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sslsv", required=True, help="folder of their checkout"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument(
        "--sslsv_precision",
        default="fp32",
        choices=("fp32", "bf16"),
        help="theirs trains in fp32: its autocast is commented out; bf16 puts "
        "one around their forward and loss",
    )
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--width", type=int, default=1024, help="of ECAPA")
    parser.add_argument("--n_prototypes", type=int, default=65536)
    parser.add_argument(
        "--global_crop", type=float, default=4.0, help="s; local: half of it"
    )
    parser.add_argument(
        "--recompute_blocks",
        action="store_true",
        help="ours computes the blocks of the student again: less memory",
    )
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", default="results/benchmarks/dino_step.json")
    return parser.parse_args(argv)


def draw(arguments: argparse.Namespace) -> torch.Tensor:
    """Draw noise [B, V, T] of the length of a global crop."""
    generator = torch.Generator().manual_seed(0)
    n_frames = int(16000 * arguments.global_crop)
    shape = arguments.batch_size, N_GLOBAL + N_LOCAL, n_frames
    return 0.1 * torch.randn(shape, generator=generator)


def ours(
    arguments: argparse.Namespace, wavs: torch.Tensor
) -> tuple[Trained, Step]:
    """Return our step: that of the Brain that the recipe builds."""
    with tempfile.TemporaryDirectory() as folder:
        brain = build_brain(arguments, Path(folder))
        brain.on_fit_start()
    brain.modules.train()
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    half = wavs.shape[-1] // 2
    batch = PaddedBatch(
        [
            {
                "id": f"utterance{row}",
                "global_crops": crops[:N_GLOBAL],
                "local_crops": crops[N_GLOBAL:, :half],
            }
            for row, crops in enumerate(wavs)
        ]
    )
    batch = batch.to(brain.device)

    def step() -> float:
        brain.step += 1
        return brain.fit_batch(batch).item()

    return list(brain.parts.student.parameters()), step


def build_brain(
    arguments: argparse.Namespace, folder: Path
) -> train_dino.DinoBrain:
    """Build the recipe's Brain for a manifest without audio."""
    seconds = 2 * arguments.global_crop
    rows = [
        {
            "ID": f"utterance{row}",
            "duration": seconds,
            "wav": f"$data_root/{row}.wav",
            "start": 0,
            "stop": int(16000 * seconds),
        }
        for row in range(100 * arguments.batch_size)
    ]
    write_manifest(folder / "train.csv", rows, "utterances")
    embedder = {
        "width": arguments.width,
        "width_last": 3 * arguments.width,
        "embedding_size": EMBEDDING_SIZE,
    }
    options = {
        "train_annotation": folder / "train.csv",
        "data_folder": folder,
        "output_folder": folder / "out",
        "embedder_yaml": ROOT / "hparams" / "embedders" / "ecapa.yaml",
        "embedder": embedder,
        "head": f"{{n_prototypes: {arguments.n_prototypes}}}",
        "global_crop": arguments.global_crop,
        "local_crop": arguments.global_crop / 2,
        "n_global": N_GLOBAL,
        "n_local": N_LOCAL,
        "batch_size": arguments.batch_size,
        "n_warmup_epochs": 0,
        "n_frozen_prototype_epochs": 0,
        "device": arguments.device,
        "precision": arguments.precision,
        "recompute_blocks": arguments.recompute_blocks,
    }
    argv = [f"--{key}={value}" for key, value in options.items()]
    recipe = RecipeRun(train_dino.__file__, TrainDino, [str(LEAF), *argv])
    manifest = read_manifest(folder / "train.csv", "utterances", folder)
    return train_dino.build_brain(recipe, manifest)


def sslsvs(
    arguments: argparse.Namespace, wavs: torch.Tensor
) -> tuple[Trained, Step]:
    """Return sslsv's step: its trainer with its method and encoder."""
    theirs = import_sslsv(Path(arguments.sslsv))
    encoder = theirs["encoders.ECAPATDNN"]
    width = arguments.width
    sizes = encoder.ECAPATDNNConfig(
        encoder_dim=EMBEDDING_SIZE,
        mel_n_mels=80,
        channels=[width, width, width, width, 3 * width],
    )
    config = theirs["methods.DINO.DINO"].DINOConfig(
        global_count=N_GLOBAL,
        local_count=N_LOCAL,
        head_output_dim=arguments.n_prototypes,
        freeze_last_layer=0,
    )
    method = theirs["methods.DINO.DINO"].DINO(
        config, lambda: encoder.ECAPATDNN(sizes)
    )
    method.to(arguments.device).train()
    trainer = theirs["trainer.Trainer"].TrainerConfig(
        learning_rate=LR, weight_decay=WEIGHT_DECAY
    )
    method.trainer = SimpleNamespace(config=SimpleNamespace(trainer=trainer))
    groups = method.get_learnable_params()
    optimizer = torch.optim.SGD(
        groups, momentum=0.9, lr=0, weight_decay=WEIGHT_DECAY
    )
    wavs = wavs.to(arguments.device)
    numbers = iter(range(10**9))
    half = torch.autocast(
        torch.device(arguments.device).type,
        torch.bfloat16,
        enabled=arguments.sslsv_precision == "bf16",
    )

    def step() -> float:
        # The calls of their training loop, in its order.
        number, n_steps = next(numbers), 8000
        method.on_train_step_start(number, n_steps)
        method.update_optim(optimizer, LR, WEIGHT_DECAY, number, n_steps, 100)
        with half:
            loss = method.train_step(method(wavs, training=True), step=number)
        optimizer.zero_grad(set_to_none=True)
        method.on_before_backward()
        loss.backward()
        method.on_after_backward()
        optimizer.step()
        method.on_train_step_end(number, n_steps)
        return loss.item()

    return [p for group in groups for p in group["params"]], step


def import_sslsv(checkout: Path) -> dict[str, ModuleType]:
    """Import the sslsv modules that a DINO step needs."""
    if not (checkout / "sslsv" / "methods" / "DINO" / "DINO.py").is_file():
        raise InputError(
            f"--sslsv={checkout} has no sslsv/methods/DINO/DINO.py; give the "
            "folder of a checkout of github.com/theolepage/sslsv"
        )
    sys.path.insert(0, str(checkout))
    # Their trainer imports its loggers, which no step calls.
    for logger in ("wandb", "torch.utils.tensorboard"):
        try:
            importlib.import_module(logger)
        except ImportError:
            sys.modules[logger] = MagicMock()
    names = "encoders.ECAPATDNN", "methods.DINO.DINO", "trainer.Trainer"
    try:
        return {
            name: importlib.import_module(f"sslsv.{name}") for name in names
        }
    except ImportError as error:
        raise InputError(
            f"sslsv cannot be imported: {error}; install what it names"
        ) from None


def peak_memory(
    side: Side, arguments: argparse.Namespace, wavs: torch.Tensor
) -> float | None:
    """Measure the peak GPU memory in GiB of one side alone."""
    if torch.device(arguments.device).type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    _, step = side(arguments, wavs)
    for _ in range(N_WARM_UP):
        step()
    peak = torch.cuda.max_memory_allocated() / 2**30
    del step
    gc.collect()
    torch.cuda.empty_cache()
    return round(peak, 3)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure memory, times and their ratio."""
    wavs = draw(arguments)
    sides: dict[str, Side] = {"ours": ours, "sslsv": sslsvs}
    report: dict[str, Any] = {}
    for name, side in sides.items():
        report[f"{name}_peak_gib"] = peak_memory(side, arguments, wavs)
    steps = {}
    for name, side in sides.items():
        parameters, steps[name] = side(arguments, wavs)
        n_trained = sum(p.numel() for p in parameters)
        report[f"{name}_trained_parameters"] = n_trained
    for name, seconds in in_turns(steps, arguments.repeats).items():
        report[f"{name}_seconds"] = round(statistics.median(seconds), 4)
        report[f"{name}_seconds_all"] = [round(s, 4) for s in seconds]
    report["ratio"] = round(report["sslsv_seconds"] / report["ours_seconds"], 3)
    return report


def describe(arguments: argparse.Namespace) -> dict[str, Any]:
    """Describe the setting and the machine."""
    settings = vars(arguments).copy()
    settings["sslsv_commit"] = commit(settings.pop("sslsv"))
    del settings["output"]
    return {
        "kind": "benchmark",
        "what": "one training step of DINO, ECAPA-TDNN, from waveforms: "
        "median seconds; ratio is sslsv's over ours",
        **settings,
        "local_crop": arguments.global_crop / 2,
        **machine(arguments.device),
    }


def main(argv: list[str] | None = None) -> None:
    """Time, compare, print and write."""
    arguments = parse(argv)
    import_sslsv(Path(arguments.sslsv))
    report = {**describe(arguments), **compare(arguments)}
    for name in ("ours", "sslsv"):
        memory = report[f"{name}_peak_gib"]
        print(
            f"{name}: {report[f'{name}_seconds']:.3f} s a step, "
            f"{report[f'{name}_trained_parameters'] / 1e6:.2f} M parameters"
            + (f", {memory:.2f} GiB at most" if memory else "")
        )
    print(f"sslsv's step takes {report['ratio']:.2f} times as long as ours")
    write_json(arguments.output, report)


if __name__ == "__main__":
    run(main)
