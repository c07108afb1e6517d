"""Result records, their files, and the tables rendered from them."""

import dataclasses
import json

import numpy as np
import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.bootstrap import Units
from speechbrain_ext.verification.cllr import cllr, min_cllr
from speechbrain_ext.verification.metrics import (
    actual_dcf,
    convex_hull_eer,
    equal_error_rate,
    min_dcf,
)
from speechbrain_ext.verification.results import (
    Result,
    Yardstick,
    breakdown_tables,
    read_result,
    read_results,
    read_yardsticks,
    render_table,
    tables,
    write_table,
)
from speechbrain_ext.verification.subgroups import Group

SCORES = np.random.default_rng(0).normal(size=200) + np.arange(200) % 2
LABELS = np.arange(200) % 2


def result(**facts):
    facts = {
        "run": "minivox",
        "system": "DINO",
        "corpus": "MiniVox",
        "trials": "dev",
        "trials_sha256": "0",
        "n_bootstrap": 50,
        **facts,
    }
    return Result.of_scores(SCORES, LABELS, **facts)


def test_eer_is_in_percent_and_min_dcf_normalised():
    measured = result(p_target=0.05)
    eer, _ = equal_error_rate(SCORES, LABELS)
    cost, _ = min_dcf(SCORES, LABELS, p_target=0.05)
    assert measured.eer_percent == pytest.approx(100 * eer)
    assert measured.min_dcf == pytest.approx(cost / 0.05)
    assert measured.n_target == measured.n_nontarget == 100
    assert measured.eer_low < measured.eer_percent < measured.eer_high
    assert measured.min_dcf_low <= measured.min_dcf <= measured.min_dcf_high


def test_both_definitions_and_both_priors_are_there_and_named():
    measured = result()
    hull = 100 * convex_hull_eer(SCORES, LABELS)
    assert measured.eer_hull_percent == pytest.approx(hull)
    assert measured.eer_definition.startswith("SpeechBrain")
    assert "convex hull" in measured.eer_hull_definition
    cost, _ = min_dcf(SCORES, LABELS, p_target=0.05)
    assert measured.min_dcf_05 == pytest.approx(cost / 0.05)
    assert measured.min_dcf_05_low <= measured.min_dcf_05
    assert measured.min_cllr == pytest.approx(min_cllr(SCORES, LABELS))
    assert measured.cllr is measured.actual_dcf is None


def test_scores_that_are_ratios_are_measured_as_such():
    measured = result(calibrated=True)
    assert measured.cllr == pytest.approx(cllr(SCORES, LABELS))
    expected = actual_dcf(SCORES, LABELS, 0.01)
    assert measured.actual_dcf == pytest.approx(expected)
    assert measured.actual_dcf_05 >= measured.min_dcf_05


