"""Cases of section A: each part of the package, at a small size."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch

from benchmarks.augment import make_sounds
from benchmarks.gpu_sections.common import ROOT
from speechbrain_ext.augment.augmenter import Augment
from speechbrain_ext.clustering import cut_tree, kmeans, ward_tree
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.losses import (
    L2SP,
    AAMSoftmax,
    DINOLoss,
    LossGate,
    MoCoLoss,
    NTXentLoss,
    correct_labels,
)
from speechbrain_ext.losses.noisy_labels import NoisyLabels
from speechbrain_ext.losses.rdino import rdino_regularizer
from speechbrain_ext.models.embedder import build_embedder
from speechbrain_ext.models.extraction import embed_manifest
from speechbrain_ext.models.heads import DINOHead
from speechbrain_ext.models.momentum_teacher import MomentumTeacher
from speechbrain_ext.utils.keyed_random import crop_keys
from speechbrain_ext.utils.yaml_trees import read_yaml

SIZES = ROOT / "hparams" / "bases" / "debug_embedders.yaml"


class Case(NamedTuple):
    """One thing to compute: outputs, and gradients of module and inputs."""

    module: torch.nn.Module | None
    inputs: tuple[torch.Tensor, ...]
    call: Callable[..., Any]  # of the module and the inputs
    double: bool = False  # whether it can be computed in double precision
    exact: bool = False  # whether outputs are labels, which must be equal


Named = Iterator[tuple[str, Callable[[], Case]]]


def cases() -> Named:
    """Yield the name of each case and a function that builds it."""
    yield "augmentation", augmentation
    yield "features", features
    yield from embedders()
    yield from losses()
    yield "gate", gate
    yield "noisy labels", noisy_labels
    yield "label correction", correction
    yield "L2-SP anchor", anchor
    yield "momentum teacher", teacher
    yield "Ward tree", ward
    yield "k-means", k_means
    yield "extraction", extraction


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw normal numbers on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator)


def augmentation() -> Case:
    """Every kind of augmentation, drawn by keys."""
    with tempfile.TemporaryDirectory() as folder:
        make_sounds(Path(folder), n_files=3)
        augment = Augment(folder, reverb_prob=0.5, filter_prob=0.5)
    keys = crop_keys(0, 1, [str(row) for row in range(12)], 1)[:, 0]

    def call(_: None, wavs: torch.Tensor) -> torch.Tensor:
        return augment.by_keys(wavs.detach(), keys)

    return Case(None, (0.1 * draw(12, 8000),), call, double=True)


def features() -> Case:
    """Mel bands and their normalisation."""
    embedder = build_embedder("embedders/ecapa.yaml", sizes()["ecapa.yaml"])
    embedder.model = torch.nn.Identity()
    embedder.eval()
    return Case(embedder, (0.1 * draw(3, 8000),), _call)


def _call(module: torch.nn.Module, *inputs: torch.Tensor) -> Any:
    return module(*inputs)


def sizes() -> dict[str, dict[str, Any]]:
    """Return the smallest sizes of each embedder."""
    return read_yaml(SIZES)["embedders"]


def embedders() -> Named:
    """Yield each encoder and back-end, trained from the first layer on."""
    for name, overrides in sizes().items():
        yield name.removesuffix(".yaml"), partial(embedder, name, overrides)


def embedder(name: str, overrides: dict[str, Any]) -> Case:
    """Compute embeddings of waveforms, and the gradients of all weights."""
    torch.manual_seed(0)
    if "encoder_config" in overrides:
        overrides = {**overrides, "freeze": "none"}
    module = build_embedder(f"embedders/{name}", overrides)
    # Biases and gates that start at zero would hide a fault.
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    # Without dropout; what is not drawn is the same.
    module.eval()
    return Case(module, (0.1 * draw(3, 9600),), _call)


def losses() -> Named:
    """Yield the objectives."""
    yield "AAM-softmax", aam
    yield "DINO loss and head", dino
    yield "NT-Xent", partial(views, NTXentLoss(), n_views=2)
    yield "MoCo", moco
    yield "RDINO regulariser", rdino


def aam() -> Case:
    """AAM-softmax with all its options."""
    loss = AAMSoftmax(8, 20, n_subcentres=2, inter_top_k=3)
    labels = torch.arange(12) % 20
    return Case(loss, (draw(12, 8), labels), _call)


def dino() -> Case:
    """DINO's head and loss on six views."""
    torch.manual_seed(0)
    head = DINOHead(8, hidden_size=16, bottleneck_size=8, n_prototypes=64)

    def call(head: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        student = torch.stack([head(view) for view in x])
        # Made anew: its centre moves with each call.
        loss = DINOLoss(n_prototypes=64).to(x.device)
        return loss(student, student[:2].detach().roll(1, 1))

    return Case(head, (draw(6, 12, 8),), call)


def views(loss: torch.nn.Module, n_views: int) -> Case:
    """Take two views for a contrastive loss."""
    x = draw(n_views, 12, 8)
    return Case(loss, (x[0], x[0] + 0.3 * x[1]), _call)


def moco() -> Case:
    """MoCo's loss beside a queue."""
    torch.manual_seed(0)
    loss = MoCoLoss(size=8, n_keys=32)
    return Case(loss, (draw(2, 6, 8), draw(2, 6, 8, seed=1)), _call)


def rdino() -> Case:
    """Variance and covariance terms."""

    def call(_: None, x: torch.Tensor) -> torch.Tensor:
        return rdino_regularizer(x)

    return Case(None, (0.3 * draw(2, 24, 8),), call)


def gate() -> Case:
    """Threshold and weights of the loss gate."""
    low, high = 0.1 + draw(60).abs(), 7 + draw(40, seed=1).abs()

    def call(_: None, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gate = LossGate(len(x), soft=True).to(x.device)
        rows = torch.arange(len(x), device=x.device)
        losses = x.detach().abs()
        gate.weights(gate.record(rows, losses, epoch=1))
        threshold = gate.close(epoch=1)
        log_losses = gate.record(rows, losses, epoch=2)
        return gate.weights(log_losses), torch.tensor([threshold])

    return Case(None, (torch.cat([low, high]),), call)


def noisy_labels() -> Case:
    """Gate, correction and the factors of a batch's losses."""
    torch.manual_seed(0)
    classifier = AAMSoftmax(8, 5)

    def call(classifier: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        noisy = NoisyLabels(
            len(x),
            "hard",
            gate_from_epoch=2,
            correct_from_epoch=2,
            correct_confidence=0.1,
        ).to(x.device)
        rows = torch.arange(len(x), device=x.device)
        labels = rows % 5
        for epoch in (1, 2):
            new, factors = noisy.decide(
                epoch, rows, labels, x, classifier, lambda mask: x[mask]
            )
            noisy.close(epoch)
        return (factors * classifier(x, new)).sum(), factors

    weights = classifier.state_dict()
    prototypes = next(iter(weights.values())).flatten(0, -2)
    x = prototypes[torch.arange(60) % 5] + 0.02 * draw(60, 8)
    return Case(classifier, (x,), call)


def correction() -> Case:
    """Predicted labels."""

    def call(_: None, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return correct_labels(x.detach(), temperature=0.1)

    return Case(None, (0.1 * draw(4000, 20),), call, double=True, exact=True)


def anchor() -> Case:
    """Pull toward the pre-trained weights, in both forms."""

    def call(_: None, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = []
        for form in ("squared", "normalised"):
            start = torch.nn.Parameter(torch.zeros_like(x))
            penalty = L2SP([start], weight=0.1, form=form)
            start.data += x.detach()
            loss = penalty.scale((start * x.detach().flip(0)).sum())
            loss.backward()
            penalty.pull_()
            found.append(start.grad)
        return tuple(found)

    return Case(None, (draw(50, 8),), call, double=True)


def teacher() -> Case:
    """Moving average of a student."""

    def call(_: None, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        student = torch.nn.Linear(8, 8).to(x)
        student.weight.data = x.detach().clone()
        mean = MomentumTeacher(student)
        for number in range(5):
            student.weight.data = student.weight.data.roll(number, 0)
            mean.update(student, momentum=0.9)
        return mean.model.weight.detach()

    return Case(None, (draw(8, 8),), call, double=True)


def ward() -> Case:
    """Cut of Ward's tree."""

    def call(_: None, x: torch.Tensor) -> torch.Tensor:
        tree = ward_tree(x.detach().cpu().numpy(), device=x.device)
        return torch.from_numpy(cut_tree(tree, 30))

    return Case(None, (draw(300, 16),), call, exact=True)


def k_means() -> Case:
    """Labels of a few iterations of k-means."""

    def call(_: None, x: torch.Tensor) -> torch.Tensor:
        vectors = x.detach().cpu().numpy()
        found = kmeans(vectors, 20, 0, n_iterations=3, device=x.device)
        return torch.from_numpy(found.labels)

    return Case(None, (draw(2000, 16),), call, exact=True)


def extraction() -> Case:
    """Embeddings of files of several lengths."""
    module = build_embedder("embedders/ecapa.yaml", sizes()["ecapa.yaml"])
    lengths = [8000, 9000, 8000, 12000, 9000]

    def call(module: Any, x: torch.Tensor) -> torch.Tensor:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_speech(folder, x.detach().cpu().numpy(), lengths)
            manifest = read_manifest(folder / "train.csv", "utterances", folder)
            return torch.from_numpy(embed_manifest(module, manifest, None))

    return Case(module, (0.1 * draw(len(lengths), max(lengths)),), call)


def write_speech(folder: Path, wavs: np.ndarray, lengths: list[int]) -> None:
    """Write waveforms [N, T] of several lengths, with their ``train.csv``."""
    rows = []
    for number, (wav, length) in enumerate(zip(wavs, lengths, strict=True)):
        name = f"u{number:05d}.wav"
        soundfile.write(folder / name, wav[:length], 16000, subtype="FLOAT")
        rows.append(
            {
                "ID": name,
                "duration": length / 16000,
                "wav": f"$data_root/{name}",
                "start": 0,
                "stop": length,
            }
        )
    write_manifest(folder / "train.csv", rows, "utterances")
