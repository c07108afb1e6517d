"""What the driver does with plans: refuses, restarts, ends by itself."""

import pytest
from ruamel.yaml import YAML
from small_run import PLAN, call

from recipes import run_rounds
from speechbrain_ext.experiment.plan import Step
from speechbrain_ext.utils.files import write_json
from speechbrain_ext.utils.yaml_trees import read_yaml


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
    done = call(PLAN, *options, f"--output_folder={tmp_path / 'run'}")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert not (tmp_path / "run").exists()


def test_true_speakers_in_a_bootstrap_are_refused_wherever_they_stand(
    tmp_path,
):
    leaf = read_yaml("hparams/train_contrastive_ecapa_small.yaml")
    leaf.update(positives="oracle", oracle="oracle.csv")
    with open(tmp_path / "leaf.yaml", "w", encoding="utf-8") as stream:
        YAML().dump(leaf, stream)
    inside = {"hparams": str(tmp_path / "leaf.yaml"), "set": {}}
    given = {"positives": "oracle", "oracle": "oracle.csv"}
    beside = {"hparams": "hparams/train_contrastive_ecapa_small.yaml"}
    for stage in (inside, {**beside, "set": given}):
        stages = {"bootstrap": {"recipe": "train_contrastive", **stage}}
        done = call(
            write_plan(tmp_path / "plan.yaml", stages),
            f"--output_folder={tmp_path / 'run'}",
        )
        assert done.returncode == 2
        assert "would owe to true speakers" in done.stderr
        assert not (tmp_path / "run").exists()


def write_plan(path, stages):
    """The quickstart with other stages: sets are replaced, not merged."""
    tree = read_yaml(PLAN)
    tree["stages"].update(stages)
    with open(path, "w", encoding="utf-8") as stream:
        YAML().dump(tree, stream)
    return path


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
    stages = "--stages={prepare: {set: {n_speakers: 0}}}"
    done = call(PLAN, f"--output_folder={tmp_path / 'run'}", stages)
    assert done.returncode == 2
    assert "step corpus ended with status 2" in done.stderr
    assert "Traceback" not in done.stderr
