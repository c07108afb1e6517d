"""The steps that led to a model, and no others."""

import pytest

from speechbrain_ext.experiment.lineage import (
    UNKNOWN,
    check_made_from,
    check_maker_read,
    check_unchanged,
    read_lineage,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json
from speechbrain_ext.utils.provenance import describe_file


def record(root, name, inputs, outputs):
    def named(shas):
        return {f"{sha}.bin": {"path": "x", "sha256": sha} for sha in shas}

    write_json(
        root / name / "stage.json",
        {"recipe": name, "inputs": named(inputs), "outputs": named(outputs)},
    )


@pytest.fixture
def run(tmp_path):
    record(tmp_path, "corpus", [], ["data"])
    record(tmp_path, "dino/model", ["data"], ["w0"])
    record(tmp_path, "dino/labels", ["w0", "data"], ["l0"])
    record(tmp_path, "round1/model", ["l0", "w0"], ["w1"])
    record(tmp_path, "topline/model", ["true", "w0"], ["w2"])
    return tmp_path


def folders(sha, root):
    return [step["folder"] for step in steps(sha, root)]


def steps(sha, root, path="x"):
    return read_lineage({"path": path, "sha256": sha}, root)


def test_steps_come_after_what_they_read(run):
    wanted = ["corpus", "dino/model", "dino/labels", "round1/model"]
    assert folders("w1", run) == wanted


def test_steps_that_the_model_does_not_come_from_are_left_out(run):
    assert folders("w2", run) == ["corpus", "dino/model", "topline/model"]


def test_a_file_that_nobody_wrote_has_no_lineage(run):
    assert folders("other", run) == []


def test_models_that_share_a_yaml_are_not_taken_for_one_another(run):
    for name, sha in (("dino/model", "w0"), ("zzz/model", "w9")):
        inputs = {"embedder_yaml": {"path": "a.yaml", "sha256": "same"}}
        outputs = {
            "a.ckpt": {"sha256": sha},
            "hyperparams.yaml": {"sha256": "same"},
        }
        write_json(
            run / name / "stage.json",
            {"recipe": name, "inputs": inputs, "outputs": outputs},
        )
    assert folders("w9", run) == ["zzz/model"]


def test_a_step_that_copies_what_it_read_has_not_made_it(run):
    record(run, "a/export", ["w1"], ["w1", "safe"])
    wanted = ["corpus", "dino/model", "dino/labels", "round1/model"]
    assert folders("w1", run) == wanted


def test_steps_that_share_an_index_are_not_taken_for_one_another(run):
    """Embeddings of one manifest have the same IDs and rows."""
    for name, model in (("ablation1", "w1"), ("dino", "w0")):
        write_json(
            run / name / "embeddings" / "stage.json",
            {
                "recipe": "extract_embeddings",
                "inputs": {"embedder": {"path": "x", "sha256": model}},
                "outputs": {
                    "embeddings.npy": {"sha256": f"vectors of {model}"},
                    "embeddings.csv": {"sha256": "index"},
                },
            },
        )
    inputs = {
        "embeddings_ids": {"path": "embeddings.csv", "sha256": "index"},
        "embeddings": {"path": "embeddings.npy", "sha256": "vectors of w0"},
    }
    outputs = {"pseudo_labels.csv": {"sha256": "l1"}}
    write_json(
        run / "dino" / "more_labels" / "stage.json",
        {"recipe": "make_pseudo_labels", "inputs": inputs, "outputs": outputs},
    )
    wanted = ["corpus", "dino/model", "dino/embeddings", "dino/more_labels"]
    assert folders("l1", run) == wanted
    assert not any(step[UNKNOWN] for step in steps("l1", run))


def test_inputs_that_no_step_made_are_named(run):
    record(run, "topline/model", ["true", "w0"], ["w2"])
    unknown = {s["folder"]: s[UNKNOWN] for s in steps("w2", run)}
    assert unknown == {
        "corpus": [],
        "dino/model": [],
        "topline/model": ["true.bin"],
    }


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("embedder_yaml", "hparams/embedders/ecapa.yaml"),
        ("oracle", "oracle.csv"),
        ("encoder", "WavLM-Base+.pt"),
        ("encoder model.safetensors", "wavlm/model.safetensors"),
    ],
)
def test_what_trains_nothing_may_come_from_anywhere(tmp_path, name, path):
    write_json(
        tmp_path / "model" / "stage.json",
        {
            "recipe": "train_dino",
            "inputs": {name: {"path": path, "sha256": "of nobody"}},
            "outputs": {"w.ckpt": {"sha256": "w"}},
        },
    )
    assert steps("w", tmp_path)[0][UNKNOWN] == []


def test_of_two_steps_that_made_the_same_the_path_tells_which(tmp_path):
    """A training without the gate that gives the very same weights."""
    for system in ("ablation1", "round1"):
        write_json(
            tmp_path / system / "model" / "stage.json",
            {"inputs": {}, "outputs": {"w.ckpt": {"sha256": "w"}}},
        )
    path = "/moved/since/round1/model/w.ckpt"
    write_json(
        tmp_path / "stage.json",
        {
            "inputs": {"embedder": {"path": path, "sha256": "w"}},
            "outputs": {"v": {"sha256": "v"}},
        },
    )
    assert folders("v", tmp_path) == ["round1/model", "."]
    (step,) = steps("w", tmp_path, path)
    assert step["folder"] == "round1/model"


@pytest.mark.parametrize("moved", [False, True])
def test_a_file_is_known_by_what_its_maker_read(tmp_path, moved):
    path = tmp_path / "weights.ckpt"
    path.write_text("one")
    write_json(
        tmp_path / "run" / "new" / "stage.json",
        {
            "inputs": {"embedder": describe_file(path)},
            "outputs": {"embeddings.npy": {"sha256": "v"}},
        },
    )
    place = "old" if moved else "run/new"
    made = {"path": str(tmp_path / place / "embeddings.npy"), "sha256": "v"}
    root = tmp_path / "run" if moved else tmp_path / "elsewhere"
    check_maker_read(made, root, {"embedder": path}, "score again")
    other = {**made, "sha256": "of another extraction there"}
    with pytest.raises(InputError, match="no stage record beside.*score again"):
        check_maker_read(other, root, {"embedder": path}, "score again")
    path.write_text("two")
    with pytest.raises(InputError, match="was not made from.*score again"):
        check_maker_read(made, root, {"embedder": path}, "score again")


def test_a_stage_that_read_another_file_is_refused(tmp_path):
    path = tmp_path / "weights.ckpt"
    path.write_text("one")
    entry = describe_file(path)
    stage = {"inputs": {"embedder": entry}, "outputs": {}}
    write_json(tmp_path / "stage.json", stage)
    check_made_from(tmp_path, "embedder", path, "give the other")
    path.write_text("two")
    with pytest.raises(InputError, match="was not made from.*give the other"):
        check_made_from(tmp_path, "embedder", path, "give the other")


def test_an_output_that_was_touched_is_refused(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("one")
    outputs = {"result.json": describe_file(path)}
    write_json(tmp_path / "stage.json", {"outputs": outputs})
    check_unchanged(tmp_path, ["result.json"])
    path.write_text("two")
    with pytest.raises(InputError, match="is not what its stage wrote"):
        check_unchanged(tmp_path, ["result.json"])
