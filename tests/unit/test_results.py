"""Result records, their files, and the tables rendered from them."""

import dataclasses
import json

import numpy as np
import pytest

from speechbrain_ext.files import InputError
from speechbrain_ext.metrics import equal_error_rate, min_dcf
from speechbrain_ext.results import (
    Result,
    Yardstick,
    read_result,
    read_results,
    read_yardsticks,
    render_table,
    tables,
    write_table,
)

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
    assert "50 replicates" in text
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
