"""Rows to be clustered, and how partitions are compared."""

import numpy as np
from sklearn.metrics import adjusted_rand_score

from speechbrain_ext.utils.vectors import unit_rows


def groups(n_groups, size, dimension=8, spread=0.1, seed=0):
    """Rows around random centres, and the group of each."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(n_groups, dimension))
    truth = np.repeat(np.arange(n_groups), size)
    noise = spread * generator.normal(size=(len(truth), dimension))
    return (centres[truth] + noise).astype(np.float32), truth


def assert_same_partition(first, second):
    assert adjusted_rand_score(first, second) == 1.0


def random_rows(n_rows=150):
    x = np.random.default_rng(0).normal(size=(n_rows, 16))
    return x.astype(np.float32)


def many_groups():
    return unit_rows(groups(80, 10, dimension=32, spread=0.6, seed=3)[0])


def near_speakers():
    """Rows of groups within groups, unit length, as speakers' sessions are."""
    generator = np.random.default_rng(6)
    speaker = generator.normal(size=(60, 1, 1, 24))
    session = 0.5 * generator.normal(size=(60, 10, 1, 24))
    noise = 0.6 * generator.normal(size=(60, 10, 10, 24))
    return unit_rows((speaker + session + noise).reshape(-1, 24))
