"""A run's report: its page, and why its rounds ended."""

import dataclasses

from result_records import result_of
from run_steps import (
    BOOTSTRAP,
    ROUND1,
    ROUND2,
    TOPLINE,
    modelled,
    plan_of,
    scored_of,
    step,
)

from speechbrain_ext.clustering.stopping import Rounds
from speechbrain_ext.experiment.steps import Kind
from speechbrain_ext.report.run_report import (
    stopping_words,
    write_run_report,
)
from speechbrain_ext.utils.files import write_json


def with_eer(folder, system, eer):
    """A scored step whose EER is known: 1 of ``eer`` targets is missed."""
    made = step(folder, system, Kind.SCORE, trials={"dev": "dev.txt"})
    scores = [0.9] * (eer - 1) + [0.1] + [0.0] * (eer - 1) + [0.5]
    labels = [1] * eer + [0] * eer
    facts = {"corpus": "toy", "trials": "dev", "run": "a"}
    row = result_of(scores, labels, system=system.row, n_bootstrap=5, **facts)
    row.write(made.artifacts.result("dev", "raw"))
    return made


def test_a_run_without_scores_leaves_a_report(tmp_path):
    steps = []
    for system in (BOOTSTRAP, ROUND1):
        made = step(tmp_path, system, Kind.LABELS)
        write_json(made.artifacts.clusters, {"sizes": [3, 2]})
        steps += [modelled(tmp_path, system), made]
    plan = plan_of(tmp_path, steps, n_rounds=1)
    facts = {"data_in_output": True, "outputs": {}}
    write_json(plan.corpus.record, facts)
    text = write_run_report(plan).read_text()
    assert "<h3>Cluster sizes</h3>" in text
    assert "To know how good the model is, label some trials" in text
    assert " % EER" not in text and "All systems" not in text
    assert not (tmp_path / "results").exists()


def test_the_choice_is_compared_with_the_best_round_afterwards(tmp_path):
    eers = {BOOTSTRAP: 2, ROUND1: 8, ROUND2: 4, TOPLINE: 9}
    steps = [with_eer(tmp_path, system, eer) for system, eer in eers.items()]
    scored = scored_of(steps)
    plan = plan_of(tmp_path, steps, n_rounds="auto")
    plan = dataclasses.replace(
        plan,
        settings=dataclasses.replace(plan.settings, n_rounds="auto"),
        rounds=Rounds(2, True, 2, "churn hardly falls"),
    )
    words = stopping_words(plan, scored)
    assert "ended by themselves: churn hardly falls" in words
    assert "chosen round 2 has an EER of 25.00 %" in words
    assert "the best, round 1, of 12.50 %" in words
    assert stopping_words(plan_of(tmp_path, steps), scored) == ""
