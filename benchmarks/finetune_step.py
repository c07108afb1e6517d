"""Time of one fine-tuning step of WavLM + MHFA: ours and the authors'.

From waveforms to moved weights, with the loss gate on: encoder, back-end,
AAM-softmax, backward, L2 toward the pre-trained weights, AdamW. Ours is the
recipe's own ``SpeakerBrain.fit_batch`` with the paper's leaf; theirs is one
turn of the training loop that the authors of the paper released
(github.com/theolepage/wavlm_ssl_sv), read from a local checkout. Both get the
same batch and train as many parameters. Reading and augmenting audio is
counted for neither. Peak memory is that of a side alone in its process. To run
it, from the root of this repository:

> PYTHONPATH=. python benchmarks/finetune_step.py --authors PATH \
      --device cuda --precision bf16

Their loop is left as it is, with these stand-ins: of their wrapper for
several GPUs, which would add communication; on a CPU, of ``.cuda()``; and of
the 12 layers and 768 channels that they have typed in, where other sizes are
asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch

from benchmarks.measuring import (
    N_WARM_UP,
    alone,
    commit,
    in_turns,
    machine,
    peak_mb,
)
from recipes import train_speaker
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.training.settings import TrainSpeaker
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json
from speechbrain_ext.utils.yaml_trees import read_yaml

ROOT = Path(__file__).parents[1]
LEAF = ROOT / "hparams" / "train_speaker_encoder_mhfa.yaml"
HEAD_SIZE = 64  # of WavLM's attention
# The size of WavLM Base+, and half of the authors' batch of a GPU, for theirs
# keeps two graphs; on a CPU less, the CNN's share of the work as in Base+,
# where half as much goes into it as into the transformer's forward.
SIZES = {
    "cuda": {
        "hidden_size": 768,
        "n_layers": 12,
        "conv_dim": 512,
        "batch_size": 60,
    },
    "cpu": {
        "hidden_size": 384,
        "n_layers": 4,
        "conv_dim": 144,
        "batch_size": 8,
    },
}
THEIR_CONFIG = Path("configs") / "wavlm_mhfa_dlg_lc.yaml"
# Their command line's defaults; the rates fall by the epoch, of which each
# step is one here, so they are kept.
THEIR_DEFAULTS = {
    "optimizer": "adamw",
    "scheduler": "steplr",
    "lr": 0.001,
    "nPerSpeaker": 1,
    "gpu": 0,
    "mixedprec": False,
    "test_interval": 10**9,
}
# Their correction begins after this hard-coded epoch; ours does too.
LAST_WITHOUT_CORRECTION = 8


@dataclass(frozen=True)
class Phase:
    """Phase of training: its epoch, and the share that the gate rejects."""

    epoch: int
    rejected: float


# A step of a phase, which returns its loss; parameters that are trained.
Step = Callable[[Phase], float]
Trained = list[torch.nn.Parameter]
Side = Callable[[argparse.Namespace], tuple[Trained, Step]]


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; default sizes depend on the device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--authors", required=True, help="folder of their checkout"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=("fp32", "bf16"),
        help="of ours; theirs has an option that does nothing",
    )
    parser.add_argument("--hidden_size", type=int, help="of WavLM")
    parser.add_argument("--n_layers", type=int, help="of WavLM")
    parser.add_argument("--conv_dim", type=int, help="of WavLM's CNN")
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--n_classes", type=int, default=7500)
    parser.add_argument("--crop", type=float, default=3.0, help="s")
    parser.add_argument(
        "--rejected",
        type=float,
        default=0.25,
        help="share of a batch that the gate rejects",
    )
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument(
        "--output", default="results/benchmarks/finetune_step.json"
    )
    arguments = parser.parse_args(argv)
    for name, size in SIZES[arguments.device].items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, size)
    check_sizes(arguments)
    return arguments


def check_sizes(arguments: argparse.Namespace) -> None:
    """Raise InputError for sizes that one of the two models cannot have."""
    size, n_layers = arguments.hidden_size, arguments.n_layers
    if size % HEAD_SIZE or size == arguments.conv_dim:
        raise InputError(
            f"--hidden_size={size} and --conv_dim={arguments.conv_dim}: the "
            f"first must be a multiple of {HEAD_SIZE} and not be the second, "
            "for theirs has no projection between equal sizes"
        )
    if not 1 <= n_layers <= 12:
        raise InputError(
            f"--n_layers={n_layers}; theirs gives at most 12 layers to its "
            "back-end: give 1 to 12"
        )


def phases(arguments: argparse.Namespace) -> dict[str, Phase]:
    """Return the phases before and after correction begins."""
    last, share = LAST_WITHOUT_CORRECTION, arguments.rejected
    return {
        "before_correction": Phase(last, share),
        "after": Phase(last + 1, share),
        "after_all_rejected": Phase(last + 1, 1.0),
    }


def draw(arguments: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw noise [B, T] and labels [B]."""
    generator = torch.Generator().manual_seed(0)
    n_rows = arguments.batch_size
    wavs = torch.randn(
        n_rows, round(16000 * arguments.crop), generator=generator
    )
    labels = torch.randint(arguments.n_classes, (n_rows,), generator=generator)
    return 0.1 * wavs, labels


