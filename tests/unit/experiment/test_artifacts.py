"""What steps leave: begun, ended, and the lists and results found."""

import pytest

from speechbrain_ext.experiment.artifacts import (
    Artifacts,
    CorpusArtifacts,
    ScoreArtifacts,
)
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
