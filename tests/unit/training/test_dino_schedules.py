"""DINO's schedules: ends, ramps and rests of a whole training."""

import pytest

from speechbrain_ext.training.dino_schedules import DinoSchedules
from speechbrain_ext.utils.yaml_trees import plain, read_yaml

ONE_EPOCH = 10


def steps(**changes):
    """The settings of all 80 epochs' steps of the published leaf."""
    settings = plain(read_yaml("hparams/train_dino_ecapa.yaml"))
    schedules = DinoSchedules({**settings, **changes}, ONE_EPOCH)
    return [schedules.at(step) for step in range(80 * ONE_EPOCH)]


def test_the_rate_warms_up_for_ten_epochs_and_falls():
    rates = [now.lr for now in steps()]
    assert rates[0] == 0
    assert rates[100] == max(rates) == 0.2
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == pytest.approx(1e-5)


def test_the_teachers_momentum_rises_to_one():
    momenta = [now.teacher_momentum for now in steps()]
    assert momenta[0] == pytest.approx(0.996)
    assert momenta == sorted(momenta)
    assert momenta[-1] == 1.0


def test_prototypes_rest_in_the_first_epoch_alone():
    rest = [now.prototypes_rest for now in steps()]
    assert rest == [True] * ONE_EPOCH + [False] * 79 * ONE_EPOCH


@pytest.mark.parametrize(
    ("name", "prefix", "start", "end"),
    [
        ("teacher_temperature", "temperature", 0.04, 0.07),
        ("regularizer_weight", "regularizer", 0.05, 0.2),
    ],
)
def test_ramps_rise_in_a_line_over_their_epochs(name, prefix, start, end):
    changes = {f"{name}_start": start, name: end, f"n_{prefix}_epochs": 4}
    values = [getattr(now, name) for now in steps(**changes)]
    wanted = [start + (end - start) * min(n / 40, 1) for n in range(800)]
    assert values == pytest.approx(wanted)


def test_without_a_ramp_the_end_is_there_from_the_first_step():
    changes = {"teacher_temperature": 0.07, "n_temperature_epochs": 0}
    assert {now.teacher_temperature for now in steps(**changes)} == {0.07}
