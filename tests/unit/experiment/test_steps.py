"""Steps of a run: their names, and the values they are given."""

from pathlib import Path

import pytest
from plans import changed, read_plan

from speechbrain_ext.experiment.artifacts import Artifacts
from speechbrain_ext.experiment.plan import load_plan
from speechbrain_ext.experiment.steps import Kind, Late, Role, Step, System


@pytest.fixture
def settings(tmp_path):
    return read_plan("quickstart", output_folder=str(tmp_path))


def test_a_system_is_known_by_its_role_and_number(settings):
    plan = load_plan(changed(settings, ablations={"none": {}}, n_rounds=2))
    found = {
        (step.system.role, step.system.number): step.system.name
        for step in plan.steps
    }
    assert found[(Role.ROUND, 2)] == "round2"
    assert found[(Role.ABLATION, 1)] == "ablation1"
    assert found[(Role.TOPLINE, None)] == "topline"


def step(kind, system, folder, **more):
    left = Artifacts(Path(folder))
    return Step(kind, system, "train", "train.yaml", left, {"lr": 2}, **more)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_step_has_words(kind):
    words = step(kind, System(Role.ROUND, "round 1", 1), "a").words
    assert len(words) > len("round 1, ")


def test_a_step_is_named_for_its_system_and_its_folder():
    trained = step(Kind.TRAIN, System(Role.ROUND, "round 1", 1), "a")
    assert trained.name == "round1/model"
    assert trained.words == "round 1, training"
    corpus = step(Kind.PREPARE, System(Role.CORPUS), "a")
    assert corpus.name == "corpus"
    assert corpus.words == "corpus, manifests and trial lists"
    assert Kind.EXTRACT_TEST.stage == Kind.EXTRACT_TRAIN.stage == "extract"


def test_late_values_win_over_options_and_the_folder_over_both():
    late = {"lr": Late.ORACLE, "output_folder": Late.DATA_ROOT}
    made = step(Kind.TRAIN, System(Role.TOPLINE), "out", late=late)
    found = made.values({Late.ORACLE: 5, Late.DATA_ROOT: "wavs"})
    assert found == {"lr": 5, "output_folder": "out"}
    with pytest.raises(KeyError):
        made.values({Late.DATA_ROOT: "wavs"})
