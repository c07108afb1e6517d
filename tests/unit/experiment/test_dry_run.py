"""States, lines and problems that a dry run prints for each step."""

import pytest
from plans import read_plan

from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.experiment.dry_run import Watch, plan_lines
from speechbrain_ext.experiment.estimates import Estimate
from speechbrain_ext.experiment.plan import load_plan
from speechbrain_ext.experiment.plan_check import (
    check_crops,
    check_plan,
    find_problems,
    states_of,
)
from speechbrain_ext.experiment.stage_records import write_record
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json
from speechbrain_ext.utils.provenance import describe_input
from speechbrain_ext.utils.yaml_trees import plain


@pytest.fixture
def plan(tmp_path):
    return load_plan(read_plan("quickstart", output_folder=str(tmp_path)))


def finish(plan, leaves, name):
    """Leave what a step leaves that has run with its settings."""
    step = next(s for s in plan.steps if s.name == name)
    leaf = leaves[name]
    inputs = {k: describe_input(v) for k, v in leaf.settings.inputs().items()}
    request = {"recipe": step.recipe, "hparams": plain(leaf.record)}
    request["inputs"] = inputs
    write_json(step.folder / "request.json", request)
    (step.folder / "left.txt").write_text("result")
    write_record(step.folder, request, ["left.txt"], 5.0, {})
    return step


def test_states_are_those_that_the_run_would_find(plan):
    leaves = check_plan(plan)
    corpus = finish(plan, leaves, "corpus")
    plan.corpus.train.write_text("ID,duration,wav,start,stop\n")
    model = finish(plan, leaves, "bootstrap/model")
    states = states_of(plan, leaves, None)
    assert states["corpus"] == ("done", "")
    assert states["bootstrap/model"] == ("done", "")
    assert states["round1/model"] == ("to do", "")
    # An input that has changed makes a step stale, and is named.
    plan.corpus.train.write_text("ID,duration,wav,start,stop\na,1,b,0,16000\n")
    state, reason = states_of(plan, leaves, None)["bootstrap/model"]
    assert state == "stale"
    assert reason.startswith("inputs.train_annotation.bytes was ")
    # A lost output is made again, and what depends on it is in doubt.
    (corpus.folder / "left.txt").unlink()
    plan.corpus.train.write_text("ID,duration,wav,start,stop\n")
    states = states_of(plan, leaves, None)
    assert states["corpus"] == ("to do", "left.txt has changed or is missing")
    assert states["bootstrap/model"][1].startswith("as long as corpus leaves")
    (model.folder / "stage.json").unlink()
    assert states_of(plan, leaves, None)["bootstrap/model"][0] == "resume"


def test_a_setting_that_differs_is_named(tmp_path, plan):
    finish(plan, check_plan(plan), "corpus")
    stages = {"prepare": {"set": {"n_speakers": 7}}}
    other = load_plan(
        read_plan("quickstart", output_folder=str(tmp_path), stages=stages)
    )
    state, reason = states_of(other, check_plan(other), None)["corpus"]
    assert state == "stale"
    assert reason.startswith("hparams.n_speakers was ")


def test_lines_say_rows_lists_and_sources(plan):
    states = {step.name: ("to do", "") for step in plan.steps}
    states["corpus"] = ("done", "")
    lines = plan_lines(
        plan, states, lambda _: Estimate(2.0, 1e9, None, "round1/model"), ["O"]
    )
    text = "\n".join(lines)
    assert "done   corpus" in text
    assert "row 'SimCLR'" in text and "lists O" in text
    assert "2.0 h   1.0 GB  unknown" in text
    assert "hours scaled from round1/model" in text


CONTRADICTIONS = [
    ({"train": {"gate": "hard", "gate_from_epoch": 99}}, "gate_from_epoch"),
    (
        {"train": {"gate": "hard", "correct_from_epoch": 99}},
        "correct_from_epoch is 99; n_epochs is ",
    ),
    ({"score": {"top_k": 900}}, "top_k is 900; as-norm takes so many"),
    (
        {"large_margin": {"embedder": {"width": 8}}},
        "embedder.width is 8; training goes on from round",
    ),
    (
        {"large_margin": {"loss": {"n_subcentres": 2}}},
        "loss.n_subcentres is 2; training goes on from round",
    ),
    ({"train": {"one_per_class": True, "batch_size": 40}}, "batch_size is 40"),
    ({"train": {"batch_size": 4000}}, "batch_size is 4000; there are 50 "),
    ({"labels": {"n_centroids": 70}}, "n_centroids is 70; 50 utterances"),
]


@pytest.mark.parametrize(("sets", "message"), CONTRADICTIONS)
def test_what_would_stop_a_later_step_is_found_first(tmp_path, sets, message):
    plan = load_plan(
        read_plan(
            "quickstart",
            output_folder=str(tmp_path),
            stages={kind: {"set": values} for kind, values in sets.items()},
            n_clusters=20,
            large_margin=True,
            backends=["raw", "as-norm"],
        )
    )
    found = find_problems(plan, check_plan(plan), 50)
    assert any(message in line for line in found), found
    assert all(line.count("; ") >= 2 for line in found)


