"""The answer: the right systems, numbers, findings and advice."""

import dataclasses

from result_records import result_of
from run_steps import (
    BOOTSTRAP,
    PUBLISHED,
    ROUND1,
    ROUND2,
    TOPLINE,
    plan_of,
    scored_of,
    step,
    with_scores,
)

from speechbrain_ext.clustering.stopping import Rounds
from speechbrain_ext.experiment.steps import Kind
from speechbrain_ext.report.summary import (
    answer,
    is_worse_than_nothing,
    standing,
)
from speechbrain_ext.utils.files import write_json


def run_of(folder, gains):
    """A plan and its scored systems, by what each gains."""
    steps = [with_scores(folder, system, gain) for system, gain in gains]
    plan = plan_of(folder, steps, n_rounds=2)
    return plan, scored_of(steps)


GAINS = [
    (BOOTSTRAP, 0.5),
    (ROUND1, 1),
    (ROUND2, 2),
    (TOPLINE, 3),
    (PUBLISHED, 9),
]


def test_the_last_round_stands_against_bootstrap_and_supervised(tmp_path):
    plan, scored = run_of(tmp_path, GAINS)
    found = standing(plan, scored)
    assert (found.trials, found.backend) == ("dev", "raw")
    systems = [found.final, found.first, found.supervised]
    assert [one.system for one in systems] == [ROUND2, BOOTSTRAP, TOPLINE]
    top = answer(plan, scored)
    eers = [found.result(one).eer.value for one in systems]
    assert [n.value for n in top.numbers] == [f"{e:.2f} % EER" for e in eers]
    assert all("95 % interval" in number.interval for number in top.numbers)
    ratio = f"ratio to it, without labels: {eers[0] / eers[2]:.2f}"
    assert top.numbers[2].note == ratio
    assert "better." in top.findings[0] and "p = 0.00" in top.findings[0]
    assert "True labels would still help" in " ".join(top.next_steps)


def test_a_loop_that_gained_nothing_is_said_to(tmp_path):
    plan, scored = run_of(tmp_path, [(BOOTSTRAP, 2), (ROUND2, 2)])
    top = answer(plan, scored)
    assert "no difference is shown" in top.findings[0]
    advice = " ".join(top.next_steps)
    assert "lower the error rate is not shown" in advice
    assert "true labels" not in advice and len(top.numbers) == 2


def test_a_round_that_was_not_chosen_is_not_the_runs_model(tmp_path):
    plan, scored = run_of(tmp_path, GAINS)
    plan = dataclasses.replace(plan, rounds=Rounds(2, True, 1, "churn rose"))
    assert standing(plan, scored).final.system == ROUND1


def test_without_scores_the_advice_is_to_label_trials(tmp_path):
    plan = plan_of(tmp_path, [step(tmp_path, ROUND1, Kind.TRAIN)])
    top = answer(plan, [], ["DINO: Not healthy"])
    assert top.numbers == () and "label some trials" in top.next_steps[1]
    assert top.next_steps[0] == "DINO: Not healthy"


def test_synthetic_voices_are_named_first(tmp_path):
    plan, scored = run_of(tmp_path, GAINS)
    facts = {"synthetic": True, "n_train": 1234, "hours_train": 2.0}
    write_json(plan.corpus.record, facts)
    top = answer(plan, scored)
    assert "synthetic" in top.next_steps[0]
    assert "1,234 utterances (2 h 0 min) of a folder" in top.made


def test_a_calibration_worse_than_no_decision_is_said_to_be(tmp_path):
    """Its actual cost stood in a table, without a word."""
    kinds = {"system": "a", "trials": "dev", "n_bootstrap": 5}
    scores, labels = [5.0, 4.0, 6.0, 5.5], [0, 0, 1, 1]
    bad = result_of(scores, labels, calibrated=True, **kinds)
    assert bad.actual_dcf >= 1 and is_worse_than_nothing(bad)
    good = result_of([-9.0, -8.0, 9.0, 8.0], labels, calibrated=True, **kinds)
    assert not is_worse_than_nothing(good)
    assert not is_worse_than_nothing(result_of(scores, labels, **kinds))
    plan, scored = run_of(tmp_path, GAINS)
    worse = [
        dataclasses.replace(r, actual_dcf=1.2) if r.actual_dcf else r
        for r in scored[2].results
    ]
    scored[2] = dataclasses.replace(scored[2], results=worse)
    top = answer(plan, scored)
    assert "worse than no decision" in " ".join(top.findings)
    assert "Do not trust the probabilities" in " ".join(top.next_steps)
