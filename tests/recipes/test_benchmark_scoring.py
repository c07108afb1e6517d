"""The benchmark runs, agrees with SpeechBrain, and marks what it guesses."""

import json
import runpy

import pytest


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "benchmark.json"
    sizes = {
        "n_trials": 3000,
        "n_utterances": 4000,
        "dimension": 16,
        "n_cohort": 50,
        "top_k": 10,
        "limit_seconds": 0.1,
    }
    argv = [f"--{key}={value}" for key, value in sizes.items()]
    module = runpy.run_path("benchmarks/scoring.py")
    # In this process: the benchmark itself gives each part one of its own.
    module["main"].__globals__["alone"] = lambda f, *arguments: f(*arguments)
    module["main"]([*argv, f"--output={path}"])
    return json.loads(path.read_text())


def test_every_part_is_timed(report):
    ours = report["ours"]
    parts = [key for key in ours if key.endswith("_seconds")]
    assert len(parts) == 7
    assert all(ours[key] >= 0 for key in parts)
    assert ours["peak_mb"] > 100
    assert 0 < ours["eer"] < 0.3


@pytest.mark.parametrize("metric", ["EER", "minDCF"])
def test_error_rates_equal_those_of_speechbrain(report, metric):
    theirs = report["speechbrain"][metric]
    assert theirs["equal"] is True
    assert theirs["n_trials"] >= 1000
    assert theirs["ratio"] > 1


def test_normalised_scores_equal_those_of_the_speechbrain_recipe(report):
    theirs = report["speechbrain"]["s-norm"]
    assert theirs["n_trials"] > 10
    assert theirs["largest_difference"] < 1e-3


@pytest.mark.parametrize("part", ["EER", "minDCF", "s-norm"])
def test_extrapolated_times_are_marked_as_not_measured(report, part):
    far = report["speechbrain"][part]["extrapolated"]
    assert far["how"].startswith("not measured")
    assert far["n_trials"] == 3000
