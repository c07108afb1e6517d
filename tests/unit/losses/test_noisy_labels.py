"""Labels and factors of a batch: the losses of the paper, and their limits."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from speechbrain_ext.losses.aam_softmax import AAMSoftmax
from speechbrain_ext.losses.noisy_labels import (
    NoisyLabels,
    Temperature,
    other_labels,
)

N, B, C, D = 90, 12, 6, 5


def classifier():
    torch.manual_seed(0)
    return AAMSoftmax(D, C, scale=8.0)


def batch(seed=1):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(N, generator=generator)[:B]
    labels = torch.randint(0, C, (B,), generator=generator)
    return rows, labels, torch.randn(B, D, generator=generator)


def never(chosen):
    raise AssertionError("a clean forward that nobody needs")


class Clean:
    """Clean embeddings, noting for whom they are asked."""

    def __init__(self, embeddings):
        self.embeddings = embeddings
        self.asked = []

    def __call__(self, chosen):
        self.asked.append(chosen)
        return self.embeddings[chosen]


def gated(threshold, **options):
    """NoisyLabels whose gate has a threshold, from epoch 1."""
    noisy = NoisyLabels(N, "hard", gate_from_epoch=1, scale=8.0, **options)
    noisy.gate.threshold = threshold
    return noisy


def middle(loss, embeddings, labels):
    """A threshold that rejects half of a batch."""
    return loss(embeddings, labels).log().median().item()


def test_without_a_gate_the_loss_is_the_mean():
    rows, labels, embeddings = batch()
    noisy = NoisyLabels(N)
    found, factors = noisy.decide(
        1, rows, labels, embeddings, classifier(), never
    )
    assert torch.equal(found, labels)
    assert factors.tolist() == [pytest.approx(1 / B)] * B
    assert noisy.close(1) == {}
    assert noisy.states(np.arange(N), []) == {}


def test_with_a_gate_the_loss_is_the_mean_over_kept_utterances():
    loss, (rows, labels, embeddings) = classifier(), batch()
    losses = loss(embeddings, labels)
    threshold = middle(loss, embeddings, labels)
    found, factors = gated(threshold).decide(
        1, rows, labels, embeddings, loss, never
    )
    kept = losses.log() <= threshold
    assert 0 < kept.sum() < B
    expected = losses[kept].sum() / kept.sum()
    torch.testing.assert_close((factors * losses).sum(), expected)
    assert torch.equal(found, labels)


def test_before_its_first_epoch_the_gate_only_records():
    loss, (rows, labels, embeddings) = classifier(), batch()
    noisy = gated(-math.inf)
    noisy.gate_from_epoch = 3
    _, factors = noisy.decide(2, rows, labels, embeddings, loss, never)
    assert factors.tolist() == [pytest.approx(1 / B)] * B
    expected = loss(embeddings, labels).log()
    torch.testing.assert_close(noisy.gate.log_losses[rows], expected)
    _, factors = noisy.decide(3, rows, labels, embeddings, loss, never)
    assert factors.tolist() == [0.0] * B


def test_with_correction_the_loss_is_that_of_the_paper():
    """L = (1/B) [sum over S of l_i + sum over LC of l_i(argmax q_i)]."""
    loss, (rows, labels, embeddings) = classifier(), batch()
    threshold = middle(loss, embeddings, labels)
    clean = Clean(batch(seed=2)[2])
    noisy = gated(
        threshold,
        correct_from_epoch=1,
        correct_confidence=0.4,
        temperature=0.3,
    )
    found, factors = noisy.decide(1, rows, labels, embeddings, loss, clean)
    total, n_corrected = 0.0, 0
    for i in range(B):
        own = loss(embeddings[i, None], labels[i, None])
        if own.log() <= threshold:
            total += own.item()
            continue
        q = torch.softmax(loss.cosines(clean.embeddings[i, None]) / 0.3, 1)
        if q.max() > 0.4:
            total += loss(embeddings[i, None], q.argmax(1)).item()
            n_corrected += 1
    assert 0 < n_corrected < B / 2
    value = (factors * loss(embeddings, found)).sum().item()
    assert value == pytest.approx(total / B, rel=1e-5)
    # Only for those that the gate rejected.
    (asked,) = clean.asked
    assert torch.equal(asked, loss(embeddings, labels).log() > threshold)


def test_before_correction_nothing_is_embedded_clean():
    loss, (rows, labels, embeddings) = classifier(), batch()
    noisy = gated(-math.inf, correct_from_epoch=4)
    noisy.decide(3, rows, labels, embeddings, loss, never)
    clean = Clean(embeddings)
    noisy.decide(4, rows, labels, embeddings, loss, clean)
    assert len(clean.asked) == 1


def test_when_nothing_is_rejected_nothing_is_embedded_clean():
    loss, (rows, labels, embeddings) = classifier(), batch()
    noisy = gated(math.inf, correct_from_epoch=1)
    noisy.decide(1, rows, labels, embeddings, loss, never)


def test_a_batch_without_kept_utterances_has_zero_loss():
    loss, (rows, labels, embeddings) = classifier(), batch()
    _, factors = gated(-math.inf).decide(
        1, rows, labels, embeddings, loss, never
    )
    assert factors.tolist() == [0.0] * B


def test_confidences_weight_the_losses():
    rows, labels, embeddings = batch()
    confidence = np.linspace(0, 1, N)
    noisy = NoisyLabels(N, confidence=confidence)
    _, factors = noisy.decide(1, rows, labels, embeddings, None, never)
    expected = torch.from_numpy(confidence)[rows].float()
    torch.testing.assert_close(factors, expected / expected.sum())


def test_confidences_and_gate_multiply():
    loss, (rows, labels, embeddings) = classifier(), batch()
    threshold = middle(loss, embeddings, labels)
    confidence = np.linspace(0, 1, N)
    noisy = gated(threshold, confidence=confidence)
    _, factors = noisy.decide(1, rows, labels, embeddings, loss, never)
    kept = loss(embeddings, labels).log() <= threshold
    expected = torch.from_numpy(confidence)[rows].float() * kept
    torch.testing.assert_close(factors, expected / expected.sum())


def test_the_decision_has_no_gradient():
    loss, (rows, labels, embeddings) = classifier(), batch()
    embeddings.requires_grad_()
    noisy = gated(0.0, correct_from_epoch=1)
    labels, factors = noisy.decide(
        1, rows, labels, embeddings, loss, Clean(embeddings)
    )
    assert not factors.requires_grad
    assert loss.prototypes.grad is None


def test_statistics_are_over_the_epochs_utterances():
    loss, (rows, labels, embeddings) = classifier(), batch()
    threshold = middle(loss, embeddings, labels)
    noisy = gated(
        threshold,
        correct_from_epoch=1,
        correct_confidence=0.01,
        temperature=0.3,
    )
    found, _ = noisy.decide(
        1, rows, labels, embeddings, loss, Clean(embeddings)
    )
    figures = noisy.close(1)
    kept = float((loss(embeddings, labels).log() <= threshold).float().mean())
    assert figures["kept"] == pytest.approx(kept)
    changed = float((found != labels).float().mean())
    assert figures["corrected"] == pytest.approx(changed)
    assert figures["temperature"] == pytest.approx(0.3)
    assert noisy.gate.history[-1]["kept"] == figures["kept"]


def test_only_changed_labels_count_as_corrected():
    """Four classes at right angles; clean crops lie on classes 0, 1, 2, 3.

    Their softmax at temperature 1/4 is e^4 / (e^4 + 3) = 0.948 sure. All of
    the labels 0, 0, 2, 0 are rejected: the first and third are confirmed and
    the second and fourth become 1 and 3, so that half are corrected.
    """
    loss = AAMSoftmax(embedding_size=4, n_classes=4)
    with torch.no_grad():
        loss.prototypes.copy_(torch.eye(4)[:, None])
    noisy = gated(-math.inf, correct_from_epoch=1, temperature=0.25)
    rows, labels = torch.arange(4), torch.tensor([0, 0, 2, 0])
    clean = torch.eye(4)
    found, factors = noisy.decide(
        1, rows, labels, torch.randn(4, 4), loss, lambda mask: clean[mask]
    )
    assert found.tolist() == [0, 1, 2, 3]
    assert factors.tolist() == [0.25] * 4  # confirmed labels are trained on
    statistics = noisy.close(1)
    assert (statistics["kept"], statistics["corrected"]) == (0.0, 0.5)
    names, ids = [f"s{c}" for c in range(4)], np.arange(N)
    states = pd.DataFrame(noisy.states(ids, names)).iloc[:4]
    assert states.corrected.tolist() == ["", "s1", "", "s3"]
    assert states.confirmed.tolist() == [True, False, True, False]


def test_states_have_the_decision_for_each_utterance():
    loss, (rows, labels, embeddings) = classifier(), batch()
    threshold = middle(loss, embeddings, labels)
    noisy = gated(
        threshold,
        correct_from_epoch=1,
        correct_confidence=0.01,
        temperature=0.3,
    )
    found, _ = noisy.decide(
        1, rows, labels, embeddings, loss, Clean(embeddings)
    )
    names = [f"speaker{c}" for c in range(C)]
    ids = np.array([f"utterance{n}" for n in range(N)])
    table = pd.DataFrame(noisy.states(ids, names)).set_index("ID")
    seen = table.loc[ids[rows]]
    assert (seen.epoch == 1).all() and table.epoch.sum() == B
    log_losses = loss(embeddings, labels).log()
    np.testing.assert_allclose(seen.log_loss, log_losses.detach(), atol=1e-4)
    assert seen.kept.tolist() == (log_losses <= threshold).tolist()
    changed = (found != labels).numpy()
    expected = [
        names[label] if is_changed else ""
        for is_changed, label in zip(changed, found.tolist(), strict=True)
    ]
    assert seen.corrected.tolist() == expected
    # With so low a confidence, what is rejected and unchanged is confirmed.
    assert seen.confirmed.tolist() == (~seen.kept & ~changed).tolist()


def test_a_checkpoint_has_all_but_the_confidences():
    noisy = gated(0.5, correct_from_epoch=1, confidence=np.full(N, 0.5))
    rows, labels, embeddings = batch()
    loss = classifier()
    noisy.decide(1, rows, labels, embeddings, loss, Clean(embeddings))
    other = gated(1.0, correct_from_epoch=1, confidence=np.full(N, 0.5))
    other.load_state_dict(noisy.state_dict())
    for name, value in noisy.state_dict().items():
        if name == "gate._extra_state":
            assert other.state_dict()[name] == value
        else:
            assert torch.equal(other.state_dict()[name], value), name
    assert "confidence" not in noisy.state_dict()


def test_without_a_gate_a_checkpoint_is_small():
    assert sum(v.numel() for v in NoisyLabels(N).state_dict().values()) == 1


@pytest.mark.parametrize("true", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("start", [0.01, 0.1])
def test_the_temperature_is_calibrated(true, start):
    """Labels are drawn from softmax(cosines / true): so it is found."""
    generator = torch.Generator().manual_seed(0)
    temperature = Temperature(None, start)
    found = []
    for step in range(1500):
        cosines = 0.4 * torch.rand(64, 20, generator=generator)
        shares = torch.softmax(cosines / true, 1)
        labels = torch.multinomial(shares, 1, generator=generator)[:, 0]
        temperature.update(cosines, labels, torch.ones(64))
        if step >= 500:
            found.append(float(temperature.value))
    assert np.mean(found) == pytest.approx(true, rel=0.1)


def test_untrusted_utterances_do_not_calibrate():
    temperature = Temperature(None, 0.1)
    cosines, labels = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    temperature.update(cosines, labels, torch.zeros(8))
    assert float(temperature.value) == pytest.approx(0.1)


def test_a_fixed_temperature_does_not_change():
    temperature = Temperature(0.25, 0.1)
    cosines, labels = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    temperature.update(cosines, labels, torch.ones(8))
    assert float(temperature.value) == pytest.approx(0.25)


def test_other_labels_are_any_but_the_own():
    rows, labels = torch.arange(6000), torch.arange(6000) % 6
    found = other_labels(rows, labels, 6, epoch=3)
    assert (found != labels).all()
    counts = torch.bincount((found - labels) % 6, minlength=6)
    assert counts[0] == 0
    assert (counts[1:] - 1200).abs().max() < 150


def test_other_labels_depend_on_row_and_epoch_only():
    rows, labels = torch.arange(60), torch.arange(60) % 6
    whole = other_labels(rows, labels, 6, epoch=3)
    assert torch.equal(other_labels(rows[7:9], labels[7:9], 6, 3), whole[7:9])
    assert not torch.equal(other_labels(rows, labels, 6, epoch=4), whole)


def test_the_losses_of_other_labels_are_recorded():
    loss, (rows, labels, embeddings) = classifier(), batch()
    noisy = NoisyLabels(N, "hard", "drawn", gate_from_epoch=1)
    noisy.decide(1, rows, labels, embeddings, loss, never)
    others = other_labels(rows, labels, C, 1)
    expected = loss(embeddings, others).log()
    torch.testing.assert_close(noisy.gate.log_drawn[rows], expected)


def closed_epochs(losses, gate_from_epoch=2, n_epochs=2):
    """What a gate did over epochs of such losses."""
    noisy = NoisyLabels(
        len(losses), gate="hard", gate_from_epoch=gate_from_epoch
    )
    for epoch in range(1, n_epochs + 1):
        noisy.gate.record(torch.arange(len(losses)), losses, epoch)
        noisy.close(epoch)
    return noisy


def test_an_epoch_without_a_threshold_is_warned_of_by_name(caplog):
    closed_epochs(torch.ones(40))
    first, second = caplog.messages
    assert first.startswith("epoch 1: NO THRESHOLD for the gate")
    assert second.startswith("epoch 2: NO THRESHOLD for the gate")
    assert "keeps all labels" in first and "gate_fit mixture" in first


def test_the_warning_says_which_threshold_stays(caplog):
    low, high = torch.linspace(0.1, 0.4, 40), torch.linspace(7, 12, 20)
    noisy = closed_epochs(torch.cat([low, high]))
    assert not caplog.messages
    noisy.gate.record(torch.arange(60), torch.ones(60), 3)
    noisy.close(3)
    assert f"{noisy.gate.threshold:.4g}, stays" in caplog.text


def test_epochs_before_the_gate_may_be_without_a_threshold(caplog):
    closed_epochs(torch.ones(40), gate_from_epoch=4)
    assert not caplog.messages


def test_a_threshold_of_an_epoch_before_the_gate_is_forgotten():
    """The losses of an early epoch once set the threshold of a later one.

    Right after the start all labels have high losses. Where the epoch before
    the first gated one gave no threshold, that of the first epoch acted.
    """
    low, high = torch.linspace(0.1, 0.4, 40), torch.linspace(7, 12, 20)
    losses = torch.cat([low, high])
    noisy = closed_epochs(losses, gate_from_epoch=3, n_epochs=1)
    assert noisy.gate.history[0]["mixture"] is not None
    noisy.gate.record(torch.arange(60), torch.ones(60), 2)
    noisy.close(2)
    assert noisy.gate.threshold == math.inf
    assert noisy.gate.weights(losses.log()).sum() == 60
    noisy.gate.record(torch.arange(60), losses, 3)
    noisy.close(3)
    assert noisy.gate.weights(losses.log()).sum() == 40
