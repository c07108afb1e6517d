"""Two runs side by side: what they share, what differs, which is better."""

from pathlib import Path

import pytest
from run_steps import BOOTSTRAP, ROUND1, TOPLINE, with_scores

from speechbrain_ext import __main__ as sbext
from speechbrain_ext.report.compare_runs import (
    compare_runs,
    main,
    read_finished,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json


def run_at(folder, gain, lr):
    """A run folder with three scored systems and two other steps."""
    folder.mkdir(parents=True)
    for system, more in ((BOOTSTRAP, 0), (ROUND1, gain), (TOPLINE, 4)):
        made = with_scores(folder, system, 0.5 + more)
        write_json(made.artifacts.record, {"hparams": {}, "seconds": 5})
    trials = folder / "corpus" / "trials" / "dev.txt"
    trials.parent.mkdir(parents=True)
    (folder / "dev.txt").rename(trials)
    facts = {"hparams": {"lr": lr, "seed": 1}, "seconds": 100}
    write_json(folder / "round1" / "model" / "stage.json", facts)
    labels = {"hparams": {}, "nmi": 0.5 + lr, "n_clusters": 9}
    write_json(folder / "round1" / "labels" / "stage.json", labels)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return run_at(root / "a <b>", 1, 0.1), run_at(root / "c", 2, 0.2)


def test_a_run_is_read_in_its_order(runs):
    found = read_finished(runs[0])
    assert found.systems() == ["bootstrap", "round1", "topline"]
    assert found.final == "round1" and found.name == "a"


def test_the_page_says_which_is_better_and_what_differs(runs, tmp_path):
    page = compare_runs(*runs, tmp_path / "page.html").read_text()
    assert "a &lt;b&gt;" in page and "<b>" not in page
    assert "is better" in page and "points" in page
    cells = "<td>{}</td><td>{}</td><td>{}</td>"
    assert cells.format("lr", "0.1", "0.2") in page
    assert cells.format("seed", "1", "1") not in page
    assert cells.format("nmi", "0.6", "0.7") in page
    assert "Together 2 min and 2 min." in page
    times = page[page.index("Together") :]
    steps = "bootstrap/scores round1/model round1/labels round1/scores".split()
    places = [times.index(f">{step}<") for step in steps]
    assert places == sorted(places)


def test_a_run_is_like_itself(runs, tmp_path):
    page = compare_runs(runs[0], runs[0], tmp_path / "page.html").read_text()
    assert "no difference is shown" in page and "No setting differs." in page


def test_runs_of_other_trials_do_not_compare(runs, tmp_path):
    other = run_at(tmp_path / "other", 1, 0.1)
    for path in other.glob("*/scores/result_dev_*.json"):
        path.unlink()
    page = compare_runs(runs[0], other, tmp_path / "page.html").read_text()
    assert "share no trial list" in page


def test_the_command_prints_the_page(runs, tmp_path, capsys):
    page = str(tmp_path / "both.html")
    words = [str(runs[0]), str(runs[1]), "--page", page]
    main(words)
    assert capsys.readouterr().out == f"page: {page}\n"
    text = Path(page).read_text()
    Path(page).unlink()
    sbext.main(["compare", *words])
    assert capsys.readouterr().out == f"page: {page}\n"
    assert Path(page).read_text() == text


def test_a_folder_that_holds_no_run_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match="must be the output folder of a run"):
        compare_runs(runs[0], tmp_path / "nothing")
