"""What a run leaves in the results folder."""

import json

import numpy as np
import pytest
from run_steps import (
    BACKENDS,
    BOOTSTRAP,
    PUBLISHED,
    ROUND1,
    ROUND2,
    TOPLINE,
    TUNED,
    modelled,
    scored_of,
    step,
    with_scores,
)

from speechbrain_ext.experiment.run_results import (
    RunFolder,
    comparisons_of,
    pairs,
    training_seconds,
)
from speechbrain_ext.experiment.steps import Kind
from speechbrain_ext.verification.bootstrap import single_trials
from speechbrain_ext.verification.comparison import Comparison
from speechbrain_ext.verification.metrics import equal_error_rate
from speechbrain_ext.verification.results import read_result


@pytest.fixture
def scored(tmp_path):
    systems = ((BOOTSTRAP, 1), (ROUND1, 2), (ROUND2, 2))
    return scored_of([with_scores(tmp_path, s, gain) for s, gain in systems])


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "results", "a")


def files(folder, name):
    return sorted(path.name for path in (folder.folder / name).iterdir())


def test_result_files_are_copied_in_the_order_of_the_run(folder, scored):
    folder.write_scores(scored[:2])
    assert files(folder, "scores") == [
        "00-bootstrap_dev_as-norm+qmf.json",
        "00-bootstrap_dev_raw.json",
        "01-round1_dev_as-norm+qmf.json",
        "01-round1_dev_raw.json",
    ]
    copy = folder.folder / "scores" / "01-round1_dev_raw.json"
    path = scored[1].artifacts.result("dev", "raw")
    assert copy.read_bytes() == path.read_bytes()
    assert folder.folder == folder.folder.parents[1] / "runs" / "a"


def test_files_of_an_earlier_run_go_and_those_of_others_stay(
    tmp_path, folder, scored
):
    other = RunFolder(tmp_path / "results", "b")
    for one in (folder, other):
        one.write_scores(scored)
    folder.write_scores(scored[:1])
    assert len(files(folder, "scores")) == 2
    assert len(files(other, "scores")) == 6


def test_curves_are_copied_over_those_of_an_earlier_run(tmp_path, folder):
    steps = [modelled(tmp_path, system) for system in (BOOTSTRAP, ROUND1)]
    folder.write_curves(steps)
    # A step that trained nothing has no curve.
    folder.write_curves([steps[0], step(tmp_path, ROUND2, Kind.TRAIN)])
    assert files(folder, "curves") == ["bootstrap.csv"]
    copy = folder.folder / "curves" / "bootstrap.csv"
    assert copy.read_text() == "epoch,loss\n1,2\n"


def test_the_criteria_of_layers_are_copied_beside_the_curves(tmp_path, folder):
    made = step(tmp_path, BOOTSTRAP, Kind.TRAIN)
    made.folder.mkdir(parents=True)
    made.artifacts.layer_choice.write_text("layer,eer\n0,1\n")
    folder.write_curves([made])
    assert files(folder, "curves") == ["bootstrap_layers.csv"]


def test_each_system_is_compared_with_the_one_before(folder, scored):
    stale = folder.emptied("comparisons") / "gone.json"
    stale.write_text("{}")
    compared = comparisons_of(scored)
    assert "9 speakers" in compared[0].found.interval
    assert [(one.first.row, one.second.row) for one in compared[::2]] == [
        ("DINO", "round 1"),
        ("round 1", "round 2"),
    ]
    folder.write_comparisons(compared)
    names = files(folder, "comparisons")
    assert len(names) == 4
    assert "bootstrap-round1_dev_raw.json" in names
    path = folder.folder / "comparisons" / names[-1]
    assert json.loads(path.read_text())["kind"] == "comparison"


def test_the_last_system_is_compared_with_the_last_topline(tmp_path):
    scored = scored_of(
        [
            with_scores(tmp_path, system, gain)
            for system, gain in ((BOOTSTRAP, 1), (TOPLINE, 3), (TUNED, 4))
        ]
    )
    compared = [one for one in comparisons_of(scored) if one.is_with_topline]
    raw = compared[0]
    assert (raw.first, raw.second) == (TUNED, BOOTSTRAP)
    labels = np.arange(400) % 2
    low, high = (
        equal_error_rate(np.load(one.artifacts.scores("dev", "raw")), labels)
        for one in (scored[2], scored[0])
    )
    first, second = low[0] * 100, high[0] * 100
    assert raw.found.ratio_in_words() == (
        "dev: EER of DINO, raw over that of topline_tuned, raw: "
        f"{second:.2f} / {first:.2f} = {second / first:.3f}"
    )
    assert len(compared) == len(BACKENDS)


def test_a_system_that_is_second_twice_has_a_file_for_each(tmp_path):
    scored = scored_of(
        [
            with_scores(tmp_path, system, gain)
            for system, gain in ((BOOTSTRAP, 1), (ROUND1, 2), (TOPLINE, 3))
        ]
    )
    names = {one.name for one in comparisons_of(scored)}
    assert {name for name in names if name.endswith("_raw")} == {
        "bootstrap-round1_dev_raw",
        "topline-round1_dev_raw",
    }


def test_roles_and_not_labels_decide_what_is_compared(tmp_path, scored):
    """A row may be called anything, ``topline`` and ``published`` too."""
    renamed = [
        with_scores(tmp_path / "b", type(s)(s.role, "topline", s.number), 1)
        for s in (BOOTSTRAP, ROUND1, PUBLISHED)
        if (tmp_path / "b").mkdir(exist_ok=True) is None
    ]
    found = pairs(scored_of(renamed))
    assert [(a.system.role, b.system.role) for a, b in found] == [
        (BOOTSTRAP.role, ROUND1.role)
    ]


def test_one_system_is_compared_with_nothing(scored):
    assert comparisons_of(scored[:1]) == []


def test_results_are_read_in_the_order_of_their_tables(scored):
    assert [r.system.backend for r in scored[0].results] == [
        "raw",
        "as-norm+qmf",
    ]
    path = scored[0].artifacts.result("dev", "raw")
    assert scored[0].result("dev", "raw") == read_result(path)
    assert not scored[0].has("dev", "as-norm")


def test_a_topline_without_errors_has_no_ratio():
    labels = [0, 1] * 20
    found = Comparison.of_scores(
        labels,
        [0.5, 0.4] * 20,
        labels,
        single_trials(40),
        n_bootstrap=5,
        first="a",
        second="b",
        trials="dev",
        trials_sha256="0",
    )
    assert found.ratio_in_words().endswith("100.00 / 0.00 = –")


def test_a_resumed_training_has_no_time(tmp_path):
    path = tmp_path / "stage.json"
    path.write_text('{"resumed": false, "seconds": 12.5}')
    assert training_seconds(str(path)) == 12.5
    path.write_text('{"resumed": true, "seconds": 12.5}')
    assert training_seconds(str(path)) is None
    assert training_seconds(None) is None
