"""Paired tests draw the same speakers for all cells and average over seeds."""

import numpy as np
import pytest

from benchmarks import paired
from benchmarks.paired import DrawnEer


def cell(eer, drawn):
    return {"dev": DrawnEer(eer, np.array(drawn), 100, "of speakers")}


def test_seeds_are_averaged_drawing_by_drawing():
    # Each seed's drawings differ widely, their means over the seeds do not.
    noise = np.linspace(-2, 2, 101)
    first = [cell(10.0, 10 + noise), cell(12.0, 12 - noise)]
    second = [cell(9.0, 9 + noise), cell(12.0, 12 - noise)]
    found = paired.compare(first, second)["dev"]
    assert found["value"] == found["low"] == found["high"] == -0.5
    assert [seed["value"] for seed in found["by_seed"]] == [-1.0, 0.0]
    assert "2 seed(s)" in found["interval"]


def test_systems_that_differ_only_by_seeds_show_no_difference():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(2, 500))
    first, second = ([cell(20.0, 20 + row)] for row in noise)
    found = paired.compare(first, second)["dev"]
    assert found["low"] < 0 < found["high"]
    assert found["p_value"] == pytest.approx(1)


@pytest.fixture
def corpus(tmp_path):
    """Six utterances of three speakers, and all pairs of them."""
    ids = [f"s{n // 2}-{n}" for n in range(6)]
    rows = "".join(f"{name},{name[:2]}\n" for name in ids)
    (tmp_path / "oracle.csv").write_text("ID,spk_id\n" + rows)
    pairs = [(a, b) for a in ids for b in ids if a < b]
    lines = [f"{int(a[:2] == b[:2])} {a} {b}\n" for a, b in pairs]
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "dev.txt").write_text("".join(lines))
    for name, sign in (("good", 1), ("bad", -1)):
        scores = [sign * float(line[0]) for line in lines]
        folder = tmp_path / name / "scores"
        folder.mkdir(parents=True)
        np.save(folder / "scores_dev_raw.npy", np.float32(scores))
    return tmp_path


def test_a_cell_is_drawn_by_its_true_speakers(corpus):
    good, bad = (
        [paired.drawn_eers(corpus / name, corpus, n_bootstrap=50)]
        for name in ("good", "bad")
    )
    drawn = good[0]["dev"]
    assert (drawn.eer, drawn.n_units) == (0, 3)
    assert "3 speakers" in drawn.interval
    assert paired.compare(bad, good)["dev"]["value"] == -100
