"""What the driver does with plans: refuses, restarts, ends by itself."""

import re
import sys

import pytest
from ruamel.yaml import YAML
from run_steps import step
from small_run import PLAN, call

from recipes import run_rounds
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.experiment.steps import Kind, Late, Role, System
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json
from speechbrain_ext.utils.yaml_trees import read_yaml

WRONG = [
    (
        "--dry_run --from_stage=round9/model",
        "from_stage is 'round9/model'; this plan",
    ),
    (
        "--round_init=previous",
        "round_init is 'previous'; it must be bootstrap or null",
    ),
    ("--n_round=1", "n_round is 1; run_rounds has no such key; did you mean"),
    ("--n_rounds=some", "n_rounds is 'some'; it must be a whole number"),
    ("--churn_tolerance=2", "churn_tolerance is 2; it must be a number"),
    (
        "--stages={trian: {}}",
        "stages.trian is {}; stages has no such key; did you mean stages.train",
    ),
    (
        "--stages={train: {sets: {}}}",
        "stages.train.sets is {}; stages.train has no such key; did you mean "
        "stages.train.set?",
    ),
    (
        "--stages={train: {set: 5}}",
        "stages.train.set is 5; it must be a map {...}; correct",
    ),
    (
        "--stages={train: {recipe: trian}}",
        "stages.train.recipe is 'trian'; ",
    ),
    (
        "--stages={train: {set: {n_epoch: 1}}}",
        "stages.train.set.n_epoch is 1; train_speaker has no such key; did you "
        "mean stages.train.set.n_epochs?",
    ),
    (
        "--stages={train: {set: {n_epochs: soon}}}",
        "stages.train.set.n_epochs is 'soon'; it must be a whole number",
    ),
    (
        "--stages={bootstrap: {set: {projection: {hidden_siz: 1}}}}",
        "stages.bootstrap.set.projection.hidden_siz is 1; ",
    ),
    ("--embedder={widht: 8}", "embedder.widht is 8; "),
    (
        "--ablations={none: {gate: 5}}",
        "ablations.none.gate is 5; it must be hard or soft or null; correct "
        "ablations.none.gate",
    ),
    ("--ablations={none: gate}", "ablations.none is 'gate'; it must be"),
    ("--backends=[raw, rwa]", "backends is "),
    ("--protocol=crop", "protocol is 'crop'; it must be full or crops"),
    ("--whiten_scores=2", "whiten_scores is 2; it must be a number"),
    (
        "--n_rounds=auto --stages={large_margin: {set: {n_epoch: 1}}}"
        " --large_margin=True",
        "stages.large_margin.set.n_epoch is 1; ",
    ),
    (
        "--n_rounds=auto --stages={labels: {set: {previous_labels: null}}}",
        "stages.labels.set.previous_labels is given; n_rounds is auto",
    ),
    ("--musan=M", "musan is M and rirs is null; both are needed; give --rirs"),
    ("--musan=M --rirs=R", "musan is M and augment_folder is "),
    ("--launcher=all", "launcher is 'all'; it must be auto or a list"),
    (
        "--stages={prepare: {set: {n_speakers: 0}}}",
        "stages.prepare.set.n_speakers is 0; it must be",
    ),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_plan_stops_before_any_work(
    tmp_path, monkeypatch, capsys, options, message
):
    """Wherever the value stands, one line names it as the plan does."""
    words = [PLAN, f"--output_folder={tmp_path / 'run'}"]
    words += re.split(" (?=--)", options)
    monkeypatch.setattr(sys, "argv", ["run_rounds.py", *words])
    with pytest.raises(SystemExit) as stop:
        run(run_rounds.main)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith(f"error: {message}")
    assert said.count("; ") >= 2 and said.count("\n") == 1
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
    beside = {"hparams": "train_contrastive_ecapa_small.yaml"}
    for stage in (inside, {**beside, "set": given}):
        stages = {"bootstrap": {"recipe": "train_contrastive", **stage}}
        done = call(
            write_plan(tmp_path / "plan.yaml", stages),
            f"--output_folder={tmp_path / 'run'}",
        )
        assert done.returncode == 2
        assert "must not use true speakers" in done.stderr
        assert not (tmp_path / "run").exists()


def write_plan(path, stages):
    """The quickstart with other stages: sets are replaced, not merged."""
    tree = read_yaml(PLAN)
    tree["stages"].update(stages)
    with open(path, "w", encoding="utf-8") as stream:
        YAML().dump(tree, stream)
    return path


def test_from_stage_moves_folders_aside_once_and_goes_on_after_a_kill(
    tmp_path, capsys
):
    steps = []
    for name in ("round1/model", "round2/model", "round3/model"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "request.json").write_text("{}")
        system = System(Role.ROUND, number=len(steps) + 1)
        steps.append(step(tmp_path, system, Kind.TRAIN))
    note = tmp_path / "restart.json"
    run_rounds.restart_from(steps, "round2/model", note)
    moved = capsys.readouterr().out.splitlines()
    assert [line.split("/")[-2] for line in moved] == ["round3", "round2"]
    assert (tmp_path / "round1" / "model").exists()
    # Killed while it does b again, and typed again: what it did stays.
    (tmp_path / "round2" / "model").mkdir()
    (tmp_path / "round2" / "model" / "request.json").write_text("{}")
    run_rounds.restart_from(steps, "round2/model", note)
    assert (tmp_path / "round2" / "model" / "request.json").exists()


def automatic(folder, monkeypatch, churns, killed_before=None):
    """The driver with steps that only leave a stage record; what it ran."""
    done = []

    def leave_record(step, plan, options):
        if step.name == killed_before:
            raise KeyboardInterrupt
        fresh = not (step.folder / "stage.json").exists()
        if fresh:
            done.append(step.name)
        facts = {}
        if step.kind is Kind.LABELS and step.system.name in churns:
            facts["churn"] = churns[step.system.name]
        write_json(step.folder / "stage.json", facts)

    monkeypatch.setattr(run_rounds, "start", leave_record)
    monkeypatch.setattr(run_rounds, "write_run_report", lambda *_: None)
    options = ["--n_rounds=auto", f"--output_folder={folder}"]
    try:
        run_rounds.main([PLAN, *options, "--large_margin=True"])
    except KeyboardInterrupt:
        pass
    return done


def test_a_corpus_in_parts_is_checked_as_soon_as_it_is_prepared(
    tmp_path, monkeypatch
):
    """Else a crop that fits none is found after days of other steps."""
    seen = []

    def prepare(step, plan, options):
        seen.append(step.kind)
        plan.corpus.train.mkdir(parents=True, exist_ok=True)

    def check(plan):
        raise InputError("it does not fit")

    monkeypatch.setattr(run_rounds, "start", prepare)
    monkeypatch.setattr(run_rounds, "check_prepared", check)
    monkeypatch.setattr(run_rounds, "show", lambda _: None)
    with pytest.raises(InputError, match="does not fit"):
        run_rounds.main([PLAN, f"--output_folder={tmp_path / 'run'}"])
    assert seen == [Kind.PREPARE]


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
    """The corpus has enough files for a batch, and all of them are empty."""
    (tmp_path / "speech").mkdir()
    for number in range(200):
        (tmp_path / "speech" / f"{number}.wav").touch()
    done = call(
        "hparams/plans/folder.yaml",
        f"--output_folder={tmp_path / 'run'}",
        f"--data_folder={tmp_path / 'speech'}",
    )
    assert done.returncode == 2
    assert "step corpus ended with status 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_options_of_a_plan_reach_its_steps(tmp_path, monkeypatch, capsys):
    plan = tmp_path / "plan.yaml"
    lines = "precision: bf16\nnoprogressbar: True\njit: False\n"
    plan.write_text(f"base: plans/quickstart.yaml\n{lines}")
    given = []

    def fail(step, plan, options):
        given.extend(options)
        raise InputError("enough")

    monkeypatch.setattr(run_rounds, "start", fail)
    with pytest.raises(InputError, match="enough"):
        run_rounds.main([str(plan), f"--output_folder={tmp_path}/out"])
    assert given == ["--noprogressbar", "--precision=bf16"]


VOXCELEB = "hparams/plans/voxceleb.yaml"
LATE = dict.fromkeys(Late, "x") | {Late.TRIALS: {"O": "x"}}


def words_of_steps(monkeypatch, folder, *options):
    """Recipe and command line of each step of VoxCeleb's plan; none is run."""
    seen = []
    doubles = {
        # Its folders are made up.
        "check_run": lambda *_: None,
        "run_recipe": seen.append,
        "late_values": lambda *_: LATE,
        "show": lambda _: None,
        "write_run_report": lambda _: None,
    }
    for name, double in doubles.items():
        monkeypatch.setattr(run_rounds, name, double)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    given = ["--data_folder=VOX", "--musan=M", "--rirs=R", *options]
    run_rounds.main([VOXCELEB, f"--output_folder={folder}", *given])
    scripts = [next(w for w in words if "/recipes/" in w) for words in seen]
    stems = [script.rpartition("/")[2][:-3] for script in scripts]
    return list(zip(stems, seen, strict=True))


def test_voxceleb_is_one_command_from_downloads_to_the_result(
    tmp_path, monkeypatch
):
    steps = words_of_steps(monkeypatch, tmp_path)
    assert steps[0][0] == "prepare_voxceleb"
    assert steps[-1][0] == "export_model"
    trained = [words for stem, words in steps if stem.startswith("train_")]
    assert len(trained) == 9
    sounds = {"--augment_folder=null", '--musan="M"', '--rirs="R"'}
    assert all(sounds <= {*words} for words in trained)
    for stem, words in steps:
        several = stem.startswith(("train_", "extract_"))
        assert ("--nproc_per_node" in words) == several
        if several:
            # Batches of 100, of the larger margin, are not shared by 8.
            n_used = "5" if "--batch_size=100" in words else "8"
            assert words[words.index("--nproc_per_node") + 1] == n_used


def test_a_device_that_is_given_is_used_by_one_process(tmp_path, monkeypatch):
    steps = words_of_steps(monkeypatch, tmp_path, "--device=cpu")
    assert not any("--nproc_per_node" in words for _, words in steps)
