"""The map: near stays near, the same seed the same map, few are enough."""

import numpy as np
import pytest

from speechbrain_ext.clustering.plots import project


def test_groups_stay_together_and_apart():
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
def test_few_utterances_have_a_map_too(shape):
    x = np.random.default_rng(1).normal(size=shape)
    points = project(x)
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
