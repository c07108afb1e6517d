"""The whole chain through the command line, killed once on its way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from recipes import run_rounds
from speechbrain_ext.embeddings import read_embeddings
from speechbrain_ext.files import write_json
from speechbrain_ext.plan import Step
from speechbrain_ext.verifier import SpeakerVerifier
from speechbrain_ext.yamls import read_yaml

ROOT = Path(__file__).parents[2]
PLAN = "hparams/quickstart.yaml"
TINY = {
    "prepare": {
        "set": {
            "n_speakers": 6,
            "n_test_speakers": 4,
            "n_sessions": 2,
            "n_utterances": 2,
            "min_seconds": 1.0,
            "max_seconds": 1.5,
            "n_trials": 60,
            "n_sounds": 2,
        }
    },
    "bootstrap": {
        "set": {
            "n_epochs": 2,
            "batch_size": 8,
            "global_crop": 0.8,
            "local_crop": 0.4,
        }
    },
    "labels": {"set": {"n_centroids": 8, "n_clusters": 4}},
    "train": {"set": {"n_epochs": 1, "crop": 0.8, "batch_size": 4}},
    "large_margin": {"set": {"n_epochs": 1, "crop": 1.0, "batch_size": 4}},
    "score": {"set": {"n_bootstrap": 20, "top_k": 2}},
}
EMBEDDER = {
    "width": 8,
    "width_last": 16,
    "attention_channels": 8,
    "embedding_size": 8,
}


def command(folder, *options):
    return [
        sys.executable,
        "recipes/run_rounds.py",
        PLAN,
        f"--output_folder={folder}",
        f"--stages={json.dumps(TINY)}",
        f"--embedder={json.dumps(EMBEDDER)}",
        "--n_rounds=1",
        "--large_margin=True",
        "--noprogressbar",
        *options,
    ]


def call(folder, *options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command(folder, *options),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def kill_when(path, folder):
    """Start the chain and kill driver and step when ``path`` appears."""
    process = subprocess.Popen(
        command(folder),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    limit = time.time() + 240
    while not path.exists() and process.poll() is None:
        assert time.time() < limit, f"{path} did not appear"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A run killed in the bootstrap, then typed again to its end."""
    folder = tmp_path_factory.mktemp("chain") / "run"
    kill_when(folder / "bootstrap" / "model" / "save", folder)
    assert not (folder / "bootstrap" / "model" / "stage.json").exists()
    done = call(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done.stdout


def test_the_plan_is_printed_before_the_work(chain):
    _, text = chain
    plan = text[: text.index("== corpus")]
    assert "resume bootstrap/model" in plan
    assert "to do  topline/scores" in plan


def test_every_system_has_a_row_in_the_printed_table(chain):
    folder, text = chain
    table = text[text.index("| system |") :]
    for row in ("DINO", "round 1", "large margin", "topline"):
        assert f"{row}" in table
    assert "synthetic voices" in table
    assert str(folder / "report.html") in table


def test_the_results_name_their_corpus_and_training_size(chain):
    folder, _ = chain
    paths = sorted((folder / "results").glob("quickstart-*.json"))
    files = [json.loads(path.read_text()) for path in paths]
    rows = [row for row in files if row["kind"] == "result"]
    assert list(dict.fromkeys(row["system"] for row in rows)) == [
        "DINO",
        "round 1",
        "+ large margin",
        "topline (true labels)",
        "topline + large margin",
        "published model",
    ]
    backends = {"raw", "as-norm", "as-norm+qmf"}
    assert len(rows) == 5 * len(backends) + 2
    assert {row["backend"] for row in rows} == backends | {"raw+linear"}
    assert {row["n_units"] for row in rows} == {4}
    assert {row["n_train"] for row in rows} == {24}
    assert {row["caveat"] for row in rows} == {"synthetic voices"}
    assert rows[0]["nmi"] is not None
    assert (folder / "results" / "TABLE.md").exists()


def test_the_report_shows_every_picture(chain):
    folder, _ = chain
    page = (folder / "report.html").read_text()
    for heading in ("EER by round", "Cluster sizes", "Training"):
        assert f"<h2>{heading}</h2>" in page
    for heading in ("DET, toy, raw", "Map, round1"):
        assert f"<h2>{heading}</h2>" in page
    assert "<h2>Calibration, toy, as-norm+qmf</h2>" in page


def test_systems_are_compared_one_after_the_other(chain):
    folder, _ = chain
    paths = sorted((folder / "results").glob("*-comparison-*.json"))
    found = [json.loads(path.read_text()) for path in paths]
    raw = {
        (row["first"], row["second"]) for row in found if "raw" in row["first"]
    }
    assert raw == {
        ("DINO, raw", "round 1, raw"),
        ("round 1, raw", "+ large margin, raw"),
        ("topline + large margin, raw", "+ large margin, raw"),
        ("topline (true labels), raw", "topline + large margin, raw"),
    }
    assert len(found) == 12
    page = (folder / "report.html").read_text()
    assert "each system against the one before" in page


def test_it_ends_with_the_model_to_share(chain):
    folder, text = chain
    model = folder / "published" / "export" / "model"
    assert f"model:  {model}" in text
    card = (model / "README.md").read_text()
    path = folder / "published" / "scores" / "result_toy_raw.json"
    assert f"value: {json.loads(path.read_text())['eer_percent']}" in card
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


def test_typed_again_it_does_only_what_from_stage_asks(chain):
    folder, _ = chain
    receipts = {p: p.read_bytes() for p in folder.rglob("stage.json")}
    again = folder / "published" / "export" / "stage.json"
    done = call(folder, "--from_stage=published/export")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("is done, skipped") == len(receipts) - 1
    aside = folder / "published" / "export.old1" / "stage.json"
    assert aside.read_bytes() == receipts.pop(again)
    assert receipts == {path: path.read_bytes() for path in receipts}
    assert not (folder / "restart.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from_stage=round9/model"], "is not a step of this plan"),
        (["--round_init=previous"], "round_init is 'previous'"),
        (["--n_round=1"], "did you mean 'n_rounds'"),
        (["--stages={trian: {}}"], "no key 'stages.trian'"),
        (
            ["--stages={train: {set: {n_epoch: 1}}}"],
            "train_speaker_ecapa.yaml has no key 'n_epoch'",
        ),
        (
            ["--stages={bootstrap: {set: {head: {n_prototype: 1}}}}"],
            "no key 'head.n_prototype'; did you mean 'n_prototypes'",
        ),
        (
            ["--embedder={widht: 8}"],
            "ecapa.yaml has no key 'widht'; did you mean 'width'",
        ),
        (["--stages={train: {recipe: trian}}"], "no recipe 'trian'"),
        (["--n_rounds=some"], "n_rounds is 'some': it must be auto"),
        (
            ["--n_rounds=auto", "--churn_tolerance=2"],
            "churn_tolerance is 2: it must be a share",
        ),
        (
            ["--n_rounds=auto", "--large_margin=True"]
            + ["--stages={large_margin: {set: {n_epoch: 1}}}"],
            "train_speaker_ecapa.yaml has no key 'n_epoch'",
        ),
    ],
)
def test_a_wrong_plan_stops_before_any_work(tmp_path, options, message):
    words = [sys.executable, "recipes/run_rounds.py", PLAN, *options]
    done = subprocess.run(
        [*words, f"--output_folder={tmp_path / 'run'}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert not (tmp_path / "run").exists()


def test_from_stage_moves_once_and_after_a_kill_goes_on(tmp_path, capsys):
    steps = []
    for name in ("a/model", "b/model", "c/model"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "request.json").write_text("{}")
        steps.append(Step(name, "", "", tmp_path / name, {}))
    note = tmp_path / "restart.json"
    run_rounds.restart_from(steps, "b/model", note)
    moved = capsys.readouterr().out.splitlines()
    assert [line.split("/")[-2] for line in moved] == ["c", "b"]
    assert (tmp_path / "a" / "model").exists()
    # Killed while it does b again, and typed again: what it did stays.
    (tmp_path / "b" / "model").mkdir()
    (tmp_path / "b" / "model" / "request.json").write_text("{}")
    run_rounds.restart_from(steps, "b/model", note)
    assert (tmp_path / "b" / "model" / "request.json").exists()


def automatic(folder, monkeypatch, churns, killed_before=None):
    """The driver with steps that only leave a receipt; what it ran."""
    done = []

    def leave_receipt(step, launcher, run_opts):
        if step.name == killed_before:
            raise KeyboardInterrupt
        fresh = not (step.folder / "stage.json").exists()
        if fresh:
            done.append(step.name)
        facts = {}
        if step.name.endswith("/labels") and step.system in churns:
            facts["churn"] = churns[step.system]
        write_json(step.folder / "stage.json", facts)

    monkeypatch.setattr(run_rounds, "start", leave_receipt)
    monkeypatch.setattr(run_rounds, "write_run_report", lambda *_: None)
    options = ["--n_rounds=auto", f"--output_folder={folder}"]
    try:
        run_rounds.main([PLAN, *options, "--large_margin=True"])
    except KeyboardInterrupt:
        pass
    return done


CHURNS = {"round1": 0.4, "round2": 0.3, "round3": 0.28, "round4": 0.1}


def test_automatic_rounds_end_by_themselves(tmp_path, monkeypatch, capsys):
    done = automatic(tmp_path, monkeypatch, CHURNS)
    systems = list(dict.fromkeys(name.split("/")[0] for name in done))
    rounds = ["round1", "round2", "round3"]
    assert systems == ["corpus", "bootstrap", *rounds, *LAST]
    text = capsys.readouterr().out
    assert "then, while churn falls, further rounds" in text
    assert "stopped after round 3: churn 0.2800 after 0.3000" in text


LAST = ["large_margin", "topline", "topline_tuned", "published"]


@pytest.mark.parametrize(
    "where", ["round2/model", "round2/scores", "round3/labels", "topline/model"]
)
def test_automatic_rounds_end_alike_after_a_kill(tmp_path, monkeypatch, where):
    whole = automatic(tmp_path / "whole", monkeypatch, CHURNS)
    halves = automatic(tmp_path / "halves", monkeypatch, CHURNS, where)
    assert where not in halves
    halves += automatic(tmp_path / "halves", monkeypatch, CHURNS)
    assert halves == whole
    assert automatic(tmp_path / "halves", monkeypatch, CHURNS) == []


def test_a_failed_step_stops_the_run_and_says_where(tmp_path):
    words = [sys.executable, "recipes/run_rounds.py", PLAN]
    words.append(f"--output_folder={tmp_path / 'run'}")
    words.append("--stages={prepare: {set: {n_speakers: 0}}}")
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "step corpus ended with status 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_runs_every_step_of_the_papers_plan(tmp_path):
    plan = "hparams/voxceleb.yaml"
    words = [plan, "--debug", f"--output_folder={tmp_path}/exp"]
    done = subprocess.run(
        [sys.executable, "recipes/run_rounds.py", *words, "--noprogressbar"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folder = tmp_path / "exp_debug"
    rows = [
        json.loads(path.read_text())
        for path in sorted(folder.glob("results/voxceleb_debug-[0-9]*.json"))
    ]
    assert list(dict.fromkeys(row["system"] for row in rows)) == [
        "DINO",
        "round 1",
        "round 2",
        "+ large margin",
        "topline (true labels)",
        "topline + large margin",
    ]
    assert {row["caveat"] for row in rows} == {"debug", "debug; random WavLM"}
    for system in ("round1", "round2", "large_margin"):
        fits = json.loads((folder / system / "model/gate.json").read_text())
        assert len(fits) == 3
    assert not (folder / "topline" / "model" / "gate.json").exists()
    assert "over that of topline + large margin, raw" in done.stdout
    assert (folder / "report.html").exists()


def test_a_run_may_begin_with_a_contrastive_training(tmp_path):
    tree = read_yaml(PLAN)
    changes = tree["stages"]["bootstrap"]["set"]
    for key in ("global_crop", "local_crop"):
        del changes[key]
    changes.update(n_epochs=1, batch_size=8, crop=0.8)
    tree["stages"]["bootstrap"].update(
        recipe="train_contrastive",
        hparams="hparams/train_contrastive_ecapa_small.yaml",
    )
    plan = tmp_path / "plan.yaml"
    with open(plan, "w", encoding="utf-8") as stream:
        YAML().dump(tree, stream)
    stages = {kind: TINY[kind] for kind in ("prepare", "labels", "score")}
    done = subprocess.run(
        [sys.executable, "recipes/run_rounds.py", plan]
        + [f"--output_folder={tmp_path / 'run'}", "--bootstrap_name=SimCLR"]
        + [f"--stages={json.dumps(stages)}", "--topline=False"]
        + [f"--embedder={json.dumps(EMBEDDER)}", "--n_rounds=0"]
        + ["--backends=raw", "--noprogressbar"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "-- SimCLR, raw, on toy: EER" in done.stdout
    page = (tmp_path / "run" / "report.html").read_text()
    assert "uniformity" in page