def ours(arguments: argparse.Namespace) -> tuple[Trained, Step]:
    """Return our step: that of the Brain that the recipe builds."""
    with tempfile.TemporaryDirectory() as folder:
        brain = build_brain(arguments, Path(folder))
        brain.n_batches = 1000
        brain.on_fit_start()
    brain.modules.train()
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    wavs, labels = draw(arguments)
    names = brain.data.manifest.ids[: arguments.batch_size]
    rows = zip(names, wavs, labels.tolist(), strict=True)
    batch = PaddedBatch([{"id": i, "sig": s, "label": c} for i, s, c in rows])
    batch = batch.to(brain.device)

    def step(phase: Phase) -> float:
        brain.epochs.current = phase.epoch
        kept = torch.ones(len(wavs), device=brain.device)
        kept[: round(phase.rejected * len(wavs))] = 0
        # A fixed share in place of a threshold, so that the share is known.
        brain.parts.noisy_labels.gate.weights = lambda log_losses: kept
        brain.step += 1
        return brain.fit_batch(batch).item()

    groups = brain.optimizer.param_groups
    return [p for group in groups for p in group["params"]], step


def build_brain(
    arguments: argparse.Namespace, folder: Path
) -> train_speaker.SpeakerBrain:
    """Build the recipe's Brain for a manifest without audio."""
    rows = [
        {
            "ID": f"utterance{row}",
            "duration": arguments.crop,
            "wav": f"$data_root/{row}.wav",
            "start": 0,
            "stop": round(16000 * arguments.crop),
            "spk_id": f"speaker{row % arguments.n_classes}",
        }
        for row in range(max(arguments.batch_size, arguments.n_classes))
    ]
    write_manifest(folder / "train.csv", rows, "pseudo_labels")
    encoder = {
        "hidden_size": arguments.hidden_size,
        "num_hidden_layers": arguments.n_layers,
        "num_attention_heads": arguments.hidden_size // HEAD_SIZE,
        "intermediate_size": 4 * arguments.hidden_size,
        "conv_dim": [arguments.conv_dim] * 7,
        "activation_dropout": 0.0,
    }
    options = {
        "train_annotation": folder / "train.csv",
        "data_folder": folder,
        "output_folder": folder / "out",
        "embedder_yaml": ROOT / "hparams" / "embedders" / "encoder_mhfa.yaml",
        "embedder": json.dumps(
            {"encoder_source": None, "encoder_config": encoder}
        ),
        "crop": arguments.crop,
        "batch_size": arguments.batch_size,
        "correct_from_epoch": LAST_WITHOUT_CORRECTION + 1,
        # What theirs computes; it takes a little more than `squared`.
        "l2_sp_form": "normalised",
        "valid_fraction": 0.0,
        "device": arguments.device,
        "precision": arguments.precision,
    }
    argv = [f"--{key}={value}" for key, value in options.items()]
    recipe = RecipeRun(train_speaker.__file__, TrainSpeaker, [str(LEAF), *argv])
    manifest = read_manifest(folder / "train.csv", "pseudo_labels", folder)
    return train_speaker.build_brain(recipe, manifest)


class OneBatch(list):
    """Stand-in for the authors' loader: an epoch of one batch."""

    batch_size = 0


