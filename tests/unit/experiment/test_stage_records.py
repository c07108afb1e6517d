"""The same request is skipped or resumed, another refused by its key."""

import pytest

from speechbrain_ext.experiment.recipe_settings import settings_of
from speechbrain_ext.experiment.stage_records import (
    RECORD,
    REQUEST,
    RESUME,
    STALE,
    check_as_made,
    first_difference,
    is_begun,
    is_finished,
    move_aside,
    read_record,
    state_of,
    write_record,
)
from speechbrain_ext.utils import provenance
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json, write_json, write_text
from speechbrain_ext.utils.provenance import describe_file, versions
from speechbrain_ext.utils.settings import REQUIRED
from speechbrain_ext.utils.yaml_trees import plain

_WANTED = {"recipe": "count", "hparams": {"seed": 1, "head": {"size": 8}}}


@pytest.fixture
def finished(tmp_path):
    folder = tmp_path / "stage"
    write_json(folder / REQUEST, _WANTED)
    write_text(folder / "out.csv", "ID\na\n")
    write_record(folder, _WANTED, ["out.csv"], 1.26, {"n": 3})
    return folder


def test_empty_folder_is_to_do(tmp_path):
    assert not is_finished(tmp_path / "none", _WANTED)


def test_begun_folder_is_to_resume(tmp_path):
    write_json(tmp_path / REQUEST, _WANTED)
    assert not is_finished(tmp_path, _WANTED)


def test_finished_folder_is_skipped(finished):
    assert is_finished(finished, _WANTED)


@pytest.mark.parametrize("text", ["ID\nb\n", "ID\na\nb\n"])
def test_changed_output_is_made_again(finished, text):
    write_text(finished / "out.csv", text)
    assert not is_finished(finished, _WANTED)


def test_deleted_output_is_made_again(finished):
    (finished / "out.csv").unlink()
    assert not is_finished(finished, _WANTED)


def test_another_request_is_refused_by_its_dotted_key(finished):
    other = {"recipe": "count", "hparams": {"seed": 1, "head": {"size": 9}}}
    rule = r"hparams\.head\.size was 8, now 9.*--output_folder.*--overwrite"
    with pytest.raises(InputError, match=rule):
        is_finished(finished, other)
    assert is_finished(finished, _WANTED)


def test_unfinished_other_request_is_refused_if_it_left_work(tmp_path):
    write_json(tmp_path / REQUEST, _WANTED)
    write_text(tmp_path / "half.csv", "ID\n")
    with pytest.raises(InputError, match="recipe was 'count', now 'sum'"):
        is_finished(tmp_path, {**_WANTED, "recipe": "sum"})


def test_other_request_that_failed_before_any_work_is_forgotten(tmp_path):
    write_json(tmp_path / REQUEST, _WANTED)
    for name in ("log.txt", "hyperparams.resolved.yaml", "count.py"):
        write_text(tmp_path / name, "")
    assert not is_finished(tmp_path, {**_WANTED, "recipe": "sum"})


def test_receipt_has_outputs_facts_and_versions(finished):
    record = read_json(finished / RECORD)
    assert record["n"] == 3 and record["seconds"] == 1.3
    assert record["outputs"]["out.csv"]["bytes"] == 5
    assert record["outputs"]["out.csv"]["path"] == "out.csv"
    assert {"python", "torch", "speechbrain"} <= record["versions"].keys()
    assert record["hparams"] == _WANTED["hparams"]


def test_receipt_names_only_files_that_exist(finished):
    with pytest.raises(InputError, match="lost.csv: no such file"):
        write_record(finished, _WANTED, ["lost.csv"], 1.0, {})


def test_missing_input_is_named(tmp_path):
    with pytest.raises(InputError, match="train.csv: no such file"):
        describe_file(tmp_path / "train.csv")


def test_moved_input_is_the_same_and_changed_input_is_not(tmp_path):
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        write_text(tmp_path / name, text)
    a, b, c = (describe_file(tmp_path / name) for name in "abc")
    assert first_difference({"in": a}, {"in": b}) is None
    assert first_difference({"in": a}, {"in": c}).startswith("in.sha256 was")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"a": 1}, {}, "a was 1, now absent"),
        ({}, {"a": {"b": 1}}, "a was absent, now {'b': 1}"),
        ({"a": [1, 2]}, {"a": [2, 1]}, "a was [1, 2], now [2, 1]"),
        ({"a": {"b": 1}}, {"a": 1}, "a was {'b': 1}, now 1"),
        ({"a": None}, {"a": 0}, "a was None, now 0"),
    ],
)
def test_first_difference_names_key_and_values(old, new, said):
    assert first_difference(old, new) == said


SHAPES = ["[]", "null", "{}", "1", '"a"', '{"outputs": []}']
SHAPES += ['{"outputs": {"a.csv": null}}', '{"outputs": {"a.csv": {}}}']


@pytest.mark.parametrize("text", [*SHAPES, "", "{", "\x00"])
def test_a_record_of_another_shape_is_one_line_with_a_way_out(finished, text):
    write_text(finished / RECORD, text)
    rule = r"stage\.json( line \d+)?: .*; delete it"
    with pytest.raises(InputError, match=rule):
        is_finished(finished, _WANTED)
    # Which works: the stage goes on from what it left.
    (finished / RECORD).unlink()
    assert not is_finished(finished, _WANTED)


