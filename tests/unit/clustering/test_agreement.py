"""Agreement of clusterings, against its definition and by chance."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_mutual_info_score

from speechbrain_ext.clustering.agreement import clustering_agreement


def views(noise, n=60):
    rng = np.random.default_rng(0)
    speakers = np.repeat(rng.normal(size=(n // 5, 8)), 5, axis=0)
    return [speakers + noise * rng.normal(size=(n, 8)) for _ in range(2)]


def test_it_is_the_adjusted_mutual_information_of_wards_clusters():
    first, second = views(0.7)
    labels = [
        fcluster(linkage(x, "ward"), 12, "maxclust") for x in (first, second)
    ]
    wanted = adjusted_mutual_info_score(*labels)
    assert 0.1 < wanted < 0.95
    found = clustering_agreement(first, second, 12)
    assert found == pytest.approx(wanted, abs=1e-6)


def test_it_falls_with_noise_to_that_of_chance():
    found = [clustering_agreement(*views(n), 12) for n in (0.05, 0.7, 100)]
    assert found[0] > 0.99
    assert found == sorted(found, reverse=True)
    assert abs(found[2]) < 0.15