class Unwrapped(torch.nn.Module):
    """Stand-in for the authors' multi-GPU wrapper."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *values: Any, **named: Any) -> Any:
        """Call the model."""
        return self.module(*values, **named)


def authors(arguments: argparse.Namespace) -> tuple[Trained, Step]:
    """Return the authors' step: their loop with their model and trainer."""
    checkout = Path(arguments.authors)
    theirs = import_authors(checkout)
    on_gpu = arguments.device == "cuda"
    with tempfile.TemporaryDirectory() as folder, quietly():
        path = Path(folder) / "wavlm.pt"
        write_checkpoint(arguments, theirs, path)
        options = {
            **THEIR_DEFAULTS,
            **read_yaml(checkout / THEIR_CONFIG),
            "pretrained_model_path": str(path),
            "nClasses": arguments.n_classes,
        }
        trainer = build_trainer(arguments, theirs["SpeakerNet"], options)
        checkpoint = torch.load(path)
    wavs, labels = draw(arguments)
    names = [f"/a/b/c/d/e/{row}.wav" for row in range(len(wavs))]
    # A batch [B, 1, T], clean and augmented, as their loader gives it.
    loader = OneBatch([(wavs[:, None], wavs[:, None], labels, names)])
    loader.batch_size = len(wavs)

    def step(phase: Phase) -> float:
        # They read the checkpoint once an epoch, so no step includes it.
        read = mock.patch("torch.load", lambda path: checkpoint)
        with read, quietly(), cuda_or_stand_in(on_gpu):
            with tempfile.NamedTemporaryFile(suffix=".txt") as file:
                loss, _ = trainer.train_network(
                    loader, file.name, phase.epoch, verbose=True
                )
        return float(loss)

    groups = trainer.__optimizer__.param_groups
    return [p for group in groups for p in group["params"]], step


def build_trainer(
    arguments: argparse.Namespace,
    theirs: ModuleType,
    options: dict[str, Any],
) -> Any:
    """Build the authors' trainer and model at other than hard-coded sizes."""
    model = theirs.SpeakerNet(**options)
    n_layers, back_end = arguments.n_layers, model.__S__.backend
    for name in "kv":
        weights = torch.nn.Parameter(torch.ones(n_layers + 1))
        setattr(back_end, f"weights_{name}", weights)
        linear = torch.nn.Linear(arguments.hidden_size, back_end.cmp_dim)
        setattr(back_end, f"cmp_linear_{name}", linear)
    # Their only use of `range` is over the layers.
    layers = mock.Mock(return_value=range(n_layers))
    with mock.patch.object(theirs, "range", layers, create=True):
        return theirs.ModelTrainer(
            Unwrapped(model).to(arguments.device), **options
        )


@contextlib.contextmanager
def cuda_or_stand_in(on_gpu: bool) -> Iterator[None]:
    """Make ``tensor.cuda()`` do nothing without a GPU."""
    if on_gpu:
        yield
        return
    with mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor):
        yield


def quietly() -> contextlib.redirect_stdout:
    """Silence the output of the authors' code."""
    return contextlib.redirect_stdout(io.StringIO())


def write_checkpoint(
    arguments: argparse.Namespace, theirs: dict[str, ModuleType], path: Path
) -> None:
    """Save random weights of the authors' WavLM in Microsoft's format."""
    size, width = arguments.hidden_size, arguments.conv_dim
    cfg = {
        "encoder_layers": arguments.n_layers,
        "encoder_embed_dim": size,
        "encoder_ffn_embed_dim": 4 * size,
        "encoder_attention_heads": size // HEAD_SIZE,
        "conv_feature_layers": f"[({width},10,5)] + [({width},3,2)] * 4 "
        f"+ [({width},2,2)] * 2",
        "relative_position_embedding": True,
        "gru_rel_pos": True,
        "num_buckets": 320,
        "max_distance": 800,
        # As in Base+: their model skips a layer now and then.
        "encoder_layerdrop": 0.05,
    }
    module = theirs["models.Baseline.Spk_Encoder"]
    model = module.WavLM(module.WavLMConfig(cfg))
    torch.save({"cfg": cfg, "model": model.state_dict()}, path)