@pytest.mark.parametrize("text", ["[]", "null", "{}", "1", "", "{"])
def test_a_request_of_another_shape_says_which_folder_to_delete(finished, text):
    write_text(finished / REQUEST, text)
    rule = r"request\.json: .*; delete that folder, or .*--overwrite=True"
    with pytest.raises(InputError, match=rule) as caught:
        is_finished(finished, _WANTED)
    assert "\n" not in str(caught.value)
    # --overwrite=True asks this, and then moves the folder.
    (finished / RECORD).unlink()
    assert not is_begun(finished, _WANTED)


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_utterances", "3"), ("seconds", None), ("inputs", []), ("churn", {})],
)
def test_a_fact_of_another_type_is_named(finished, key, value):
    record = read_json(finished / RECORD)
    write_json(finished / RECORD, {**record, key: value})
    rule = rf"stage\.json: its {key} is .*; delete it"
    with pytest.raises(InputError, match=rule):
        read_record(finished / RECORD)


def test_that_an_output_changed_is_said(finished, caplog):
    write_text(finished / "out.csv", "")
    assert not is_finished(finished, _WANTED)
    assert "out.csv has changed or is missing; the stage" in caplog.text


def test_numbers_that_are_not_as_their_stage_wrote_them_are_damage(tmp_path):
    """A bit of an embedding gives other results without a word."""
    path = tmp_path / "embedder" / "model.ckpt"
    for name in ("embedder/model.ckpt", "embedder/net.yaml"):
        write_text(tmp_path / name, "as made")
    names = ["embedder/model.ckpt", "embedder/net.yaml"]
    write_record(tmp_path, _WANTED, names, 1.0, {})
    check_as_made(path, describe_file(path)["sha256"])
    write_text(path, "as mode")
    with pytest.raises(InputError, match="model.ckpt has other bytes than"):
        check_as_made(path, describe_file(path)["sha256"])
    # Texts may be changed by hand; a model without a record is as it is.
    check_as_made(tmp_path / "embedder" / "net.yaml", "other")
    (tmp_path / RECORD).unlink()
    check_as_made(path, "other")


def test_move_aside_keeps_everything_and_numbers_names(finished):
    assert move_aside(finished).name == "stage.old1"
    write_json(finished / REQUEST, _WANTED)
    aside = move_aside(finished)
    assert aside.name == "stage.old2" and not finished.exists()
    assert (finished.with_name("stage.old1") / "out.csv").exists()


def test_folder_that_is_not_ours_is_not_moved(tmp_path):
    write_text(tmp_path / "mine" / "thesis.tex", "x")
    assert move_aside(tmp_path / "mine") is None
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_versions_are_of_installed_packages_only():
    assert all(versions().values())


def _defaults(recipe):
    return {
        key: plain(fact.default)
        for key, fact in settings_of(recipe).keys().items()
        if fact.in_record and fact.default is not REQUIRED
    }


def test_a_key_that_an_update_brings_is_no_other_request_at_its_default(
    tmp_path,
):
    """After an update no run went on: 'max_per_speaker was absent'."""
    old = {"recipe": "extract_embeddings"}
    (tmp_path / "work").touch()
    new = _defaults("extract_embeddings")
    assert "max_per_speaker" in new
    old["hparams"] = {k: v for k, v in new.items() if k != "max_per_speaker"}
    write_json(tmp_path / REQUEST, old)
    request = {"recipe": "extract_embeddings", "hparams": new}
    assert state_of(tmp_path, request) == (RESUME, "")
    assert is_begun(tmp_path, request)
    new["max_per_speaker"] = 3
    state, reason = state_of(tmp_path, request)
    assert state == STALE
    assert reason == "hparams.max_per_speaker was None, now 3"


@pytest.mark.parametrize("was", ["fp32", "bf16"])
def test_how_embeddings_keep_their_precision_is_said(tmp_path, was):
    """A plan in bf16 of an older version, which embedded in float32, stopped.

    It recorded --precision=bf16 where that changed nothing.
    """
    asked: dict = {"recipe": "extract_embeddings", "hparams": {}}
    before = {"fp32": {}, "bf16": {"applied_precision": "bf16"}}[was]
    now = {"bf16": {}, "fp32": {"applied_precision": "bf16"}}[was]
    options = {"run_options": {"precision": "bf16"}}
    write_json(tmp_path / REQUEST, {**asked, **before, **options})
    (tmp_path / "work").touch()
    hparams = {"hparams": _defaults("extract_embeddings")}
    with pytest.raises(InputError, match=f"--eval_precision={was} to embed"):
        is_finished(tmp_path, {**asked, **now, **hparams})
    # The way out, when it is followed.
    request = {**asked, **before, **hparams}
    assert state_of(tmp_path, request) == (RESUME, "")


def test_a_finished_stage_is_not_hashed_again_and_a_change_is_seen(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(provenance, "_SETTLED", -1)
    write_json(tmp_path / REQUEST, _WANTED)
    path = tmp_path / "x.npy"
    path.write_bytes(bytes(2**20))
    write_record(tmp_path, _WANTED, ["x.npy"], 1.0, {})
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "sha256", None)
        assert is_finished(tmp_path, _WANTED)
    with open(path, "r+b") as stream:
        stream.write(b"x")
    assert not is_finished(tmp_path, _WANTED)
    # What was put back is what it was, whatever its time.
    path.write_bytes(bytes(2**20))
    assert is_finished(tmp_path, _WANTED)
