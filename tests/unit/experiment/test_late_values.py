"""Values that a plan knows once its corpus is prepared."""

import pytest
from plans import by_name, read_plan

from speechbrain_ext.experiment.late_values import STORED, late_values
from speechbrain_ext.experiment.plan import load_plan
from speechbrain_ext.experiment.steps import Late
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json


@pytest.fixture
def settings(tmp_path):
    return read_plan("quickstart", output_folder=str(tmp_path))


@pytest.fixture
def corpus(settings):
    """A corpus as its step leaves it, in the folder of the run."""
    made = load_plan(settings).corpus
    write_json(made.record, {"data_in_output": True, "outputs": {}})
    for name in ("dev", "test"):
        path = made.folder / "trials" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("1 a b\n")
    return made


def test_late_values_need_the_corpus(settings):
    with pytest.raises(InputError, match=r"stage\.json: no such file"):
        late_values(load_plan(settings).corpus, None)


def test_late_values_become_options_of_a_step(settings, corpus):
    steps = by_name(settings)
    late = late_values(corpus, None)
    root = str(corpus.folder)
    assert steps["bootstrap/model"].values(late)["data_folder"] == root
    given = steps["bootstrap/scores"].values(late)
    assert list(given["trials"]) == ["dev", "test"]
    assert given["oracle"] is None


def test_late_values_are_stored_and_stay(corpus):
    before = late_values(corpus, None)
    corpus.oracle.write_text("ID,spk_id\n")
    (corpus.folder / "trials" / "later.txt").write_text("1 a b\n")
    assert late_values(corpus, None) == before
    # Prepared again, it is another corpus.
    outputs = {"train.csv": {"sha256": "1"}}
    write_json(corpus.record, {"data_in_output": True, "outputs": outputs})
    after = late_values(corpus, None)
    assert after[Late.ORACLE] == str(corpus.oracle)
    assert list(after[Late.TRIALS]) == ["dev", "later", "test"]


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"trials": {}}'])
def test_stored_values_of_another_shape_are_named(corpus, text):
    late_values(corpus, None)
    (corpus.folder.parent / STORED).write_text(text)
    with pytest.raises(InputError, match=r"late_values\.json: .*; delete it"):
        late_values(corpus, None)


def test_no_path_is_stored_so_that_a_run_may_move(corpus):
    write_json(corpus.record, {"data_in_output": False, "outputs": {}})
    late_values(corpus, "/old")
    text = (corpus.folder.parent / STORED).read_text()
    assert str(corpus.folder) not in text and "/old" not in text
    assert late_values(corpus, "/new")[Late.DATA_ROOT] == "/new"
