"""Alignment and uniformity at their ends, and over an epoch."""

import pytest
import torch

from speechbrain_ext.training.contrastive_diagnostics import (
    ContrastiveDiagnostics,
    alignment,
    uniformity,
)


def test_alignment_and_uniformity_of_equal_and_of_opposite_embeddings():
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(400, 256, generator=generator)
    assert float(alignment(spread, 3 * spread)) == pytest.approx(0, abs=1e-6)
    assert float(alignment(spread, spread.flip(0))) == pytest.approx(2, abs=0.1)
    assert float(uniformity(torch.ones(5, 3))) == pytest.approx(0, abs=1e-6)
    assert float(uniformity(spread)) == pytest.approx(-4, abs=0.1)


def test_an_epoch_is_the_mean_of_its_steps_and_ends_at_zero():
    generator = torch.Generator().manual_seed(1)
    diagnostics, steps = ContrastiveDiagnostics(4), []
    for loss in (1.0, 3.0):
        first, second = torch.randn(2, 6, 4, generator=generator)
        steps.append(diagnostics.update(torch.tensor(loss), first, second))
    found = diagnostics.close()
    assert found["loss"] == 2.0
    for name in ("alignment", "uniformity"):
        mean = (steps[0][name] + steps[1][name]) / 2
        assert found[name] == pytest.approx(mean)
    assert 1 <= found["effective_rank"] <= 4
    assert all(not buffer.any() for buffer in diagnostics.buffers())
