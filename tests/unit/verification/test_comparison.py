"""Comparisons: what is written, what is said."""

import json

import numpy as np
import pytest

from speechbrain_ext.verification.bootstrap import Units
from speechbrain_ext.verification.comparison import Comparison, comparison_rows
from speechbrain_ext.verification.metrics import equal_error_rate, min_dcf

FACTS = {
    "first": "round 1, raw",
    "second": "round 2, raw",
    "trials": "dev",
    "trials_sha256": "0",
}


def compared(gain=0.0, seed=0):
    generator = np.random.default_rng(seed)
    enrol = generator.integers(0, 30, 3000)
    test = np.where(np.arange(3000) % 3, generator.integers(0, 30, 3000), enrol)
    labels = (enrol == test).astype(int)
    first = generator.normal(size=3000) + 2 * labels
    second = first + gain * labels + 0.1 * generator.normal(size=3000)
    units = Units("speakers", enrol, test)
    found = Comparison.of_scores(
        first, second, labels, units, 0.05, n_bootstrap=200, **FACTS
    )
    return found, first, second, labels


def test_rates_of_both_systems_and_their_difference_are_measured():
    found, first, second, labels = compared(gain=0.5)
    eers = [100 * equal_error_rate(s, labels)[0] for s in (first, second)]
    costs = [min_dcf(s, labels, 0.05)[0] / 0.05 for s in (first, second)]
    assert found.eer_percent == pytest.approx(eers)
    assert found.min_dcf == pytest.approx(costs)
    change = found.eer_difference
    assert change.value == pytest.approx(eers[1] - eers[0])
    assert change.low < change.value < change.high < 0
    assert change.p_value < 0.01
    change = found.min_dcf_difference
    assert change.value == pytest.approx(costs[1] - costs[0])
    assert change.low < change.value < change.high
    assert found.n_target + found.n_nontarget == 3000


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (0.5, "round 2, raw is better"),
        (-0.5, "round 2, raw is worse"),
        (0.0, "no difference is shown"),
    ],
)
def test_the_verdict_is_put_into_words(gain, said):
    text = compared(gain)[0].in_words()
    assert text.endswith(said)
    assert text.startswith("round 2, raw against round 1, raw on dev: EER ")


def test_the_file_names_each_number(tmp_path):
    found = compared()[0]
    found.write(tmp_path / "comparison.json")
    value = json.loads((tmp_path / "comparison.json").read_text())
    assert value["kind"] == "comparison"
    assert value["eer_difference"]["value"] == found.eer_difference.value
    assert set(value["min_dcf_difference"]) == {
        "value",
        "low",
        "high",
        "p_value",
    }
    assert "30 speakers" in value["interval"]


def test_rows_show_signs_and_intervals():
    (row,) = comparison_rows([compared(gain=0.5)[0]])
    assert row["EER difference"].startswith("-")
    assert row["EER difference"].count(",") == 1
    assert row["p (EER)"] == f"{1 / 201:.3f}"
