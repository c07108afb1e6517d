"""Ward's search for the nearest: what it remembers, how exactly it computes."""

import numpy as np
import pytest
import torch
from grouped_rows import many_groups, random_rows

from speechbrain_ext.clustering import ward_search
from speechbrain_ext.clustering.ward import ward_tree


@pytest.mark.parametrize("n_listed", [1, 3, 40])
def test_the_tree_does_not_depend_on_the_length_of_neighbour_lists(
    monkeypatch, n_listed
):
    x = many_groups()
    weights = np.random.default_rng(0).integers(1, 50, len(x))
    whole = ward_tree(x, weights)
    monkeypatch.setattr(ward_search, "_LISTED", n_listed)
    np.testing.assert_array_equal(ward_tree(x, weights), whole)


def test_neighbour_lists_make_most_searches_unnecessary(monkeypatch):
    searched = []
    search = ward_search.Forest._search

    def counted(clusters, slots):
        searched.append(len(slots))
        search(clusters, slots)

    monkeypatch.setattr(ward_search.Forest, "_search", counted)
    x = many_groups()
    ward_tree(x)
    assert searched[0] == len(x)
    assert sum(searched[1:]) < 0.5 * len(x)


def test_the_search_computes_in_full_precision_and_restores_the_setting(
    monkeypatch,
):
    seen = set()
    merge_round = ward_search.Forest.merge_round

    def watched(clusters):
        seen.add(torch.get_float32_matmul_precision())
        return merge_round(clusters)

    monkeypatch.setattr(ward_search.Forest, "merge_round", watched)
    was = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        ward_tree(random_rows())
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(was)
    assert seen == {"highest"}


def test_equidistant_vectors_are_merged_in_pairs_in_each_round(monkeypatch):
    rounds = []
    merge_round = ward_search.Forest.merge_round

    def counted(clusters):
        rounds.append(merge_round(clusters))
        return rounds[-1]

    monkeypatch.setattr(ward_search.Forest, "merge_round", counted)
    tree = ward_tree(np.eye(64, dtype=np.float32))
    np.testing.assert_allclose(tree[:32, 2], np.sqrt(2))
    assert rounds == [32, 16, 8, 4, 2, 1]
