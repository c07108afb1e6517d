"""The whole chain through the command line, killed once on its way."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from plans import read_plan
from small_run import EMBEDDER, PLAN, TINY, call, start

from recipes import run_rounds
from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.plan import load_plan
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.verification.results import read_result

RESULTS = "results/runs/quickstart"


def words(folder, *options):
    return [
        PLAN,
        f"--output_folder={folder}",
        f"--stages={json.dumps(TINY)}",
        f"--embedder={json.dumps(EMBEDDER)}",
        "--n_rounds=1",
        "--large_margin=True",
        "--noprogressbar",
        *options,
    ]


def kill_when(path, folder):
    """Start the chain and kill driver and step when ``path`` appears."""
    none = subprocess.DEVNULL
    process = start(
        *words(folder), stdout=none, stderr=none, start_new_session=True
    )
    limit = time.time() + 1800  # three imports of all, and little work
    while not path.exists() and process.poll() is None:
        assert time.time() < limit, f"{path} did not appear"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A run killed in the bootstrap, moved, then typed again to its end."""
    folder = tmp_path_factory.mktemp("chain") / "run"
    first = folder.with_name("before")
    kill_when(first / "bootstrap" / "model" / "save", first)
    assert not (first / "bootstrap" / "model" / "stage.json").exists()
    first.rename(folder)
    done = call(*words(folder))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done.stdout


def test_the_plan_is_printed_before_the_work(chain):
    _, text = chain
    plan = text[: text.index("== step 1 of")]
    assert "resume bootstrap/model" in plan
    assert "to do  topline/scores" in plan


def test_a_step_begins_with_its_place_and_the_time_that_is_left(chain):
    _, text = chain
    lines = [line for line in text.splitlines() if line.startswith("== ")]
    n_steps = len(lines)
    for number, line in enumerate(lines, 1):
        place = rf"== step {number} of {n_steps}, [^;]+; \d+ \w+ gone"
        assert re.match(place, line), line
    assert "SimCLR, training without labels (bootstrap/model)" in lines[1]
    scored = next(line for line in lines if "round 1, scoring" in line)
    assert re.search(r"gone, (about|at least) \d+ \w+ left$", scored)
    # Commands of 400 characters are in the logs.
    assert not any(line.startswith(sys.executable) for line in text.split("\n"))


def test_a_step_leaves_its_command_in_its_log(chain):
    folder, _ = chain
    log = (folder / "round1" / "model" / "log.txt").read_text()
    assert f'train_annotation="{folder}/bootstrap/labels/pseudo' in log
    assert "command: python " in log


def test_the_run_keeps_what_repeats_it(chain):
    folder, _ = chain
    first, second = json.loads((folder / "commands.json").read_text())
    assert "ended" not in first and second["end"] == "finished"
    assert "recipes/run_rounds.py hparams/plans/quick" in second["command"]
    assert second["versions"]["torch"] and second["seconds"] > 0
    again = read_leaf(RunRounds, folder / "plan.yaml").settings
    done = [step.artifacts.is_done for step in load_plan(again).steps]
    assert len(done) > 10 and all(done)


def test_every_system_has_a_row_in_the_printed_table(chain):
    folder, text = chain
    table = text[text.index("| system |") :]
    for row in ("SimCLR", "round 1", "large margin", "topline"):
        assert f"{row}" in table
    assert "synthetic voices" in table
    assert str(folder / "report.html") in table


def test_the_results_name_their_corpus_and_training_size(chain):
    folder, _ = chain
    paths = sorted((folder / RESULTS / "scores").glob("*.json"))
    rows = [read_result(path) for path in paths]
    assert list(dict.fromkeys(row.system.name for row in rows)) == [
        "SimCLR",
        "round 1",
        "+ large margin",
        "topline (true labels)",
        "topline + large margin",
        "published model",
    ]
    backends = {"raw", "as-norm", "as-norm+qmf"}
    assert len(rows) == 5 * len(backends) + 2
    assert {r.system.backend for r in rows} == backends | {"raw+linear"}
    assert {row.bootstrap.n_units for row in rows} == {4}
    assert {row.system.n_train for row in rows} == {24}
    assert {row.system.caveat for row in rows} == {"synthetic voices"}
    assert rows[0].labels.nmi is not None
    assert {row.labels.weighted for row in rows if row.labels} <= {True, False}
    assert {row.bootstrap.unit for row in rows} == {"speakers"}
    # A training on labels tells what its gate did; a bootstrap has no gate.
    kinds = {row.system.name: row.gate and row.gate.kind for row in rows}
    assert kinds.pop("SimCLR") is None
    assert set(kinds.values()) <= {"hard", "soft", "none"}
    for row in rows:
        gated = row.gate is not None and row.gate.kind != "none"
        assert not gated or row.gate.kept is not None
    assert (folder / "results" / "TABLE.md").exists()


