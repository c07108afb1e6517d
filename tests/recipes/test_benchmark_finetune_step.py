"""The benchmark of fine-tuning times steps that train, in the phases it names.

The authors' checkout is a stub with the names that the benchmark calls.
"""

import json
import statistics
import sys

import pytest
import torch

from benchmarks import finetune_step
from benchmarks.measuring import N_WARM_UP
from speechbrain_ext.models.embedder import Embedder
from speechbrain_ext.utils.errors import InputError

SMALL = (
    "--hidden_size=64 --n_layers=2 --conv_dim=16 --batch_size=4 "
    "--n_classes=8 --crop=0.3"
).split()
ENCODER = """
from types import SimpleNamespace

import torch


def WavLMConfig(cfg):
    return SimpleNamespace(**cfg)


class WavLM(torch.nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        sizes = [cfg.encoder_embed_dim] * cfg.encoder_layers
        self.layers = torch.nn.ModuleList(torch.nn.PReLU(s) for s in sizes)
"""
TRAINER = """
from pathlib import Path

import torch


class BackEnd(torch.nn.Module):
    cmp_dim = 3

    def __init__(self):
        super().__init__()
        self.weights_k = self.weights_v = torch.nn.Parameter(torch.ones(13))
        self.cmp_linear_k = self.cmp_linear_v = torch.nn.Linear(768, 3)


class SpeakerNet(torch.nn.Module):
    def __init__(self, nClasses, margin, pretrained_model_path, **others):
        super().__init__()
        cfg = torch.load(pretrained_model_path)["cfg"]
        self.__S__ = torch.nn.Module()
        self.__S__.backend = BackEnd()
        self.layers = [torch.nn.PReLU() for _ in range(cfg["encoder_layers"])]
        self.loss = torch.nn.Linear(1, nClasses)


class ModelTrainer:
    def __init__(self, model, gpu, **others):
        self.model = model.module
        layers = [self.model.layers[i] for i in range(12)]
        self.__optimizer__ = torch.optim.SGD(
            [p for part in [model, *layers] for p in part.parameters()], lr=1.0
        )

    def train_network(self, loader, path, epoch, verbose):
        print("verbose")
        assert "model" in torch.load("read once an epoch")
        with open(path, "w") as file:
            for clean, data, labels, names in loader:
                x = data.transpose(1, 0).reshape(-1, data.shape[-1]).cuda()
                logits = self.model.loss(x.mean(1, keepdim=True))
                loss = torch.nn.functional.cross_entropy(logits, labels.cuda())
                loss.backward()
                self.__optimizer__.step()
                file.write(" ".join(names))
        shapes = [list(v.shape) for v in (clean, data, labels)]
        with open(Path(__file__).parent / "calls.txt", "a") as file:
            file.write(f"{epoch} {loader.batch_size} {shapes} {len(names)}\\n")
        return loss.detach(), 0
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A stub of their code, of which nothing stays imported."""
    folder = tmp_path / "theirs"
    (folder / "models" / "Baseline").mkdir(parents=True)
    (folder / "models" / "Baseline" / "Spk_Encoder.py").write_text(ENCODER)
    (folder / "SpeakerNet.py").write_text(TRAINER)
    (folder / "configs").mkdir()
    (folder / finetune_step.THEIR_CONFIG).write_text("margin: 0.2\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    for name in [*sys.modules]:
        if name.split(".")[0] in ("models", "SpeakerNet"):
            del sys.modules[name]


@pytest.fixture
def report(checkout, tmp_path, monkeypatch, capsys):
    """What a run of two repeats leaves, memory measured in this process."""
    monkeypatch.setattr(
        finetune_step, "alone", lambda function, *values: function(*values)
    )
    output = tmp_path / "report.json"
    options = [f"--authors={checkout}", "--repeats=2", f"--output={output}"]
    finetune_step.main([*options, *SMALL])
    assert "verbose" not in capsys.readouterr().out
    return json.loads(output.read_text())


def arguments(*options):
    return finetune_step.parse(["--authors=none", *SMALL, *options])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_of_this_package_moves_every_weight(precision):
    asked = arguments(f"--precision={precision}")
    parameters, step = finetune_step.ours(asked)
    before = [parameter.detach().clone() for parameter in parameters]
    phase = finetune_step.phases(asked)["before_correction"]
    losses = [step(phase) for _ in range(2)]
    assert losses[0] != losses[1]
    moved = [
        not torch.equal(old, new)
        for old, new in zip(before, parameters, strict=True)
    ]
    assert sum(moved) > 0.9 * len(moved)


def test_clean_crops_are_embedded_after_correction_began_if_rejected(
    monkeypatch,
):
    asked, embed, counts = arguments("--rejected=0.5"), Embedder.embed, []

    def counting(self, wavs):
        counts.append(len(wavs))
        return embed(self, wavs)

    _, step = finetune_step.ours(asked)
    monkeypatch.setattr(Embedder, "embed", counting)
    found = {}
    for name, phase in finetune_step.phases(asked).items():
        step(phase)
        found[name] = sum(counts)
        counts.clear()
    assert found == {
        "before_correction": 0,
        "after": 2,
        "after_all_rejected": 4,
    }


def test_the_reference_loop_gets_the_same_batch_in_every_phase(
    report, checkout
):
    lines = (checkout / "calls.txt").read_text().splitlines()
    batch = "4 [[4, 1, 4800], [4, 1, 4800], [4]] 4"
    alone, timed = N_WARM_UP, N_WARM_UP + 2
    epochs = [8] * alone + [9] * 2 * alone + [8] * timed + [9] * 2 * timed
    assert lines == [f"{epoch} {batch}" for epoch in epochs]


def test_the_report_has_times_memory_and_ratio_of_every_phase(report):
    assert report["hidden_size"] == 64
    # The stub's: two averages and two projections, a loss, two layers.
    theirs = 2 * 3 + 2 * (64 * 3 + 3) + 2 * 8 + 2
    assert report["authors_trained_parameters"] == theirs
    assert len(report["phases"]) == 3
    for phase in report["phases"].values():
        medians = [
            statistics.median(phase[f"{side}_seconds_all"])
            for side in ("authors", "ours")
        ]
        assert phase["ratio"] == pytest.approx(medians[0] / medians[1], 0.1)
        for memory in phase["memory"].values():
            assert memory["peak_gib"] >= memory["before_gib"] > 0


def test_a_folder_without_the_reference_code_is_named(tmp_path):
    with pytest.raises(InputError, match="github.com/theolepage/wavlm_ssl_sv"):
        finetune_step.main([f"--authors={tmp_path}", *SMALL])


@pytest.mark.parametrize(
    "option", ["--hidden_size=65", "--conv_dim=64", "--n_layers=13"]
)
def test_sizes_that_only_one_implementation_supports_are_refused(option):
    with pytest.raises(InputError, match=option):
        arguments(option)
