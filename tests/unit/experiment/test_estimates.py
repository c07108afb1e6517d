"""Estimates: arithmetic by hand, and what of a plan they depend on."""

import dataclasses

import pytest
import tiny_whisper
from plans import read_plan

from speechbrain_ext.experiment.estimates import (
    Estimator,
    Size,
    check_disk,
    cluster_flops,
    embedding_bytes,
    n_batches,
    n_processes,
    training_hours,
)
from speechbrain_ext.experiment.plan import load_plan
from speechbrain_ext.experiment.plan_check import check_plan
from speechbrain_ext.models.step_cost import Cost
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json


class FixedRates:
    """A machine of round numbers."""

    flops, draw_seconds = 1e9, 1e-9

    def of_training(self, settings, batch_size):
        return Cost(0.01, 0.004, 1e6, 1000, 1000, 128)

    def read_seconds(self, paths, crop):
        return 0.0


SIZE = Size(1000, 100, 4000.0, 500.0, {"toy": 5000}, [])


@pytest.fixture(scope="module")
def planner(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("run"))
    plan = load_plan(read_plan("quickstart", output_folder=folder))
    return Estimator(plan, check_plan(plan), SIZE, FixedRates())


def step(planner, name):
    return next(s for s in planner.plan.steps if s.name == name)


def test_the_closed_forms():
    assert n_batches(1092009, 240) == 4550
    assert training_hours(2, 900, 2.0) == 1.0
    assert training_hours(2, 900, 2.0, read_seconds=4.0) == 2.0
    assert embedding_bytes(1092009, 256) == 1092009 * 256 * 4
    assert embedding_bytes(10, 4, n_crops=15) == 10 * 4 * 4 * 16
    assert cluster_flops(10, 3, None, 25) == 8 * 100 * 3
    assert cluster_flops(10, 3, 5, 2) == 2 * 10 * 5 * 3 * 2 + 8 * 25 * 3
    words = ["torchrun", "--standalone", "--nproc_per_node", "4"]
    assert n_processes(words) == 4


def test_a_training_takes_steps_times_seconds_of_a_step(planner):
    chosen = step(planner, "round1/model")
    settings = planner.leaves[chosen.name].settings
    n_used = int(1000 * (1 - settings.valid_fraction))
    n_steps = n_used // settings.batch_size
    seconds = settings.batch_size * settings.crop * 0.01
    expected = settings.n_epochs * n_steps * seconds / 3600
    assert planner.of(chosen).hours == pytest.approx(expected)


def test_dino_counts_all_crops_and_the_teachers_forward(tmp_path):
    dino = {"recipe": "train_dino", "hparams": "train_dino_ecapa_small.yaml"}
    plan = read_plan("quickstart", output_folder=str(tmp_path))
    stages = {**plan.stages, "bootstrap": {**dino, "set": {}}}
    plan = load_plan(dataclasses.replace(plan, stages=stages))
    planner = Estimator(plan, check_plan(plan), SIZE, FixedRates())
    chosen = step(planner, "bootstrap/model")
    settings = planner.leaves[chosen.name].settings
    seen = settings.n_global * settings.global_crop
    local = settings.n_local * settings.local_crop
    each = (seen + local) * 0.01 + seen * 0.004
    n_steps = 1000 // settings.batch_size
    seconds = settings.n_epochs * n_steps * settings.batch_size * each
    assert planner.of(chosen).hours == pytest.approx(seconds / 3600)


def test_embeddings_take_the_forward_pass_and_their_bytes(planner):
    found = planner.of(step(planner, "bootstrap/train_embeddings"))
    size = planner.plan.settings.embedder["embedding_size"]
    assert found.hours == pytest.approx(4000 * 0.004 / 3600)
    assert found.disk == pytest.approx(1000 * size * 4 + 1000 * 75)


