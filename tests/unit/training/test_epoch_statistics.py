"""Statistics of an epoch: means of steps, moments of embeddings."""

import pytest
import torch

from speechbrain_ext.training.epoch_statistics import (
    EpochStatistics,
    effective_rank,
)


def test_an_epoch_is_the_mean_of_its_steps():
    statistics = EpochStatistics(["a", "b"], embedding_size=2)
    for a, b in ((1.0, 5.0), (2.0, 9.0)):
        values = [torch.tensor([a]), torch.tensor([b])]
        means = statistics.over_processes(values, torch.eye(2))
        assert statistics.count(means) == {"a": a, "b": b}
    found = statistics.close()
    assert (found["a"], found["b"]) == (1.5, 7.0)
    assert found["spread"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("spectrum", "rank"), [([1, 1, 1], 3.0), ([1, 0, 0], 1.0), ([0, 0, 0], 1.0)]
)
def test_the_effective_rank_counts_directions(spectrum, rank):
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    diagonal = torch.diag(torch.tensor(spectrum, dtype=torch.float64))
    assert effective_rank(turn @ diagonal @ turn.T) == pytest.approx(rank)
