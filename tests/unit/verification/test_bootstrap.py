"""Intervals that know of speakers: coverage, pairing, odd cases.

Simulations have a fixed seed: the bounds are those of a binomial share of so
many lists, and an interval that ignores speakers breaks them.
"""

import numpy as np
import pytest
from scipy.stats import norm

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification import bootstrap
from speechbrain_ext.verification.bootstrap import (
    Difference,
    Units,
    difference,
    interval,
    interval_in_words,
    lone_units,
    replicates,
    single_trials,
)
from speechbrain_ext.verification.metrics import equal_error_rate, min_dcf

# Deviations of a trial's score: by speaker, by utterance, of its own.
SPEAKER, UTTERANCE, OWN, DISTANCE = 0.6, 0.4, 0.8, 3.0
N_UTTERANCES = 5
PRIOR = 0.1


def draw(generator, n_speakers, n_systems=1, common=0.7):
    """Scores [N] of a list by each system, its labels and its units.

    Target scores differ by speaker, non-target scores by both speakers, and
    all by utterance; systems share part of it.
    """
    first, second = np.triu_indices(N_UTTERANCES, k=1)
    speaker = np.repeat(np.arange(n_speakers), len(first))
    n_nontarget = 40 * n_speakers
    enrol = generator.integers(0, n_speakers, n_nontarget)
    test = (enrol + generator.integers(1, n_speakers, n_nontarget)) % n_speakers
    sides = generator.integers(0, N_UTTERANCES, (2, n_nontarget))
    shapes = (n_speakers,), (n_speakers, N_UTTERANCES), speaker.shape
    shapes = (shapes[0], *shapes, enrol.shape)
    shared = [generator.normal(size=shape) for shape in shapes]
    scores = []
    for _ in range(n_systems):
        ease, likeness, utterance, own, other = (
            np.sqrt(common) * part
            + np.sqrt(1 - common) * generator.normal(size=part.shape)
            for part in shared
        )
        target = DISTANCE + SPEAKER * ease[speaker] + OWN * own
        target += (
            UTTERANCE * (utterance[:, first] + utterance[:, second]).ravel()
        )
        nontarget = 0.4 * (likeness[enrol] + likeness[test]) + OWN * other
        nontarget += UTTERANCE * utterance[enrol, sides[0]]
        nontarget += UTTERANCE * utterance[test, sides[1]]
        # Ties, as of scores with few digits, keep this fast.
        scores.append(np.round(np.concatenate([target, nontarget]), 2))
    labels = np.repeat([1, 0], [len(speaker), n_nontarget])
    units = Units(
        "speakers",
        np.concatenate([speaker, enrol]),
        np.concatenate([speaker, test]),
    )
    return scores, labels, units


def true_figures():
    """EER and minimum cost of infinitely many trials."""
    target = np.sqrt(SPEAKER**2 + 2 * UTTERANCE**2 + OWN**2)
    nontarget = np.sqrt(2 * 0.4**2 + 2 * UTTERANCE**2 + OWN**2)
    at = np.linspace(-2, 8, 5001)
    p_miss, p_fa = norm.cdf((at - DISTANCE) / target), norm.sf(at / nontarget)
    eer = norm.cdf(-DISTANCE / (target + nontarget))
    return eer, (PRIOR * p_miss + (1 - PRIOR) * p_fa).min()


def covered(n_speakers, n_lists, by_speaker=True):
    """Share of lists whose intervals hold the true EER and cost."""
    generator = np.random.default_rng(1)
    hits = np.zeros(2)
    for number in range(n_lists):
        (scores,), labels, units = draw(generator, n_speakers)
        if not by_speaker:
            units = single_trials(len(labels))
        found = replicates(scores, labels, units, (PRIOR,), 150, number)
        estimates = (
            equal_error_rate(scores, labels)[0],
            min_dcf(scores, labels, PRIOR)[0],
        )
        for kind, truth in enumerate(true_figures()):
            values = (found.eer, found.costs[0])[kind]
            low, high = interval(values, estimates[kind], units.count)
            hits[kind] += low <= truth <= high
    return hits / n_lists


# 0.95 of 200 lists is 0.95 +- 0.03 (two deviations).
@pytest.mark.parametrize("n_speakers", [20, 60])
def test_intervals_cover_the_truth_at_their_nominal_rate(n_speakers):
    eer, cost = covered(n_speakers, 200)
    assert 0.91 <= eer <= 0.985
    # The least cost of a short list is chosen on it, and a little too low.
    assert (0.86 if n_speakers == 20 else 0.91) <= cost <= 0.985


def test_intervals_over_single_trials_are_too_narrow():
    assert covered(60, 50, by_speaker=False)[0] < 0.8


def test_equal_systems_are_told_apart_at_the_nominal_rate():
    generator = np.random.default_rng(2)
    p_values = []
    for number in range(200):
        scores, labels, units = draw(generator, 30, n_systems=2)
        drawn = [replicates(s, labels, units, (), 200, number) for s in scores]
        eers = [equal_error_rate(s, labels)[0] for s in scores]
        found = difference(drawn[0].eer, drawn[1].eer, eers, units.count)
        p_values.append(found.p_value)
    p_values = np.array(p_values)
    assert 0.015 <= np.mean(p_values < 0.05) <= 0.085
    assert 0.13 <= np.mean(p_values < 0.2) <= 0.26


