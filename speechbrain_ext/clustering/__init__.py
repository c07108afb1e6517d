"""Pseudo-labels of embeddings, and their quality without true labels.

Two levels cluster a million embeddings: k-means, then Ward's tree over its
centroids.

>>> import numpy as np
>>> from speechbrain_ext.clustering import (
...     choose_n_clusters, cut_tree, kmeans, ward_tree, whiten,
... )
>>> speakers = np.repeat(np.random.default_rng(0).normal(size=(8, 16)), 25, 0)
>>> x = speakers + 0.2 * np.random.default_rng(1).normal(size=speakers.shape)
>>> x = whiten(x, power=0.5)
>>> centroids, leaf_of, _ = kmeans(x, n_clusters=60, seed=1)
>>> tree = ward_tree(centroids, weights=np.bincount(leaf_of))
>>> choice = choose_n_clusters(tree, x, leaf_of, weighted=True)
>>> labels = cut_tree(tree, choice.n_clusters)[leaf_of]
>>> choice.n_clusters, np.bincount(labels).tolist()
(8, [25, 25, 25, 25, 25, 25, 25, 25])

May import from: dataio, utils.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "cluster_rows": "cluster_means",
        "k_means": "kmeans",
        "n_clusters": "choose_n_clusters",
        "ward": "cut_tree ward_tree",
        "speechbrain_ext.utils.vectors": "unit_rows",
        "speechbrain_ext.utils.whitening": "whiten",
    },
)
