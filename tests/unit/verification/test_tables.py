"""Tables rendered from results."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from result_records import result_of

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.bootstrap import Units
from speechbrain_ext.verification.results import (
    BootstrapFacts,
    GateFacts,
    Yardstick,
)
from speechbrain_ext.verification.subgroups import Group
from speechbrain_ext.verification.tables import (
    breakdown_tables,
    render_table,
    tables,
    write_table,
)

SCORES = np.random.default_rng(0).normal(size=200) + np.arange(200) % 2
LABELS = np.arange(200) % 2


def result(**facts):
    given = {"run": "minivox", "corpus": "MiniVox", "n_bootstrap": 50, **facts}
    return result_of(SCORES, LABELS, **given)


def test_rows_are_sorted_by_system_with_raw_scores_first():
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


def test_a_heading_without_a_run_has_no_colon():
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


def test_empty_columns_are_left_out_and_empty_cells_filled():
    rows = tables([result(nmi=0.5), result(system="true labels")])
    first, second = next(iter(rows.values()))
    assert "ARI" not in first
    assert (first["NMI"], second["NMI"]) == ("0.500", "–")


def test_a_column_of_equal_values_moves_into_the_heading():
    facts = {"device": "CPU", "n_train": 24, "protocol": "full, whitened 0"}
    rows = [result(**facts), result(system="round 1", **facts)]
    ((heading, found),) = tables(rows).items()
    assert heading.endswith(
        "non-targets); training utterances: 24; device: CPU"
    )
    assert not {"device", "training utterances"} & set(found[0])
    assert [row["protocol"] for row in found] == ["full, whitened 0"] * 2
    rows[1] = result(system="round 1", **{**facts, "device": "GPU"})
    ((heading, found),) = tables(rows).items()
    assert [row["device"] for row in found] == ["CPU", "GPU"]
    assert "device" not in heading


def test_a_prior_other_than_the_usual_is_shown():
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


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(InputError, match="no result file"):
        write_table(tmp_path)


def test_what_a_gate_did_is_shown():
    gate = GateFacts(kept=0.8125, corrected=0.1)
    (rows,) = tables([result(gate=gate), result(system="round 1")]).values()
    assert [row["labels kept"] for row in rows] == ["81.25%", "–"]
    assert rows[0]["labels corrected"] == "10.00%"


def test_a_training_without_a_gate_is_not_unknown():
    facts = [GateFacts(kind="none"), None, GateFacts(1.0, 0.0, "hard")]
    ((rows),) = tables([result(gate=gate) for gate in facts]).values()
    assert [r["labels kept"] for r in rows] == ["no gate", "–", "100.00%"]


def test_a_row_whose_option_never_acted_is_marked():
    idle = ("gate never acted: kept 100 %",)
    rows = [result(never_acted=idle, caveat="toy"), result(system="b")]
    (first, second), *_ = tables(rows).values()
    assert first["caveat"] == "gate never acted: kept 100 %; toy"
    assert second["caveat"] == "–"


def test_every_row_says_what_its_interval_draws():
    pairs = np.arange(200) // 20
    rows = [
        result(units=Units(n, pairs, pairs)) for n in ("speakers", "trials")
    ]
    old = dataclasses.replace(rows[0], bootstrap=BootstrapFacts("unknown"))
    (found,) = tables([*rows, old]).values()
    shown = [row["interval"] for row in found]
    assert shown == ["10 speakers", "10 trials (too narrow)", "–"]


def test_how_centroids_weighed_is_shown():
    rows = [result(weighted=w, nmi=0.5) for w in (True, False, None)]
    (found,) = tables(rows).values()
    assert [row["weighted"] for row in found] == ["yes", "no", "–"]


def test_the_table_of_the_project_is_up_to_date(tmp_path):
    folder = Path("results")
    shutil.copytree(folder / "runs", tmp_path / "runs")
    text = (folder / "yardsticks.json").read_text("utf-8")
    (tmp_path / "yardsticks.json").write_text(text, "utf-8")
    write_table(tmp_path)
    rendered = (tmp_path / "TABLE.md").read_text("utf-8")
    assert rendered == (folder / "TABLE.md").read_text("utf-8")
