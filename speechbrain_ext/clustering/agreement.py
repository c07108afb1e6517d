"""Agreement of the clusterings of two views of the same utterances."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from speechbrain_ext.clustering.ward import cut_tree, ward_tree


def clustering_agreement(
    first: np.ndarray, second: np.ndarray, n_clusters: int
) -> float:
    """Return the mutual information of the clusterings of two sets of vectors.

    Adjusted for chance (Vinh, Epps and Bailey, JMLR 2010), of Ward's trees. No
    label is used: vectors that tell speakers are clustered alike, whichever
    crops of the utterances they are of.

    Arguments
    ---------
    first, second : numpy.ndarray
        Vectors [N, D] of two views, the same utterance in the same row.
    n_clusters : int
        Number of clusters of each.

    Returns
    -------
    float
        1 if they are the same, about 0 by chance.

    Example
    -------
    >>> x = np.repeat(np.eye(3), 4, axis=0) + 0.1 * np.eye(12, 3)
    >>> round(clustering_agreement(x, -x, n_clusters=3), 3)
    1.0
    """
    labels = [cut_tree(ward_tree(x), n_clusters) for x in (first, second)]
    return float(adjusted_mutual_info_score(*labels))