def test_a_finished_step_gives_its_seconds_to_those_like_it(tmp_path):
    folder = str(tmp_path)
    plan = load_plan(read_plan("quickstart", output_folder=folder))
    planner = Estimator(plan, check_plan(plan), SIZE, FixedRates())
    record = {"seconds": 7200.0, "resumed": False}
    write_json(step(planner, "round1/model").artifacts.record, record)
    found = planner.of(step(planner, "round2/model"))
    assert (found.hours, found.source) == (2.0, "round1/model")
    # The time of an attempt that went on from another says too little.
    write_json(
        step(planner, "round1/model").artifacts.record,
        {**record, "resumed": True},
    )
    assert planner.of(step(planner, "round2/model")).source == ""


def test_what_is_left_is_known_as_far_as_like_steps_have_ended(tmp_path):
    folder = str(tmp_path)
    plan = load_plan(read_plan("quickstart", output_folder=folder))
    planner = Estimator(plan, check_plan(plan), SIZE)
    trained = [step(planner, f"round{n}/model") for n in (1, 2)]
    assert planner.left(trained) == (None, False)
    record = {"seconds": 60.0, "resumed": False}
    write_json(trained[0].artifacts.record, record)
    # What is done takes no time; the next one takes what it took.
    assert planner.left(trained) == (60.0, True)
    export = plan.export
    assert planner.left([*trained, export]) == (60.0, True)
    rest = [*trained, step(planner, "round2/scores")]
    assert planner.left(rest) == (60.0, False)
    assert planner.left([]) == (None, True)


def test_nothing_is_made_up_without_a_corpus(planner):
    unknown = Estimator(planner.plan, planner.leaves, None, FixedRates())
    assert set(unknown.of(step(planner, "round1/model"))[:3]) == {None}


def test_disk_alone_needs_no_measurement(planner):
    some = Estimator(planner.plan, planner.leaves, SIZE)
    found = some.of(step(planner, "round1/model"))
    assert found.hours is None and found.disk > 0


def test_a_full_disk_is_named_before_it_is_full(planner):
    plan = dataclasses.replace(planner.plan)
    check_disk(plan, 1.0)
    with pytest.raises(InputError, match="output_folder is .* free and the"):
        check_disk(plan, 1e18)


def test_a_fitted_encoder_hears_the_corpus_and_its_crops_once(tmp_path):
    fitted = {"recipe": "embed_pretrained", "hparams": "embed_pretrained.yaml"}
    fitted["set"] = {"choice_crop": 2.0, "n_choice_utterances": 100}
    encoder = {"encoder_source": None, "encoder_config": tiny_whisper.TINY}
    folders = {"output_folder": str(tmp_path), "data_folder": str(tmp_path)}
    plan = read_plan("minivox_whisper", **folders)
    stages = {**plan.stages, "bootstrap": fitted}
    changed = {"stages": stages, "embedder": encoder}
    plan = load_plan(dataclasses.replace(plan, **changed))
    planner = Estimator(plan, check_plan(plan), SIZE, FixedRates())
    found = planner.of(step(planner, "bootstrap/model"))
    # Two crops of 100 utterances, each as it is and augmented.
    seconds = (4000 + 4 * 100 * 2) * 0.004
    assert found.hours == pytest.approx(seconds / 3600)
    embedded = planner.of(step(planner, "bootstrap/train_embeddings"))
    assert embedded.hours == pytest.approx(4000 * 0.004 / 3600)
    assert embedded.disk == pytest.approx(1000 * 16 * 4 + 1000 * 75)
    fitted["set"]["layers"] = [1]
    plan = load_plan(dataclasses.replace(plan.settings, stages=stages))
    planner = Estimator(plan, check_plan(plan), SIZE, FixedRates())
    found = planner.of(step(planner, "bootstrap/model"))
    assert found.hours == pytest.approx(4000 * 0.004 / 3600)


def test_an_output_folder_that_is_a_file_is_refused(planner, tmp_path):
    (tmp_path / "a").touch()
    settings = dataclasses.replace(
        planner.plan.settings, output_folder=str(tmp_path / "a")
    )
    with pytest.raises(InputError, match="a is a file, not a folder; give"):
        check_disk(dataclasses.replace(planner.plan, settings=settings), 1.0)
