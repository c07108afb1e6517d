"""Result records and their files."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from result_records import result_of

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.bootstrap import Units
from speechbrain_ext.verification.cllr import cllr, min_cllr
from speechbrain_ext.verification.metrics import (
    actual_dcf,
    convex_hull_eer,
    equal_error_rate,
    min_dcf,
)
from speechbrain_ext.verification.records import Estimate
from speechbrain_ext.verification.results import (
    GateFacts,
    Yardstick,
    read_result,
    read_results,
    read_yardsticks,
)
from speechbrain_ext.verification.subgroups import Group

SCORES = np.random.default_rng(0).normal(size=200) + np.arange(200) % 2
LABELS = np.arange(200) % 2


def result(**facts):
    given = {"run": "minivox", "corpus": "MiniVox", "n_bootstrap": 50, **facts}
    return result_of(SCORES, LABELS, **given)


def test_eer_is_in_percent_and_min_dcf_normalised():
    measured = result(p_target=0.05)
    eer, _ = equal_error_rate(SCORES, LABELS)
    cost, _ = min_dcf(SCORES, LABELS, p_target=0.05)
    assert measured.eer.value == pytest.approx(100 * eer)
    assert measured.min_dcf.value == pytest.approx(cost / 0.05)
    assert measured.trials.n_target == measured.trials.n_nontarget == 100
    assert measured.eer.low < measured.eer.value < measured.eer.high
    assert measured.min_dcf.low < measured.min_dcf.high


def test_both_eer_definitions_and_both_priors_are_measured():
    measured = result()
    hull = 100 * convex_hull_eer(SCORES, LABELS)
    assert measured.eer_hull == pytest.approx(hull)
    assert measured.definitions["eer"].startswith("SpeechBrain")
    assert "convex hull" in measured.definitions["eer_hull"]
    cost, _ = min_dcf(SCORES, LABELS, p_target=0.05)
    assert measured.min_dcf_05.value == pytest.approx(cost / 0.05)
    assert measured.min_cllr == pytest.approx(min_cllr(SCORES, LABELS))
    assert measured.cllr is measured.actual_dcf is None


def test_log_likelihood_ratios_have_their_costs_measured():
    measured = result(calibrated=True)
    assert measured.cllr == pytest.approx(cllr(SCORES, LABELS))
    expected = actual_dcf(SCORES, LABELS, 0.01)
    assert measured.actual_dcf == pytest.approx(expected)
    assert measured.actual_dcf_05 >= measured.min_dcf_05.value


def test_intervals_say_what_they_draw():
    units = Units("speakers", np.arange(200) // 20, np.arange(200) // 20)
    drawn = result(units=units).bootstrap
    assert drawn.n_units == 10
    assert drawn.words.startswith("95 % bootstrap over 10 speakers")
    assert result().bootstrap.words.endswith("it is too narrow")


def test_groups_are_measured_too():
    group = Group("duration", "below 4 s", np.arange(200) < 120)
    (row,) = result(groups=[group]).groups
    assert (row.by, row.value) == ("duration", "below 4 s")
    assert row.n_target == 60
    eer, _ = equal_error_rate(SCORES[:120], LABELS[:120])
    assert row.eer.value == pytest.approx(100 * eer)


def test_a_short_list_has_an_interval_around_its_rate():
    """All drawings of two trials a class may miss the list's own EER."""
    found = result_of([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1], n_bootstrap=1)
    assert found.eer.low <= found.eer.value <= found.eer.high


