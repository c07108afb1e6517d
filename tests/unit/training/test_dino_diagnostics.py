"""DINO's diagnostics by their definitions, and both ways to collapse."""

import math

import numpy as np
import pytest
import torch

from speechbrain_ext.training.dino_diagnostics import (
    CollapseError,
    DinoDiagnostics,
    patience_steps,
)


def entropy_of(p):
    return -sum(x * math.log(x) for x in p if x > 0)


def drawn(seed, n_rows=6, n_prototypes=5, size=3):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.rand(n_rows, n_prototypes, generator=generator) ** 4
    targets = targets / targets.sum(1, keepdim=True)
    embeddings = torch.randn(n_rows, size, generator=generator) + 0.5
    return targets, embeddings, torch.rand(n_prototypes, generator=generator)


def step(diagnostics, targets, embeddings=None, center=None, loss=3.0):
    if embeddings is None:
        embeddings = torch.eye(3).repeat(len(targets), 1)[: len(targets)]
    if center is None:
        center = torch.zeros(targets.shape[1])
    entropy = torch.tensor([entropy_of(p) for p in targets.tolist()]).mean()
    return diagnostics.update(
        torch.tensor(loss), entropy, targets.mean(0), embeddings, center
    )


def build(n_prototypes=5, patience=10**6, **options):
    return DinoDiagnostics(n_prototypes, 3, patience, **options)


def test_statistics_of_a_step_follow_their_definitions():
    targets, embeddings, center = drawn(0)
    found = step(build(), targets, embeddings, center, loss=2.5)
    entropy = np.mean([entropy_of(p) for p in targets.tolist()])
    variety = entropy_of(targets.double().mean(0).tolist())
    wanted = {
        "loss": 2.5,
        "kl": 2.5 - entropy,
        "entropy": entropy,
        "information": variety - entropy,
        "prototypes": math.exp(variety),
        "center_norm": math.sqrt(sum(c * c for c in center.tolist())),
    }
    assert found == pytest.approx(wanted, rel=1e-5)


def test_statistics_of_an_epoch_are_means_and_a_spectrum_over_its_steps():
    diagnostics = build()
    steps, vectors = [], []
    for seed in range(4):
        targets, embeddings, center = drawn(seed)
        steps.append(step(diagnostics, targets, embeddings, center, loss=seed))
        vectors.append(embeddings)
    unit = torch.nn.functional.normalize(torch.cat(vectors).double(), dim=1)
    values = np.linalg.eigvalsh(np.cov(unit.T.numpy(), bias=True))
    found = diagnostics.close()
    for name in steps[0]:
        mean = np.mean([statistics[name] for statistics in steps])
        assert found[name] == pytest.approx(mean, rel=1e-5), name
    assert found["spread"] == pytest.approx(values.sum(), rel=1e-4)
    rank = math.exp(entropy_of(values / values.sum()))
    assert found["effective_rank"] == pytest.approx(rank, rel=1e-4)


def test_an_epoch_does_not_count_the_one_before():
    diagnostics = build()
    step(diagnostics, drawn(0)[0], loss=9.0)
    diagnostics.close()
    step(diagnostics, drawn(1)[0], loss=1.0)
    assert diagnostics.close()["loss"] == 1.0


def test_a_checkpoint_within_an_epoch_keeps_statistics_and_patience():
    whole, first, second = (build(32, patience=4) for _ in range(3))
    flat, vectors = torch.full((8, 32), 1 / 32), drawn(0)[1]
    for diagnostics in (whole, first):
        step(diagnostics, torch.eye(32)[:8], vectors)
        step(diagnostics, flat)
    second.load_state_dict(first.state_dict())
    for diagnostics in (whole, second):
        step(diagnostics, flat)
    assert second.close() == whole.close()
    step(second, flat)
    with pytest.raises(CollapseError):
        step(second, flat)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (torch.full((8, 32), 1 / 32), ["uniform", "--teacher_temperature"]),
        (torch.eye(32)[[3] * 8], ["one-hot", "{center_momentum: 0.9}"]),
    ],
)
def test_a_collapse_ends_the_run_after_its_patience(targets, words):
    diagnostics = build(32, patience=3)
    step(diagnostics, targets)
    step(diagnostics, targets)
    with pytest.raises(CollapseError) as caught:
        step(diagnostics, targets)
    for word in [*words, "for 3 steps", "ln K is 3.466", "--overwrite=true"]:
        assert word in str(caught.value)


def test_patience_null_lets_a_collapsed_run_go_on():
    diagnostics = build(32, patience=None)
    for _ in range(9):
        step(diagnostics, torch.full((8, 32), 1 / 32))


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [(1.0, 40), (0.5, 20), (1e-9, 1), (None, None), (float("inf"), None)],
)
def test_patience_in_epochs_is_a_step_or_more(epochs, steps):
    assert patience_steps(epochs, 40) == steps


def test_a_step_without_collapse_restarts_the_patience():
    diagnostics = build(32, patience=2)
    flat, well = torch.full((8, 32), 1 / 32), torch.eye(32)[:8]
    for _ in range(3):
        step(diagnostics, flat)
        step(diagnostics, well)


def test_embeddings_that_are_all_the_same_have_no_spread():
    diagnostics = build()
    step(diagnostics, drawn(0)[0], torch.full((4, 3), 2.0))
    assert diagnostics.close()["spread"] == pytest.approx(0, abs=1e-6)
