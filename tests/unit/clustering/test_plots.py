"""Plots of clusters and of churn, and the map of embeddings."""

import numpy as np
import pytest

from speechbrain_ext.clustering.plots import (
    churn_by_round,
    cluster_number,
    cluster_sizes,
    embedding_map,
    project,
)
from speechbrain_ext.utils.errors import InputError


def test_clusters_are_sorted_by_size():
    axes = cluster_sizes({"round 1": [3, 9, 1, 5]}).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [9, 5, 3, 1]


def test_each_criterion_is_marked_at_the_number_it_chose():
    figure = cluster_number(
        [2, 4, 8], {"gap": [1, 3, 1], "cosine": [1, 2, 3]}, {"gap": 4}, 4
    )
    panels = figure.axes[:2]
    assert [axes.get_title() for axes in panels] == [
        "gap: 4",
        "cosine: no answer",
    ]
    assert [len(axes.lines) for axes in panels] == [3, 2]


def test_the_chosen_round_is_marked_in_per_cent():
    axes = churn_by_round({"round1": 0.3, "round2": 0.25}, "round2").axes[0]
    assert axes.lines[0].get_ydata().tolist() == [30, 25]
    assert axes.collections[0].get_offsets().tolist() == [[1, 25]]


def test_a_map_has_a_point_for_each_utterance_and_a_colour_for_each_name():
    points = np.arange(12).reshape(6, 2)
    figure = embedding_map(points, {"cluster": list("aabbcc")})
    drawn = figure.axes[0].collections
    assert len(drawn) == 3
    offsets = np.concatenate([group.get_offsets() for group in drawn])
    assert sorted(map(tuple, offsets)) == sorted(map(tuple, points))
    colours = {tuple(group.get_facecolors()[0]) for group in drawn}
    assert len(colours) == 3


@pytest.mark.parametrize(
    ("function", "empty"),
    [
        (cluster_sizes, {}),
        (cluster_sizes, {"round 1": []}),
        (churn_by_round, {}),
        (lambda x: embedding_map([], x), {}),
    ],
)
def test_nothing_to_draw_is_refused(function, empty):
    with pytest.raises(InputError, match="to draw"):
        function(empty)


def test_the_map_keeps_groups_apart_and_is_the_same_twice():
    generator = np.random.default_rng(0)
    centres = 5 * generator.normal(size=(3, 20))
    group = np.repeat(np.arange(3), 15)
    x = centres[group] + generator.normal(size=(45, 20))
    points = project(x)
    means = np.array([points[group == g].mean(axis=0) for g in range(3)])
    away = np.linalg.norm(points[:, None] - means, axis=2)
    assert (away.argmin(axis=1) == group).all()
    np.testing.assert_allclose(project(x), points, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(4, 3), (5, 100), (9, 2)])
def test_few_utterances_can_be_drawn_as_a_map(shape):
    x = np.random.default_rng(1).normal(size=shape)
    points = project(x)
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
