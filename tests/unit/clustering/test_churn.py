"""Matching of clusters from round to round, against a brute force."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from speechbrain_ext.clustering.churn import (
    churn_statistics,
    match_clusters,
    previous_clusters,
)
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.utils.errors import InputError


def table(now, before):
    counts = np.zeros((now.max() + 1, before.max() + 1), dtype=int)
    np.add.at(counts, (now, before), 1)
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_churn_equals_the_best_of_all_matchings_of_clusters(seed):
    generator = np.random.default_rng(seed)
    now, before = generator.integers(0, 5, 30), generator.integers(0, 6, 30)
    counts = table(now, before)
    best = max(
        sum(counts[i, j] for i, j in enumerate(columns))
        for columns in itertools.permutations(range(6), 5)
    )
    churn = churn_statistics(now, before)["churn"]
    assert churn == pytest.approx(1 - best / 30, abs=1e-6)


@pytest.mark.parametrize("n_before", [3, 40, 200])
def test_the_sparse_matching_is_as_good_as_the_dense_one(n_before):
    generator = np.random.default_rng(1)
    now = np.sort(generator.integers(0, 60, 900))
    before = (now + generator.integers(0, 5, 900)) % n_before
    now = np.unique(now, return_inverse=True)[1]
    before = np.unique(before, return_inverse=True)[1]
    counts = table(now, before)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    matched = match_clusters(now, before)
    pairs = [(i, j) for i, j in enumerate(matched) if j >= 0]
    assert sum(counts[i, j] for i, j in pairs) == counts[rows, columns].sum()
    assert len({j for _, j in pairs}) == len(pairs)


def test_renamed_clusters_are_no_churn():
    now = np.array([0, 0, 1, 2, 2, 2])
    names = np.array(["c", "a", "b"])[now]
    assert churn_statistics(now, names) == {
        "churn": 0.0,
        "round_nmi": 1.0,
        "round_ari": 1.0,
        "n_compared": 6,
    }


def test_a_split_cluster_has_the_share_of_its_smaller_part_as_churn():
    before = np.zeros(10, dtype=int)
    now = np.array([0] * 7 + [1] * 3)
    assert churn_statistics(now, before)["churn"] == pytest.approx(0.3)
    assert churn_statistics(before, now)["churn"] == pytest.approx(0.3)


def test_utterances_dropped_before_are_not_compared(tmp_path):
    path = tmp_path / "pseudo_labels.csv"
    path.write_text(
        "ID,duration,wav,start,stop,spk_id\n"
        "c,1,c.wav,0,16000,p1\na,1,a.wav,0,16000,p0\n"
        "z,1,z.wav,0,16000,p9\n"
    )
    now = Manifest(pd.DataFrame({"ID": ["a", "b", "c"]}), "utterances")
    rows, clusters = previous_clusters(path, now)
    assert rows.tolist() == [0, 2]
    assert clusters.tolist() == ["p0", "p1"]
    other = Manifest(pd.DataFrame({"ID": ["x"]}), "utterances")
    with pytest.raises(InputError, match="none of the 1 .* first is 'c'"):
        previous_clusters(path, other)
