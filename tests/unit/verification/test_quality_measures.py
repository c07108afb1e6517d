"""Quality measures do not know which side is enrolment."""

import numpy as np

from speechbrain_ext.verification.quality_measures import quality_measures


def test_sides_may_be_swapped():
    generator = np.random.default_rng(0)
    measures = {"a": generator.normal(size=9), "b": generator.normal(size=9)}
    enrol, test = generator.integers(0, 9, (2, 30))
    names, one = quality_measures(measures, enrol, test)
    _, other = quality_measures(measures, test, enrol)
    np.testing.assert_array_equal(one, other)
    assert names == ["smaller a", "larger a", "smaller b", "larger b"]
    assert (one[:, 0] <= one[:, 1]).all() and (one[:, 2] < one[:, 3]).any()
    both = np.sort([measures["a"][enrol[4]], measures["a"][test[4]]])
    np.testing.assert_allclose(one[4, :2], both, rtol=1e-6)
