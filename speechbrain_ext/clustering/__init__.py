"""Pseudo-labels of embeddings, and how good they are without true labels.

May import from: dataio, utils.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "k_means": "cluster_means kmeans",
        "n_clusters": "choose_n_clusters",
        "ward": "cut_tree ward_tree",
        "speechbrain_ext.utils.vectors": "unit_rows",
        "speechbrain_ext.utils.whitening": "whiten",
    },
)