def test_the_report_has_the_answer_pictures_and_sound(chain):
    folder, _ = chain
    page = (folder / "report.html").read_text()
    top = page[: page.index("<details")]
    assert "This run&#39;s model: + large margin" in top
    assert "With true labels: topline + large margin" in top
    assert "The voices are synthetic" in top
    for heading in ("Error rate, step by step", "Cluster sizes", "Training"):
        assert f"<h3>{heading}</h3>" in page
    for heading in ("Map, round1", "Calibration", "Listen to clusters"):
        assert f"<h3>{heading}</h3>" in page
    assert "uniformity" in page and "Settings of round1/model" in page
    clips = set(re.findall(r'src="(report_files/[^"]+)"', page))
    assert clips and all((folder / clip).is_file() for clip in clips)


def test_systems_are_compared_one_after_the_other(chain):
    folder, _ = chain
    paths = sorted((folder / RESULTS / "comparisons").glob("*.json"))
    found = [json.loads(path.read_text()) for path in paths]
    raw = {
        (row["first"], row["second"]) for row in found if "raw" in row["first"]
    }
    assert raw == {
        ("SimCLR, raw", "round 1, raw"),
        ("round 1, raw", "+ large margin, raw"),
        ("topline + large margin, raw", "+ large margin, raw"),
        ("topline (true labels), raw", "topline + large margin, raw"),
    }
    assert len(found) == 12
    page = (folder / "report.html").read_text()
    assert "Paired tests: each system against the one before" in page


def test_the_run_ends_with_the_exported_model(chain):
    folder, text = chain
    model = folder / "published" / "export" / "model"
    # Said last, when it is there.
    assert text.splitlines()[-1] == f"model:  {model}"
    card = (model / "README.md").read_text()
    path = folder / "published" / "scores" / "result_toy_raw.json"
    assert f"value: {json.loads(path.read_text())['eer']['value']}" in card
    for step in ("corpus", "bootstrap/model", "round1/model", "large_margin"):
        assert f"| {step}" in card
    assert "topline" not in card
    verifier = SpeakerVerifier.from_pretrained(model, "cpu")
    vectors, index = read_embeddings(folder / "large_margin/test_embeddings")
    wavs = [folder / "corpus/test/wav" / name for name in index.ids]
    np.testing.assert_allclose(
        verifier.embed(wavs), vectors[index.row], atol=1e-6, rtol=0
    )


def test_no_training_manifest_has_a_speaker(chain):
    folder, _ = chain
    header = (folder / "corpus" / "train.csv").read_text().split("\n")[0]
    assert header == "ID,duration,wav,start,stop"


def test_a_run_that_was_moved_is_still_its_own(chain, tmp_path):
    """It is the whole of a run: nothing there says where it was made."""
    folder, text = chain
    assert (
        "is done, skipped" in text and not folder.with_name("before").exists()
    )
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(folder, moved)
    shutil.rmtree(moved / "published" / "export")
    folder.rename(folder.with_name("gone"))
    try:
        receipts = {p: p.read_bytes() for p in moved.rglob("stage.json")}
        done = call(*words(moved))
    finally:
        folder.with_name("gone").rename(folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("is done, skipped") == len(receipts)
    assert receipts == {path: path.read_bytes() for path in receipts}
    card = "published/export/model/README.md"
    assert (moved / card).read_text() == (folder / card).read_text()


def test_the_same_command_does_only_the_steps_that_from_stage_names(chain):
    folder, _ = chain
    receipts = {p: p.read_bytes() for p in folder.rglob("stage.json")}
    again = folder / "published" / "export" / "stage.json"
    done = call(*words(folder, "--from_stage=published/export"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("is done, skipped") == len(receipts) - 1
    aside = folder / "published" / "export.old1" / "stage.json"
    assert aside.read_bytes() == receipts.pop(again)
    assert receipts == {path: path.read_bytes() for path in receipts}
    assert not (folder / "restart.json").exists()


def test_what_killed_drivers_left_half_written_is_removed(tmp_path):
    """A clip of the report stayed for ever where its writing was killed."""
    settings = read_plan(
        "quickstart",
        output_folder=str(tmp_path / "run"),
        results_folder=str(tmp_path / "results"),
    )
    name = ".a.part999999999-0a1b2c3d.flac"
    folders = [
        tmp_path / "run",
        tmp_path / "run" / "report_files",
        tmp_path / "results" / "runs" / settings.run / "scores",
    ]
    kept = tmp_path / "run" / "round1" / name  # Its step removes it.
    for folder in (*folders, kept.parent):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    run_rounds.remove_half_written(settings)
    assert not any((folder / name).exists() for folder in folders)
    assert kept.exists()
