"""The benchmark of GPUs runs whole on a CPU, and its checks can fail."""

import json
import sys
import time

import pytest
import torch
import warm
from house import ROOT

from benchmarks import gpu
from benchmarks.gpu_sections import SECTIONS, common, parity, semantics, summary
from benchmarks.gpu_sections.parity_cases import Case, cases
from speechbrain_ext.utils.errors import InputError

TINY = common.Options("cpu", "tiny")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Report that the whole script writes, with the smallest sizes."""
    path = tmp_path_factory.mktemp("gpu") / "gpu.json"
    words = ["--device=cpu", "--size=tiny", "--budget=1200", f"--out={path}"]
    done = warm.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *words]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text())


def rows_of(report, letter):
    return {row["item"]: row for row in report["sections"][letter]["rows"]}


def test_every_section_runs_and_no_item_fails(report):
    assert "".join(report["sections"]) == "".join(SECTIONS)
    for letter in SECTIONS:
        for name, row in rows_of(report, letter).items():
            assert "failed" not in row, (letter, name, row)
    assert len(rows_of(report, "C")) == 10


def test_parity_holds_and_each_fault_is_seen(report):
    rows = rows_of(report, "A")
    assert len(rows) == len(list(cases())) >= 28
    for name, row in rows.items():
        assert row["holds"] and row["fault_is_seen"], (name, row)
    assert report["summary"]["parity_holds"]
    assert {"encoder_mhfa", "whisper_mhfa", "k-means", "gate"} <= set(rows)


def test_resuming_and_a_group_of_one_are_checked_beside_another_seed(report):
    rows = rows_of(report, "B")
    assert rows["kill and resume"]["difference"] == 0
    assert rows["kill and resume"]["difference_of_another_seed"] > 0
    assert rows["a group of one process"]["ok"]


def test_no_figure_of_a_gpu_is_claimed_on_a_cpu(report):
    aims = dict(summary.measured_aims([], TINY))
    assert len(aims) > 10
    for name in aims:
        assert report["summary"][name] == "not measured"


def test_what_was_not_asked_for_says_so(report):
    assert (
        "--authors" in rows_of(report, "C")["the authors' step"]["not_measured"]
    )


def test_an_item_that_is_wrong_on_the_device_does_not_hold(monkeypatch):
    def build():
        return Case(
            None, (torch.ones(4),), lambda _, x: x.detach() + next(drift)
        )

    drift = iter([0.0, 0.1, 0.2, 0.3])
    row = parity.check(build, TINY)
    assert not row["holds"] and not row["ok"]


def test_a_blind_check_does_not_hold():
    row = parity.check(
        lambda: Case(None, (torch.ones(4),), lambda _, x: 0 * x.detach() + 1),
        TINY,
    )
    assert row["holds"] and not row["fault_is_seen"] and not row["ok"]


def ending(options):
    yield "good", lambda: {"value": 1, "ok": True}
    yield "bad", lambda: 1 / 0
    yield "late", lambda: time.sleep(60)


def dying(options):
    yield "good", lambda: {"value": 1}
    yield "end", lambda: __import__("os")._exit(3)


def test_a_failure_and_a_deadline_are_rows(monkeypatch):
    fake = type("fake", (), {"items": staticmethod(ending)})
    monkeypatch.setitem(SECTIONS, "A", ("fake", fake, 1))
    rows = gpu.run_section("A", TINY, deadline=3.0)
    assert [row["item"] for row in rows] == ["good", "bad", "deadline"]
    assert "ZeroDivisionError" in rows[1]["failed"]
    found = summary.summary({"sections": {"A": {"rows": rows}}}, TINY)
    assert found["failed"] == ["A: bad"]
    assert not found["ok"] and not found["parity_holds"]


def test_a_section_that_dies_is_a_row(monkeypatch):
    fake = type("fake", (), {"items": staticmethod(dying)})
    monkeypatch.setitem(SECTIONS, "A", ("fake", fake, 1))
    rows = gpu.run_section("A", TINY, deadline=60.0)
    assert [row["item"] for row in rows] == ["good", "end"]
    assert not rows[1]["ok"]


def test_the_plan_is_extrapolated_from_what_a_gpu_gave():
    full = common.Options("cuda", "full")
    rows = [
        {"section": "C", "item": "WavLM Base+, bf16, after"}
        | {"samples_per_second": 4000.0},
        {"section": "D", "item": "ours, batch 128, bf16"}
        | {"samples_per_second": 3000.0},
        {"section": "F", "item": "WavLM Base+ with MHFA"}
        | {"fp32_hours_per_hour": 5000.0},
        {"section": "G", "item": "k-means", "seconds_of_25_extrapolated": 60.0},
        {"section": "G", "item": "Ward tree", "seconds": 20.0},
    ]
    name = "the paper's plan, GPU hours by extrapolation"
    hours = dict(summary.measured_aims(rows, full))[name]
    expected = 1_092_009 * (102 / 4000 + 80 / 3000) / 3600
    expected += 7 * 2442 / 5000 + 3 * 80 / 3600
    assert hours == pytest.approx(expected, rel=1e-3)
    assert dict(summary.measured_aims(rows[1:], full))[name] == "not measured"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only=AZ"], "only is 'AZ'; it must be letters of ABCDEFGH"),
        (["--sslsv=none"], "sslsv is none; there is no such folder"),
    ],
)
def test_a_wrong_command_is_one_line(words, message):
    with pytest.raises(InputError, match=message):
        gpu.parse(words)


def test_reads_of_values_are_counted_by_place():
    with semantics.Reads() as reads:
        torch.ones(3).sum().item()
    # This place is in tests, a part of the repository.
    assert sum(reads.places.values()) == 1