def import_authors(checkout: Path) -> dict[str, ModuleType]:
    """Import the modules of the authors' code that a step needs."""
    names = "models.Baseline.Spk_Encoder", "SpeakerNet"
    for name in (f"{names[0].replace('.', '/')}.py", THEIR_CONFIG):
        if not (checkout / name).is_file():
            raise InputError(
                f"--authors={checkout} has no {name}; give the folder of a "
                "checkout of github.com/theolepage/wavlm_ssl_sv"
            )
    sys.path.insert(0, str(checkout))
    try:
        return {name: importlib.import_module(name) for name in names}
    except ImportError as error:
        raise InputError(
            f"the authors' code cannot be imported: {error}; install what it "
            "names"
        ) from None


SIDES: dict[str, Side] = {"ours": ours, "authors": authors}


def peak_memory(
    arguments: argparse.Namespace, side: str, phase: Phase
) -> dict[str, float]:
    """Measure the peak memory in GiB of one side in its own process.

    On a GPU what it allocates there, on a CPU what is resident, and how much
    of that was so before the model was made.
    """
    on_gpu = arguments.device == "cuda"
    before = 0.0 if on_gpu else peak_mb() / 1024
    _, step = SIDES[side](arguments)
    for _ in range(N_WARM_UP):
        step(phase)
    # Linux counts pages late: a peak read twice may shrink by a few MB.
    peak = max(before, peak_mb() / 1024)
    if on_gpu:
        peak = torch.cuda.max_memory_allocated() / 2**30
    return {"peak_gib": round(peak, 3), "before_gib": round(before, 3)}


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure memory, times and ratios, phase by phase."""
    report: dict[str, Any] = {"phases": {}}
    for name, phase in phases(arguments).items():
        report["phases"][name] = {
            "epoch": phase.epoch,
            "rejected": phase.rejected,
            "memory": {
                side: alone(peak_memory, arguments, side, phase)
                for side in SIDES
            },
        }
    steps = {}
    for side, build in SIDES.items():
        parameters, steps[side] = build(arguments)
        n_trained = sum(p.numel() for p in parameters)
        report[f"{side}_trained_parameters"] = n_trained
    for name, phase in phases(arguments).items():
        calls = {side: partial(step, phase) for side, step in steps.items()}
        measured = in_turns(calls, arguments.repeats)
        report["phases"][name].update(summary(measured, arguments.batch_size))
    return report


def summary(
    measured: dict[str, list[float]], batch_size: int
) -> dict[str, Any]:
    """Return median seconds, utterances per second, and the ratio."""
    found: dict[str, Any] = {}
    for side, seconds in measured.items():
        median = statistics.median(seconds)
        found[f"{side}_seconds"] = round(median, 4)
        found[f"{side}_utterances_per_second"] = round(batch_size / median, 3)
        found[f"{side}_seconds_all"] = [round(s, 4) for s in seconds]
    ratio = found["authors_seconds"] / found["ours_seconds"]
    return {**found, "ratio": round(ratio, 3)}


def describe(arguments: argparse.Namespace) -> dict[str, Any]:
    """Describe the setting and the machine."""
    settings = vars(arguments).copy()
    settings["authors_commit"] = commit(settings.pop("authors"))
    del settings["output"], settings["rejected"]
    return {
        "kind": "benchmark",
        "what": "one step of fine-tuning WavLM + MHFA with AAM-softmax and "
        "loss gate, random weights, from waveforms: median seconds; ratio is "
        "the authors' over ours",
        **settings,
        **machine(arguments.device),
    }


def main(argv: list[str] | None = None) -> None:
    """Time, compare, print and write."""
    arguments = parse(argv)
    import_authors(Path(arguments.authors))
    report = {**describe(arguments), **compare(arguments)}
    n_ours, n_theirs = (report[f"{side}_trained_parameters"] for side in SIDES)
    print(f"trained parameters: ours {n_ours}, the authors' {n_theirs}")
    for name, phase in report["phases"].items():
        memory = phase["memory"]
        print(
            f"{name}: ours {phase['ours_seconds']:.3f} s a step and "
            f"{memory['ours']['peak_gib']:.2f} GiB, the authors' "
            f"{phase['authors_seconds']:.3f} s and "
            f"{memory['authors']['peak_gib']:.2f} GiB: "
            f"{phase['ratio']:.2f} times as long"
        )
    write_json(arguments.output, report)


if __name__ == "__main__":
    run(main)
