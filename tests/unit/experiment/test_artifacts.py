"""What steps leave: begun, ended, and the lists and results found."""

import pytest

from speechbrain_ext.experiment.artifacts import (
    Artifacts,
    CorpusArtifacts,
    GivenArtifacts,
    ScoreArtifacts,
)
from speechbrain_ext.models.settings import MODEL, RECIPE
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json


def test_a_step_has_begun_with_its_request_and_ended_with_its_record(tmp_path):
    left = Artifacts(tmp_path)
    assert (left.is_begun, left.is_done) == (False, False)
    with pytest.raises(InputError, match="no such file"):
        left.facts()
    write_json(tmp_path / "request.json", {})
    assert (left.is_begun, left.is_done) == (True, False)
    write_json(tmp_path / "stage.json", {"n_rows": 3})
    assert left.is_done and left.facts() == {"n_rows": 3}


def test_trial_lists_are_found_by_their_names_in_order(tmp_path):
    for name in ("b.txt", "a.txt", "notes.csv"):
        (tmp_path / "trials").mkdir(exist_ok=True)
        (tmp_path / "trials" / name).touch()
    found = CorpusArtifacts(tmp_path).trials()
    assert list(found) == ["a", "b"]
    assert found["b"] == tmp_path / "trials" / "b.txt"


def test_results_are_those_of_lists_and_back_ends(tmp_path):
    left = ScoreArtifacts(tmp_path)
    assert left.results() == []
    for trials in ("test", "dev"):
        left.result(trials, "raw").touch()
        left.scores(trials, "raw").touch()
    names = [path.name for path in left.results()]
    assert names == ["result_dev_raw.json", "result_test_raw.json"]


def test_a_given_embedder_may_lie_beside_the_record_of_its_training(tmp_path):
    given = tmp_path / "model" / "embedder"
    left = GivenArtifacts(tmp_path / "run", given)
    assert (left.embedder, left.train_record) == (given, None)
    record = tmp_path / "model" / "stage.json"
    # That of an export, which says nothing about the training.
    write_json(record, {"hparams": {"prior": 0.5}})
    assert left.train_record is None
    write_json(record, {"hparams": {"n_epochs": 3}})
    assert left.train_record == record
    write_json(record, {"recipe": "embed_pretrained", "hparams": {}})
    assert left.train_record == record


def test_a_given_embedder_has_the_files_of_an_embedder_folder(tmp_path):
    left = GivenArtifacts(tmp_path, tmp_path)
    assert set(left.missing()) == {MODEL, RECIPE}
    for name in left.missing():
        (tmp_path / name).touch()
    assert left.missing() == []