def test_intervals_draw_what_they_say():
    units = Units("speakers", np.arange(200) // 20, np.arange(200) // 20)
    measured = result(units=units)
    assert measured.n_units == 10
    assert measured.interval.startswith("95 % bootstrap over 10 speakers")
    assert result().interval.endswith("it is too narrow")


def test_groups_are_measured_too():
    group = Group("duration", "below 4 s", np.arange(200) < 120)
    (row,) = result(groups=[group]).breakdowns
    assert (row["by"], row["value"]) == ("duration", "below 4 s")
    assert row["n_target"] == 60
    eer, _ = equal_error_rate(SCORES[:120], LABELS[:120])
    assert row["eer_percent"] == pytest.approx(100 * eer)


OLDER = """{"kind": "result", "system": "round 1", "corpus": "MiniVox",
 "trials": "dev", "run": "minivox", "trials_sha256": "c0", "n_target": 3000,
 "n_nontarget": 30000, "eer_percent": 17.8, "eer_low": 17.0, "eer_high": 18.6,
 "p_target": 0.01, "min_dcf": 0.954, "min_dcf_low": 0.92, "min_dcf_high": 0.97,
 "interval": "95 % percentile bootstrap over trials", "score_norm": "none",
 "n_train": 2740, "device": "2 CPU cores", "seconds": 255.9, "caveat": "small",
 "seed": 1986, "nmi": 0.77, "ari": 0.3, "n_clusters": 300, "versions": {}}"""


def test_files_of_before_are_read_and_shown_as_they_were(tmp_path):
    (tmp_path / "a.json").write_text(OLDER)
    (row,) = next(iter(tables(read_results(tmp_path)).values()))
    assert row["EER %"] == "17.80 [17.00, 18.60]"
    assert not {"scores", "protocol", "Cllr", "min Cllr"} & row.keys()


def test_the_files_of_the_project_are_all_read():
    assert len(read_results("results")) >= 4


def test_rows_of_a_system_stand_together_the_raw_ones_first():
    rows = [
        result(backend="as-norm+qmf", score_norm="as-norm", calibration="qmf"),
        result(backend="raw"),
        result(system="round 1", backend="raw"),
        result(backend="as-norm", score_norm="as-norm, top 2 of 9 means"),
    ]
    (found,) = tables(rows).values()
    assert [(row["system"], row["scores"]) for row in found] == [
        ("DINO", "raw"),
        ("DINO", "as-norm"),
        ("DINO", "as-norm+qmf"),
        ("round 1", "raw"),
    ]


def test_calibrated_scores_have_a_table_of_what_they_cost():
    rows = [result(backend="raw"), result(backend="raw+qmf", calibrated=True)]
    first, second = tables(rows).items()
    assert second[0] == f"{first[0]}: what calibration costs"
    (row,) = second[1]
    assert row["scores"] == "raw+qmf"
    assert float(row["actual DCF"]) >= float(row["minDCF"])
    assert float(row["Cllr"]) >= float(row["min Cllr"])


def test_breakdowns_have_a_column_a_group():
    groups = [
        Group("duration", "below 4 s", np.arange(200) < 120),
        Group("duration", "4 s or more", np.arange(200) >= 190),
    ]
    rows = [result(groups=groups), result(system="round 1", groups=groups)]
    found = breakdown_tables([*rows, result(system="none")])
    (heading,) = found
    begin = "minivox: MiniVox, dev, EER % by duration"
    assert heading == f"{begin} (targets / non-targets)"
    first, second = found[heading]
    assert second["system"] == "round 1"
    assert first["below 4 s (60 / 60)"].count(",") == 1
    assert first["4 s or more (5 / 5)"] == "–"


def test_a_result_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        result().eer_percent = 0.0


def test_a_file_gives_the_record_back(tmp_path):
    measured = result(nmi=0.9, n_clusters=7, caveat="toy data")
    measured.write(tmp_path / "a.json")
    assert read_result(tmp_path / "a.json") == measured


def test_other_json_in_the_folder_is_passed_over(tmp_path):
    (tmp_path / "benchmark.json").write_text('{"ratio": 3}')
    (tmp_path / "list.json").write_text("[1]")
    result(system="b").write(tmp_path / "2.json")
    result(system="a").write(tmp_path / "1.json")
    assert [r.system for r in read_results(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"ratio": 3}', "not a result file"),
        ('{"kind": "result", "system": "a"}', "another version"),
        ("{", "not JSON"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_result(path)


def test_runs_and_lists_have_tables_of_their_own():
    rows = tables(
        [
            result(),
            result(trials="E"),
            result(system="round 1"),
            result(run="b"),
        ]
    )
    assert list(rows) == [
        "minivox: MiniVox, dev (100 targets, 100 non-targets)",
        "minivox: MiniVox, E (100 targets, 100 non-targets)",
        "b: MiniVox, dev (100 targets, 100 non-targets)",
    ]
    first = next(iter(rows.values()))
    assert [row["system"] for row in first] == ["DINO", "round 1"]


def test_a_run_without_a_name_leaves_no_colon_behind():
    assert "## MiniVox, dev (" in render_table([result(run="")])


def test_cited_rows_are_marked_and_only_of_their_list():
    cited = [
        Yardstick("chance", "MiniVox", "dev", 50.0, "by definition"),
        Yardstick("paper", "VoxCeleb1", "O", 0.99, "arXiv", min_dcf=0.0905),
    ]
    (rows,) = tables([result(n_train=2740)], cited).values()
    assert [row["system"] for row in rows] == ["chance (cited)", "DINO"]
    assert rows[0]["EER %"] == "50.00"
    assert rows[0]["caveat"] == "by definition"
    assert rows[1]["training utterances"] == "2,740"


def test_empty_columns_are_left_out_and_holes_filled():
    rows = tables([result(nmi=0.5), result(system="true labels")])
    first, second = next(iter(rows.values()))
    assert "ARI" not in first
    assert (first["NMI"], second["NMI"]) == ("0.500", "–")


def test_what_all_rows_share_is_said_once_above_them():
    facts = {"device": "CPU", "n_train": 24, "protocol": "full, whitened 0"}
    rows = [result(**facts), result(system="round 1", **facts)]
    ((heading, found),) = tables(rows).items()
    assert heading.endswith(
        "non-targets); protocol: full, whitened 0; training utterances: 24; "
        "device: CPU"
    )
    assert not {"device", "protocol", "training utterances"} & set(found[0])
    rows[1] = result(system="round 1", **{**facts, "device": "GPU"})
    ((heading, found),) = tables(rows).items()
    assert [row["device"] for row in found] == ["CPU", "GPU"]
    assert "device" not in heading


def test_another_prior_is_said():
    (rows,) = tables([result(p_target=0.05)]).values()
    assert rows[0]["minDCF"].endswith("(p=0.05)")


def test_a_bar_or_a_line_end_does_not_break_markdown():
    text = render_table([result(system="a|b\nc")])
    assert "| a\\|b c |" in text
    assert len({line.count(" | ") for line in text.splitlines()[2:3]}) == 1


def test_the_table_file_holds_every_row(tmp_path):
    result(caveat="toy data").write(tmp_path / "1.json")
    rows = [dataclasses.asdict(Yardstick("chance", "MiniVox", "dev", 50, "x"))]
    cited = {"kind": "yardsticks", "rows": rows}
    (tmp_path / "yardsticks.json").write_text(json.dumps(cited))
    write_table(tmp_path)
    text = (tmp_path / "TABLE.md").read_text()
    assert "toy data" in text
    assert "chance (cited)" in text
    assert "50 drawings" in text
    before = text
    write_table(tmp_path)
    assert (tmp_path / "TABLE.md").read_text() == before


def test_a_table_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="no result file"):
        write_table(tmp_path)


def test_the_yardsticks_of_the_project_are_whole():
    rows = read_yardsticks("results/yardsticks.json")
    assert all(row.source for row in rows)
    figures = {(r.corpus, r.trials, r.eer_percent) for r in rows}
    assert {
        ("MiniVox", "dev", 50.0),
        ("MiniVox", "dev", 15.83),
        ("VoxCeleb1", "O", 0.99),
        ("VoxCeleb1", "H", 2.35),
    } <= figures


def test_a_file_that_is_no_yardsticks_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match="not a file of yardsticks"):
        read_yardsticks(tmp_path / "a.json")