RESULT = result(nmi=0.5)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("trials", {"n_target": -1}, "n_target is -1; it must be a whole"),
        ("trials", {"n_nontarget": 2.5}, "n_nontarget is 2.5"),
        ("system", {"n_train": -3}, "n_train is -3"),
        ("system", {"seconds": -1.0}, "seconds is -1.0"),
        ("labels", {"nmi": 1.2}, "nmi is 1.2"),
        ("labels", {"ari": -1.2}, "ari is -1.2"),
        ("labels", {"n_clusters": -1}, "n_clusters is -1"),
        ("bootstrap", {"n_units": -1}, "n_units is -1"),
        (None, {"eer": Estimate(101.0, 99.0, 102.0)}, "eer is 101.0"),
        (None, {"eer": Estimate(1.0, -1.0, 2.0)}, "eer is -1.0"),
        (None, {"min_dcf": Estimate(0.9, 0.8, 1.1)}, "min_dcf is 1.1"),
        (None, {"min_dcf_05": Estimate(1.5, 1.5, 1.5)}, "min_dcf_05 is 1.5"),
        (None, {"p_target": 1.5}, "p_target is 1.5"),
        (None, {"cllr": -0.1}, "cllr is -0.1"),
        (None, {"min_cllr": float("nan")}, "min_cllr is nan"),
        (None, {"actual_dcf": float("inf")}, "actual_dcf is inf"),
        (None, {"eer_hull": 120.0}, "eer_hull is 120.0"),
    ],
)
def test_impossible_values_are_refused(part, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(
            getattr(RESULT, part) if part else RESULT, **changes
        )


@pytest.mark.parametrize("name", ["kept", "corrected"])
def test_shares_of_a_gate_lie_between_0_and_1(name):
    with pytest.raises(InputError, match=f"{name} is 1.5"):
        GateFacts(**{name: 1.5})


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"eer": 120}, "eer is 120"), ({"min_dcf": -1}, "min_dcf is -1")],
)
def test_an_impossible_yardstick_is_refused(changes, message):
    row = {"system": "a", "corpus": "b", "trials": "c", "source": "d", "eer": 1}
    with pytest.raises(InputError, match=message):
        Yardstick(**{**row, **changes})


def test_the_results_of_the_project_are_all_read():
    found = read_results("results")
    assert len(found) >= 72
    runs = {path.name for path in Path("results/runs").iterdir()}
    assert {result.system.run for result in found} == runs


def test_a_result_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        result().p_target = 0.5


def test_a_record_is_read_back_equal(tmp_path):
    group = Group("duration", "below 4 s", np.arange(200) < 120)
    few = Group("duration", "4 s or more", np.arange(200) >= 190)
    measured = result(
        nmi=0.9,
        n_clusters=7,
        caveat="toy data",
        calibrated=True,
        groups=[group, few],
        gate=GateFacts(kept=0.8, corrected=0.1),
    )
    measured.write(tmp_path / "a.json")
    assert read_result(tmp_path / "a.json") == measured


def test_other_json_below_the_folder_is_passed_over(tmp_path):
    (tmp_path / "benchmark.json").write_text('{"ratio": 3}')
    (tmp_path / "list.json").write_text("[1]")
    result(system="b").write(tmp_path / "runs" / "2.json")
    result(system="a").write(tmp_path / "1.json")
    assert [r.system.name for r in read_results(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"ratio": 3}', "not a result file"),
        ('{"kind": "result", "system": "a"}', "another version"),
        ('{"kind": "result", "eer_percent": 3.0}', "another version"),
        ('{"kind": "result", "p_target": 0.01}', "another version"),
        (
            '{"kind": "result", "eer": {"value": 3.0, "low": 4, "high": 5}}',
            "a.json: value is 3.0; it must lie within its interval",
        ),
        ("{", "not JSON"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_result(path)


def test_the_yardsticks_of_the_project_are_whole():
    rows = read_yardsticks("results/yardsticks.json")
    assert all(row.source for row in rows)
    rates = {(r.corpus, r.trials, r.eer) for r in rows}
    assert {
        ("MiniVox", "dev", 50.0),
        ("MiniVox", "dev", 15.83),
        ("VoxCeleb1", "O", 0.99),
        ("VoxCeleb1", "H", 2.35),
    } <= rates


def test_a_file_that_is_no_yardsticks_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match="not a file of yardsticks"):
        read_yardsticks(tmp_path / "a.json")
