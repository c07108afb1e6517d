"""Schedules against numpy's curves."""

import numpy as np
import pytest

from speechbrain_ext.training.schedules import cosine, exponential


@pytest.mark.parametrize("n_warmup", [0, 7])
@pytest.mark.parametrize(("start", "end"), [(0.2, 1e-5), (0.996, 1.0)])
def test_curves_are_those_of_numpy(n_warmup, start, end):
    n_steps = 40
    ramp = np.linspace(0, start, n_warmup, endpoint=False)
    phase = np.linspace(0, np.pi, n_steps - n_warmup)
    half = end + (start - end) * 0.5 * (1 + np.cos(phase))
    fall = np.geomspace(start, end, n_steps - n_warmup)
    for schedule, tail in ((cosine, half), (exponential, fall)):
        found = [
            schedule(step, n_steps, start, end, n_warmup)
            for step in range(n_steps)
        ]
        np.testing.assert_allclose(found, np.concatenate([ramp, tail]))
