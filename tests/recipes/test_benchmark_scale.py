"""The benchmark runs each stage, fits its growth and marks what it guesses."""

import json

import pytest

from benchmarks import scale
from speechbrain_ext.dataio import manifest

SIZES = (400, 1600)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "scale.json"
    patch = pytest.MonkeyPatch()
    # In this process: the benchmark itself gives each part one of its own.
    patch.setattr(scale, "alone", lambda f, *arguments: f(*arguments))
    patch.setattr(scale, "N_TREE", 60)
    patch.setattr(scale, "N_LOOKUPS", 20)
    patch.setattr(scale, "FAR", (1600, 16_000))
    # The larger size has its columns in files.
    patch.setattr(manifest, "LARGE", 100_000)
    for size in SIZES:
        scale.main([f"--sizes={size}", "--dimension=8", f"--output={path}"])
    patch.undo()
    return json.loads(path.read_text())


def test_each_stage_is_measured_at_each_size(report):
    assert list(report["cells"]) == list(scale.STAGES)
    for cells in report["cells"].values():
        assert [int(size) for size in cells] == list(SIZES)
        assert all(cell["seconds"] >= 0 for cell in cells.values())
        assert all(cell["private_mb"] > 10 for cell in cells.values())
    access = report["cells"]["row_access"]["1600"]
    assert access["microseconds_by_row"] > 0
    assert report["cells"]["manifest_write"]["1600"]["disk_mb"] > 0


def test_far_sizes_are_marked_as_not_measured(report):
    for stage in report["stages"].values():
        assert stage["largest"] == 1600
        near, far = stage["table"].values()
        assert near["measured"] is True and far["measured"] is False
        assert far["seconds"] >= near["seconds"]


def test_growth_and_far_rows_follow_the_largest_two_sizes():
    cells = {
        n: {"seconds": n**2 / 1e4, "private_mb": 50 + n / 10, "disk_mb": n / 4}
        for n in (10, 100, 1000)
    }
    assert scale.growth(cells, "seconds") == 2
    far = scale.far_row(cells, 10_000)
    assert far["seconds"] == 10_000
    assert far["private_mb"] == 1050 and far["disk_mb"] == 2500
    assert scale.far_row(cells, 1000) == {**cells[1000], "measured": True}
    few = {n: {**cell, "seconds": 1.0} for n, cell in cells.items()}
    # What hardly grows is not taken for free.
    assert scale.far_row(few, 10_000)["seconds"] == 10
