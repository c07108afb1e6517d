"""The campaign of bad inputs: it covers all programs, and judges rightly."""

import pytest

from benchmarks import bad_inputs
from speechbrain_ext.experiment.recipe_settings import RECIPE_SETTINGS

CASES = [*bad_inputs.bad_values(), *bad_inputs.bad_files()]
CASES += bad_inputs.bad_models()


def test_every_recipe_and_command_gets_bad_inputs():
    programs = {case.program for case in CASES}
    assert programs == {*RECIPE_SETTINGS, "verify", "embed", "group"}
    assert len(CASES) >= 500


@pytest.mark.parametrize(
    "status, said, expected",
    [
        (2, "error: lr is x; it must be a number; give one", "one clear line"),
        (2, "error: data_folder is missing", "another error"),
        (1, "Traceback (most recent call last):\n  x", "raw traceback"),
        (0, "done", "accepted"),
        (None, "", "hang"),
        (-7, "", "no error line"),
    ],
)
def test_an_end_is_classified(status, said, expected):
    case = bad_inputs.Case("train_dino", "--lr=x", [], "lr")
    assert bad_inputs.outcome(case, status, said) == expected


def test_what_is_accepted_has_a_reason_or_is_shown_without():
    assert bad_inputs.reason_of("out/stage.json: 'null'")
    assert bad_inputs.reason_of("--lr=x") is None


@pytest.mark.parametrize("recipe", ["train_dino", "score_trials"])
def test_bad_values_end_in_one_clear_line(recipe, tmp_path):
    cases = [case for case in CASES if case.program == recipe and case.key]
    for case in cases[::20]:
        status, said = bad_inputs.run_case(case, tmp_path)
        assert bad_inputs.outcome(case, status, said) == "one clear line", said