OWN = "base: embedders/ecapa.yaml\nembedding_model: !new:torch.nn.Flatten {}\n"


@pytest.mark.parametrize(
    ("stages", "export", "message"),
    [
        (["train"], True, "give stages.train.set.trust_yaml=True"),
        (["train", "trusted", "extract"], True, "the plan export: false"),
        (["train", "trusted", "extract"], False, None),
        # The exported model has nothing of the bootstrap's.
        (["bootstrap", "trusted", "extract"], True, None),
        (["bootstrap"], False, "torch.nn.Flatten"),
    ],
)
def test_a_network_that_could_not_be_exported_is_found_before_the_first_step(
    tmp_path, stages, export, message
):
    (tmp_path / "own.yaml").write_text(OWN)
    values = {"embedder_yaml": str(tmp_path / "own.yaml"), "embedder": {}}
    values["trust_yaml"] = "trusted" in stages
    plan = load_plan(
        read_plan(
            "quickstart",
            output_folder=str(tmp_path / "exp"),
            stages={
                stages[0]: {"set": values},
                "extract": {"set": {"trust_yaml": "extract" in stages}},
            },
            round_init=None,
            n_clusters=20,
            export=export,
        )
    )
    found = find_problems(plan, check_plan(plan), 500)
    lines = [line for line in found if "Flatten" in line]
    assert len(lines) == (message is not None), found
    assert all(message in line for line in lines), lines


def whisper_plan(tmp_path, **changes):
    given = {"output_folder": str(tmp_path), "data_folder": str(tmp_path)}
    return load_plan(read_plan("minivox_whisper", **given, **changes))


def test_an_encoder_that_is_not_there_is_found_before_the_first_step(tmp_path):
    plan = whisper_plan(tmp_path, encoder_source="nowhere.pt")
    found = find_problems(plan, check_plan(plan), 50)
    lines = [line for line in found if "encoder_source is " in line]
    assert len(lines) == 1 and "nowhere.pt" in lines[0]


def test_a_class_of_the_users_own_must_be_trusted_by_all_that_load_it(tmp_path):
    """A bootstrap of hours was trained; the extraction then refused it."""
    (tmp_path / "own.yaml").write_text(
        "base: embedders/ecapa.yaml\n"
        "embedding_model: !new:torch.nn.Sequential\n"
    )

    def problems(**changes):
        stages = {
            kind: {
                "set": {
                    "embedder_yaml": str(tmp_path / "own.yaml"),
                    "trust_yaml": True,
                }
            }
            for kind in ("bootstrap", "train")
        }
        stages |= changes.pop("stages", {})
        given = {"output_folder": str(tmp_path), "embedder": {}}
        plan = read_plan("quickstart", **given, **changes, stages=stages)
        plan = load_plan(plan)
        found = find_problems(plan, check_plan(plan), 50)
        return [line for line in found if "torch.nn.Sequential" in line]

    line = problems(whiten_scores=0.5)[0]
    assert "stages.extract.set.trust_yaml: true" in line
    trusting = {"extract": {"set": {"trust_yaml": True}}}
    line = problems(stages=trusting, whiten_scores=0.5)[-1]
    assert "stages.whiten.set.trust_yaml: true, export: false" in line
    assert not problems(stages=trusting, export=False)


def test_weights_of_a_fitted_encoder_are_no_start_of_another_model(tmp_path):
    plan = whisper_plan(tmp_path, round_init="bootstrap")
    found = find_problems(plan, check_plan(plan), 50)
    assert any("training goes on from bootstrap/model" in x for x in found)
    plan = whisper_plan(tmp_path)
    found = find_problems(plan, check_plan(plan), 50)
    assert not any("goes on from bootstrap" in line for line in found)


def test_a_crop_of_a_late_training_is_checked_with_the_corpus(tmp_path):
    """Large-margin tuning, the last, has the longest crops."""
    changes = {"large_margin": {"set": {"crop": 2.5}}}
    plan = load_plan(
        read_plan(
            "quickstart",
            output_folder=str(tmp_path),
            large_margin=True,
            stages=changes,
        )
    )
    path = tmp_path / "train.csv"
    path.write_text("ID,duration,wav,start,stop\na,2.0,b.wav,0,32000\n")
    message = (
        "stages.large_margin.set.crop is 2.5 s and the longest of 1 .*2.00"
    )
    with pytest.raises(InputError, match=message):
        check_crops(plan, check_plan(plan), read_manifest(path, "utterances"))
    path.write_text("ID,duration,wav,start,stop\na,3.0,b.wav,0,48000\n")
    check_crops(plan, check_plan(plan), read_manifest(path, "utterances"))


def test_a_step_begins_with_its_place_in_the_plan(tmp_path):
    settings = read_plan("quickstart", output_folder=str(tmp_path))
    plan, watch = load_plan(settings), Watch(settings)
    count = len(plan.steps)
    first = watch.line(plan.steps[0], plan)
    begin = f"step 1 of {count}, corpus, manifests and trial lists (corpus); "
    assert first.startswith(begin) and first.endswith(" s gone")
    last = watch.line(plan.steps[-1], plan)
    assert last.startswith(f"step {count} of {count}, ") and "export" in last
