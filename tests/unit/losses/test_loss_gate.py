"""The gate: what it remembers, hard and soft, over a kill and in figures."""

import json
import math

import numpy as np
import pytest
import torch

from speechbrain_ext.losses.loss_gate import LossGate


def losses_of_two_kinds(n_low=60, n_high=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.randn(n_low, generator=generator) - 2
    high = 0.3 * torch.randn(n_high, generator=generator) + 2.5
    return torch.cat([low, high]).exp()


def closed(soft=False, losses=None):
    losses = losses_of_two_kinds() if losses is None else losses
    gate = LossGate(len(losses), soft)
    gate.record(torch.arange(len(losses)), losses, 1)
    gate.close(1)
    return gate


def test_before_the_first_fit_all_weights_are_one():
    for soft in (False, True):
        gate = LossGate(9, soft)
        assert gate.weights(torch.linspace(-5, 5, 9)).tolist() == [1.0] * 9


def test_low_losses_are_kept_and_high_ones_are_left_out():
    gate = closed()
    weights = gate.weights(losses_of_two_kinds().log())
    assert weights[:60].mean() > 0.98
    assert weights[60:].mean() < 0.02
    assert set(weights.tolist()) == {0.0, 1.0}


def test_soft_weights_are_half_at_the_threshold_and_never_rise():
    hard, soft = closed(), closed(soft=True)
    x = torch.linspace(-9, 9, 400)
    weights = soft.weights(x)
    assert (weights.diff() <= 1e-6).all()
    assert torch.equal(weights >= 0.5, hard.weights(x) == 1)
    at_threshold = soft.weights(torch.tensor([soft.threshold]))
    assert at_threshold.item() == pytest.approx(0.5, abs=1e-4)


def test_the_order_and_the_batches_do_not_matter():
    losses = losses_of_two_kinds()
    gate = LossGate(len(losses))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(losses)))
    for rows in order.split(7):
        gate.record(rows, losses[rows], 1)
    gate.close(1)
    assert gate.threshold == closed().threshold


def test_only_the_epochs_own_losses_are_fitted():
    losses = losses_of_two_kinds()
    gate = LossGate(2 * len(losses))
    rows = torch.arange(len(losses))
    gate.record(rows + len(losses), 100 * losses, 1)
    gate.close(1)
    gate.record(rows, losses, 2)
    gate.close(2)
    assert gate.threshold == closed().threshold
    assert gate.history[-1]["n_losses"] == len(losses)


def test_an_epoch_without_losses_changes_nothing():
    gate = closed()
    before = gate.threshold
    assert gate.close(2) == before


def test_the_gate_resumes_from_the_middle_of_an_epoch(tmp_path):
    losses = losses_of_two_kinds()
    rows = torch.arange(len(losses))
    whole = closed(soft=True)
    whole.record(rows, losses.flip(0), 2)
    before = closed(soft=True)
    before.record(rows[:40], losses.flip(0)[:40], 2)
    torch.save(before.state_dict(), tmp_path / "gate.ckpt")
    after = LossGate(len(losses), soft=True)
    after.load_state_dict(torch.load(tmp_path / "gate.ckpt"))
    x = torch.linspace(-5, 5, 50)
    assert torch.equal(after.weights(x), whole.weights(x))
    after.record(rows[40:], losses.flip(0)[40:], 2)
    assert after.close(2) == whole.close(2)
    assert after.history == whole.history


def test_the_history_is_json_with_a_histogram_an_epoch():
    gate = closed()
    gate.record(torch.arange(90), torch.ones(90), 2)
    gate.close(2)
    first, second = json.loads(json.dumps(gate.history, allow_nan=False))
    assert sum(first["counts"]) == first["n_losses"] == 90
    assert first["is_new"] and not second["is_new"]
    assert second["threshold"] == first["threshold"]
    assert second["mixture"] is None


def test_a_missing_threshold_is_null_in_the_history():
    gate = closed(losses=torch.ones(90))
    assert gate.threshold == math.inf
    assert gate.history[0]["threshold"] is None


def closed_beside_drawn(soft=False):
    """A gate that knows how wrong labels look: the upper third of them."""
    generator = torch.Generator().manual_seed(0)
    right = torch.randn(600, generator=generator) + 4
    wrong, drawn = (
        1.5 * torch.randn(n, generator=generator) + 12 for n in (300, 900)
    )
    losses = torch.cat([right, wrong]).clamp(min=0.1)
    gate = LossGate(900, soft, "drawn")
    gate.record(torch.arange(900), losses, 1, drawn)
    gate.close(1)
    return gate


def test_the_drawn_fit_leaves_out_wrong_labels():
    gate = closed_beside_drawn()
    weights = gate.weights(gate.log_losses)
    assert weights[:600].mean() > 0.99
    assert weights[600:].mean() < 0.05
    assert gate.history[0]["mixture"]["weights"][1] == pytest.approx(1 / 3, 0.1)
    assert gate.history[0]["scale"] == "log odds"


def test_log_odds_are_near_low_log_losses_and_high_losses():
    gate = LossGate(1, fit="drawn")
    log_losses = torch.tensor([-60.0, -20.0, 0.0, 2.5, 4.0])
    expected = [-60.0, -20.0, math.log(math.e - 1), math.exp(2.5), math.exp(4)]
    assert gate._scaled(log_losses).tolist() == pytest.approx(expected, 1e-5)


def test_soft_weights_of_the_drawn_fit_fall_with_the_loss():
    hard, soft = closed_beside_drawn(), closed_beside_drawn(soft=True)
    x = torch.linspace(-9, 4, 400)
    weights = soft.weights(x)
    assert (weights.diff() <= 1e-6).all()
    assert torch.equal(weights >= 0.5, hard.weights(x) == 1)


def test_losses_of_zero_are_kept_by_the_drawn_fit():
    gate = closed_beside_drawn()
    zero = gate.record(torch.tensor([0]), torch.zeros(1), 2, torch.ones(1))
    assert gate.weights(zero).tolist() == [1.0]
