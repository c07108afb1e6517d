"""How many rounds a run has, by the churn on record."""

import pytest
from plans import changed, churn, read_plan

from speechbrain_ext.experiment.rounds import churns_of, rounds_of
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.utils.errors import InputError


@pytest.fixture
def settings(tmp_path):
    return read_plan("quickstart", output_folder=str(tmp_path))


@pytest.fixture
def auto(settings):
    return changed(settings, n_rounds="auto", max_rounds=4)


def test_rounds_of_a_longer_earlier_run_do_not_move_the_stop(auto):
    for number, value in enumerate([0.3, 0.29, 0.1, 0.05], start=1):
        churn(auto, number, value)
    found = rounds_of(auto)
    assert (found.n_rounds, found.chosen, found.stopped) == (2, 2, True)


def test_churn_is_read_up_to_the_first_round_without_labels(auto):
    for number in (1, 2, 4):
        churn(auto, number, number / 10)
    assert churns_of(auto) == {"round1": 0.1, "round2": 0.2}


def test_a_number_of_rounds_is_taken_as_it_is(settings):
    churn(settings, 1, 0.0)
    found = rounds_of(changed(settings, n_rounds=3))
    assert (found.n_rounds, found.stopped, found.chosen) == (3, True, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_rounds": "many"}, "n_rounds is 'many'; it must be .* auto"),
        ({"n_rounds": -1}, "n_rounds is -1"),
        ({"max_rounds": 0}, "max_rounds is 0"),
        ({"churn_tolerance": 1.0}, "churn_tolerance is 1.0"),
        ({"churn_floor": "low"}, "churn_floor is 'low'"),
    ],
)
def test_settings_of_rounds_out_of_range_are_refused(change, message):
    ((key, value),) = change.items()
    with pytest.raises(InputError, match=message):
        RunRounds.keys()[key].check(value)
