"""The campaign of bad inputs: it covers all programs, and judges rightly."""

import collections
import os

import numpy as np
import pytest

from benchmarks import bad_files, bad_inputs
from speechbrain_ext.experiment.recipe_settings import RECIPE_SETTINGS

CASES = bad_inputs.all_cases()


def test_every_recipe_and_command_gets_bad_inputs():
    programs = {case.program for case in CASES}
    commands = {"verify", "embed", "group", "export"}
    assert programs == {*RECIPE_SETTINGS, *commands}
    assert len(CASES) >= 500
    names = collections.Counter((case.program, case.name) for case in CASES)
    assert names.most_common(1)[0][1] <= 2  # stages of one recipe


@pytest.mark.parametrize(
    "status, said, expected",
    [
        (2, "error: lr is x; it must be a number; give one", "one clear line"),
        (2, "error: data_folder is missing", "another error"),
        (1, "Traceback (most recent call last):\n  x", "raw traceback"),
        (0, "done", "accepted"),
        (None, "", "hang"),
        (-7, "", "no error line"),
        (1, "error: internal error, TypeError: lr", "status 1"),
        (3, "error: lr; No space left on device", "status 3"),
    ],
)
def test_an_end_is_classified(status, said, expected):
    case = bad_inputs.Case("train_dino", "--lr=x", [], "lr")
    assert bad_inputs.outcome(case, status, said) == expected


def test_what_is_accepted_has_a_reason_or_is_a_fault():
    found = [
        {"program": "train_dino", "case": name, "outcome": "accepted"}
        for name in ("its YAML: empty", "--lr=x")
    ]
    summary = bad_inputs.summary(found)
    assert summary["faults"] == found[1:]
    (reason,) = summary["accepted, with the reason"]
    assert "a YAML may leave out all" in reason


def test_bad_values_end_in_one_clear_line(tmp_path):
    bad_inputs.import_all(["make_oracle_labels"])
    cases = [case for case in CASES if case.program == "make_oracle_labels"]
    for case in [case for case in cases if case.key][::5]:
        status, said = bad_inputs.run_case(case, tmp_path)
        assert bad_inputs.outcome(case, status, said) == "one clear line", said


@pytest.mark.parametrize("how", bad_files.harms_of("a.npy"))
def test_a_file_is_harmed_and_its_link_is_not(how, tmp_path):
    """Stages of the chain are links, which all cases share."""
    kept, path = tmp_path / "kept.npy", tmp_path / "a.npy"
    np.save(kept, np.ones((4, 3), np.float32))
    before = kept.read_bytes()
    os.link(kept, path)
    bad_files.harms_of("a.npy")[how](str(path))
    assert kept.read_bytes() == before
    assert not path.is_file() or path.read_bytes() != before
