"""Error rate of crop pairs, against loops over trials."""

import numpy as np
import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows
from speechbrain_ext.verification.metrics import equal_error_rate
from speechbrain_ext.verification.pair_eer import pair_eer


def pairs(n, noise, seed=0):
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(n, 6))
    return [
        unit_rows((own + noise * rng.normal(size=(n, 6))).astype(np.float32))
        for _ in range(2)
    ]


@pytest.mark.parametrize(("n", "n_others"), [(2, 100), (30, 5), (30, 100)])
def test_it_is_the_error_rate_of_the_trials_as_defined(n, n_others):
    first, second = pairs(n, 0.8)
    scores, labels = [], []
    for one in range(n):
        scores.append(first[one] @ second[one])
        labels.append(1)
        for shift in range(1, min(n_others, n - 1) + 1):
            scores.append(first[one] @ second[(one - shift) % n])
            labels.append(0)
    wanted, _ = equal_error_rate(np.array(scores), np.array(labels))
    assert pair_eer(first, second, n_others) == pytest.approx(wanted)


def test_it_rises_with_what_differs_between_the_crops():
    found = [pair_eer(*pairs(400, noise)) for noise in (0.1, 0.8, 3, 1e3)]
    assert found == sorted(found)
    assert found[0] < 0.02 and 0.45 < found[-1] < 0.55


def test_one_utterance_is_refused():
    with pytest.raises(InputError, match="n_pairs is 1; .*two.*; shorten"):
        pair_eer(*pairs(1, 0.1))
