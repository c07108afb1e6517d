"""Settings of score_trials and compare_scores: rules over several keys."""

import pytest

from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.settings import CompareScores, ScoreTrials

NEEDED = {"output_folder": "o", "embeddings_folder": "e", "trials": "a/dev.txt"}


def settings(**values):
    return ScoreTrials.from_values({**NEEDED, **values})


@pytest.mark.parametrize(
    ("trials", "lists"),
    [
        ("lists/O.txt", {"O": "lists/O.txt"}),
        (["a/O.txt", "E.txt"], {"O": "a/O.txt", "E": "E.txt"}),
        ({"hard": "H.txt"}, {"hard": "H.txt"}),
    ],
)
def test_trial_lists_have_names(trials, lists):
    assert settings(trials=trials).lists() == lists
    leaf = read_leaf(ScoreTrials, "score_trials.yaml", settings_over(trials))
    assert leaf.settings.lists() == lists


def settings_over(trials):
    return {**NEEDED, "trials": trials}


REFUSED = [
    ({"trials": 3}, "trials is 3; it must be text or a list"),
    ({"trials": []}, "must be at least one list"),
    ({"trials": ["a/x.txt", "b/x.txt"]}, "two must not share a file name"),
    ({"trials": {"a/b": "x"}}, "trials has the name 'a/b'"),
    ({"backends": {}}, "backends is {}; it must be text or a list"),
    ({"backends": []}, "it must be a name or a list of names"),
    ({"backends": "qmf"}, "each must be one of raw"),
    ({"backends": "as-norm"}, "cohort_folder is null; backends as-norm"),
    ({"backends": "raw+linear"}, "cohort_folder is null"),
    ({"whiten": 0.5}, "cohort_folder is null.*with whiten 0.5"),
    ({"whiten": True}, "whiten is true; it must be a number from 0 to 1"),
    ({"cohort": "all"}, "cohort is 'all'; it must be means or utterances"),
    (
        {"backends": "as-norm", "cohort_folder": "c"},
        "cohort_labels is null",
    ),
    (
        {
            "backends": "raw+qmf",
            "cohort_folder": "c",
            "cohort_labels": "l",
        },
        "annotation is null",
    ),
    (
        {"backends": "raw+linear", "calibration_trials": "t"},
        "calibration_folder is null",
    ),
    (
        {
            "backends": "raw+qmf",
            "annotation": "a",
            "cohort_folder": "c",
            "cohort_labels": "l",
            "calibration_trials": "t",
            "calibration_folder": "f",
        },
        "calibration_annotation is null",
    ),
    ({"duration_edges": [8.0, 4.0]}, "duration_edges is .*before; for"),
    ({"duration_edges": 4}, "duration_edges is 4; it must be a list"),
    ({"n_bootstrap": 0}, "n_bootstrap is 0"),
    ({"p_target": 1}, "p_target is 1; it must be a number above 0 and below 1"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED)
def test_values_that_do_not_fit_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        settings(**values)


def test_a_cohort_of_utterances_needs_no_labels():
    found = settings(backends="as-norm", cohort_folder="c", cohort="utterances")
    assert found.needs_cohort_folder and not found.learns_from_pairs


def test_a_given_list_takes_the_place_of_pairs():
    found = settings(
        backends="raw+linear", calibration_trials="t", calibration_folder="f"
    )
    assert found.learns_from_list and not found.needs_cohort_folder


def test_compare_scores_knows_the_same_back_ends():
    needed = {"output_folder": "o", "first": "a", "second": "b", "trials": "t"}
    assert CompareScores.from_values(needed).second_backend == "raw"
    with pytest.raises(InputError, match="second_backend is 'x'; each must"):
        CompareScores.from_values({**needed, "second_backend": "x"})