def test_a_real_difference_is_found_by_pairs_where_intervals_overlap():
    (scores,), labels, units = draw(np.random.default_rng(3), 40)
    better = scores + 0.2 * labels
    eers = [equal_error_rate(s, labels)[0] for s in (scores, better)]
    drawn = [replicates(s, labels, units, (), 300) for s in (scores, better)]
    ends = [
        interval(d.eer, e, units.count)
        for d, e in zip(drawn, eers, strict=True)
    ]
    assert ends[1][0] < ends[0][0] < ends[1][1]
    found = difference(drawn[0].eer, drawn[1].eer, eers, units.count)
    assert found.value < 0
    assert found.p_value < 0.01 and found.high < 0


def test_a_system_does_not_differ_from_itself():
    (scores,), labels, units = draw(np.random.default_rng(3), 10)
    drawn = replicates(scores, labels, units, (), 50).eer
    eer = equal_error_rate(scores, labels)[0]
    assert difference(drawn, drawn, (eer, eer), 10) == Difference(0, 0, 0, 1)


def test_drawings_repeat_with_their_seed_and_not_with_another(monkeypatch):
    (scores,), labels, units = draw(np.random.default_rng(3), 10)
    first = replicates(scores, labels, units, n_replicates=40, seed=3)
    other = replicates(scores, labels, units, n_replicates=40, seed=4)
    monkeypatch.setattr(bootstrap, "_WEIGHTS_AT_ONCE", 3 * len(labels))
    again = replicates(scores, labels, units, n_replicates=40, seed=3)
    np.testing.assert_array_equal(first.eer, again.eer)
    np.testing.assert_array_equal(first.costs, again.costs)
    assert (first.eer != other.eer).any()


def test_the_order_of_trials_does_not_matter():
    (scores,), labels, units = draw(np.random.default_rng(3), 10)
    order = np.random.default_rng(4).permutation(len(labels))
    shuffled = Units("speakers", units.enrol[order], units.test[order])
    first = replicates(scores, labels, units, n_replicates=40)
    second = replicates(scores[order], labels[order], shuffled, n_replicates=40)
    np.testing.assert_array_equal(first.eer, second.eer)


def test_drawings_without_a_class_are_left_out():
    units = Units("speakers", np.array([0, 0]), np.array([0, 1]))
    found = replicates([0.9, 0.1], [1, 0], units, n_replicates=200)
    # Both speakers must be among the two drawn, as in half of the drawings.
    assert 60 < len(found.eer) < 140
    assert (found.eer == 0).all()


def test_a_list_that_no_drawing_can_hold_is_refused():
    units = Units("speakers", np.array([0, 1]), np.array([0, 2]))
    with pytest.raises(InputError, match="no drawing of 3 speakers"):
        replicates([0.9, 0.1], [1, 0], units, n_replicates=1, seed=1)


def test_no_drawings_are_refused():
    with pytest.raises(InputError, match="n_bootstrap is 0"):
        replicates([0.1, 0.2], [0, 1], single_trials(2), n_replicates=0)


def test_a_prior_out_of_range_is_refused():
    with pytest.raises(InputError, match="p_target is 1"):
        replicates([0.1, 0.2], [0, 1], single_trials(2), (0.05, 1))


def test_thinning_many_thresholds_changes_no_rate(monkeypatch):
    (scores,), labels, units = draw(np.random.default_rng(5), 60)
    thinned = replicates(scores, labels, units, (0.05,), 50)
    monkeypatch.setattr(bootstrap, "_MAX_THRESHOLDS", 10**9)
    whole = replicates(scores, labels, units, (0.05,), 50)
    np.testing.assert_allclose(thinned.eer, whole.eer, rtol=2e-3)
    np.testing.assert_allclose(thinned.costs, whole.costs, rtol=5e-3)


def test_intervals_narrow_with_the_root_of_the_speakers():
    widths = []
    for n_speakers in (25, 400):
        (scores,), labels, units = draw(np.random.default_rng(6), n_speakers)
        drawn = replicates(scores, labels, units, (), 200).eer
        eer = equal_error_rate(scores, labels)[0]
        low, high = interval(drawn, eer, n_speakers)
        assert low < eer < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_few_units_widen_an_interval():
    values = np.random.default_rng(0).normal(size=4000)
    widths = [np.ptp(interval(values, 0.0, n)) for n in (5, 25, 10**6)]
    assert widths[0] > 1.4 * widths[2]
    assert widths[1] == pytest.approx(widths[2] * 2.106 / 1.96, rel=0.05)


def test_an_estimate_outside_its_drawings_has_an_interval():
    low, high = interval(np.ones(100), 2.0, 30)
    assert (low, high) == (1, 1)


def test_trials_of_one_speaker_are_named():
    # Targets are of speaker 0 alone; the non-targets of speakers 0, 1 and 2.
    units = Units("speakers", np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2]))
    labels = [1, 1, 0, 0]
    assert lone_units(units, labels) == "all target trials are of one speaker"
    assert "tells nothing of others" in interval_in_words(units, 9, labels)
    more = Units("speakers", np.array([0, 1, 0, 1]), np.array([0, 1, 1, 2]))
    assert lone_units(more, labels) == ""
    assert "of others" not in interval_in_words(more, 9, labels)
