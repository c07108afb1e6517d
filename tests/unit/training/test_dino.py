"""A DINO training's networks, and its schedules over a whole training."""

import pytest
import torch
import training_leaf

from speechbrain_ext.training.dino import DinoSchedules, build_dino

SMALL = {"n_mels": 20, "width": 16, "width_last": 24, "embedding_size": 8}
HEAD = {"hidden_size": 32, "bottleneck_size": 16, "n_prototypes": 64}
SSPS = {"positives": "ssps", "n_ssps_epochs": 1, "ssps_clusters": 6}
ONE_EPOCH = 10


def build(**changes):
    leaf = training_leaf.read(
        "train_dino_ecapa", embedder=SMALL, head=HEAD, batch_size=4, **changes
    )
    return build_dino(leaf.settings, leaf.objects(), 20)


def test_positives_come_with_ssps_alone():
    names = {"student", "teacher", "loss", "diagnostics"}
    assert build().modules.keys() == names
    assert build(**SSPS).modules.keys() == {*names, "positives"}


def test_only_the_student_is_trained_and_the_teacher_is_kept():
    networks = build(**SSPS)
    modules = networks.modules
    trained = {
        name
        for name, module in modules.items()
        if any(p.requires_grad for p in module.parameters())
    }
    assert trained == {"student"}
    own, theirs = modules["student"], modules["teacher"].model
    for first, second in zip(
        own.state_dict().values(), theirs.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second)
    assert networks.trained is own.embedder and networks.head is own.head
    assert networks.kept is theirs.embedder


@pytest.mark.parametrize(("epochs", "steps"), [(2.0, 10), (None, None)])
def test_collapse_patience_is_converted_to_steps(epochs, steps):
    modules = build(collapse_patience=epochs).modules
    assert modules["diagnostics"].patience == steps


def steps(**changes):
    """The values of all 80 epochs' steps of the published leaf."""
    settings = training_leaf.read("train_dino_ecapa", **changes).settings
    schedules = DinoSchedules(settings, ONE_EPOCH)
    return [schedules.at(step) for step in range(80 * ONE_EPOCH)]


def test_the_teachers_momentum_rises_to_one():
    momenta = [now.momentum for now in steps()]
    assert momenta[0] == pytest.approx(0.996)
    assert momenta == sorted(momenta)
    assert momenta[-1] == 1.0


def test_prototypes_are_frozen_in_the_first_epoch_alone():
    frozen = [now.prototypes_frozen for now in steps()]
    assert frozen == [True] * ONE_EPOCH + [False] * 79 * ONE_EPOCH


@pytest.mark.parametrize(
    ("name", "prefix", "start", "end"),
    [
        ("teacher_temperature", "temperature", 0.04, 0.07),
        ("regularizer_weight", "regularizer", 0.05, 0.2),
    ],
)
def test_ramps_rise_linearly_over_their_epochs(name, prefix, start, end):
    changes = {f"{name}_start": start, name: end, f"n_{prefix}_epochs": 4}
    changes["head"] = {"expander_size": 16}
    values = [getattr(now, name) for now in steps(**changes)]
    wanted = [start + (end - start) * min(n / 40, 1) for n in range(800)]
    assert values == pytest.approx(wanted)


def test_without_a_ramp_the_end_holds_from_the_first_step():
    changes = {"teacher_temperature": 0.07, "n_temperature_epochs": 0}
    assert {now.teacher_temperature for now in steps(**changes)} == {0.07}
