"""How good pseudo-labels are: by their shape, and against the truth.

The first can be read while choosing a number of clusters without any label;
the second needs true speakers and serves reports only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from speechbrain_ext.files import InputError, PathLike
from speechbrain_ext.manifest import Manifest, read_manifest

_BLOCK = 2**23  # cosines held at once


def cluster_sizes(labels: Any) -> np.ndarray:
    """Utterances in each cluster [K], largest first.

    Example
    -------
    >>> cluster_sizes(["b", "a", "b"])
    array([2, 1])
    """
    sizes = np.unique(np.asarray(labels), return_counts=True)[1]
    return np.sort(sizes)[::-1]


def size_figures(labels: Any) -> dict[str, float]:
    """Counts that need labels alone.

    Arguments
    ---------
    labels : array-like
        Cluster of each utterance [N], any values.

    Returns
    -------
    dict
        ``n_utterances``, ``n_clusters``, ``size_min``, ``size_median``,
        ``size_max`` and ``n_singletons`` (clusters of one utterance).

    Example
    -------
    >>> size_figures([0, 0, 0, 1])["size_median"]
    2.0
    """
    sizes = cluster_sizes(labels)
    return {
        "n_utterances": int(sizes.sum()),
        "n_clusters": len(sizes),
        "size_min": int(sizes[-1]),
        "size_median": float(np.median(sizes)),
        "size_max": int(sizes[0]),
        "n_singletons": int((sizes == 1).sum()),
    }


def shape_figures(
    x: np.ndarray, labels: np.ndarray, centroids: np.ndarray
) -> dict[str, float]:
    """How tight the clusters are and how far apart.

    A cluster of one utterance has cohesion 1: read these figures beside
    ``n_singletons``.

    Arguments
    ---------
    x : numpy.ndarray
        Unit embeddings [N, D].
    labels : numpy.ndarray
        Cluster of each [N], 0 to K - 1.
    centroids : numpy.ndarray
        Mean of each cluster [K, D], K of 2 or more.

    Returns
    -------
    dict
        ``cohesion``: mean cosine of an utterance to its own centroid.
        ``margin``: mean of that cosine minus the one to the nearest other
        centroid; negative where utterances sit in the wrong cluster.

    Example
    -------
    >>> x = np.eye(2, dtype=np.float32)
    >>> shape_figures(x, np.array([0, 1]), x)
    {'cohesion': 1.0, 'margin': 1.0}
    """
    directions = torch.nn.functional.normalize(torch.tensor(centroids))
    own_sum = other_sum = 0.0
    step = max(_BLOCK // len(directions), 1)
    for first in range(0, len(x), step):
        rows = slice(first, first + step)
        cosines = torch.tensor(x[rows]) @ directions.T
        own_index = torch.as_tensor(labels[rows])[:, None]
        own_sum += float(cosines.gather(1, own_index).double().sum())
        cosines.scatter_(1, own_index, -torch.inf)
        other_sum += float(cosines.amax(dim=1).double().sum())
    return {
        "cohesion": round(own_sum / len(x), 6),
        "margin": round((own_sum - other_sum) / len(x), 6),
    }


def purity(labels: Any, speakers: Any) -> float:
    """Share of utterances whose speaker is the commonest of their cluster.

    Manning, Raghavan and Schuetze, Introduction to Information Retrieval,
    equation 16.1. It is 1 when every cluster is a singleton: read it beside
    the number of clusters.

    Arguments
    ---------
    labels : array-like
        Cluster of each utterance [N].
    speakers : array-like
        True speaker of each utterance [N].

    Returns
    -------
    float
        Above 0, at most 1.

    Example
    -------
    >>> purity([0, 0, 0, 1], ["ann", "ann", "bob", "bob"])
    0.75
    """
    cluster = np.unique(np.asarray(labels), return_inverse=True)[1]
    names, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    pairs, counts = np.unique(
        cluster * len(names) + speaker, return_counts=True
    )
    commonest = np.zeros(cluster.max() + 1, dtype=np.int64)
    np.maximum.at(commonest, pairs // len(names), counts)
    return float(commonest.sum() / len(cluster))


def truth_figures(labels: Any, speakers: Any) -> dict[str, float]:
    """Agreement of pseudo-labels with true speakers.

    Arguments
    ---------
    labels : array-like
        Cluster of each utterance [N].
    speakers : array-like
        True speaker of each utterance [N].

    Returns
    -------
    dict
        ``n_speakers``, ``nmi`` (mutual information over the arithmetic mean
        of the two entropies), ``ari`` (Hubert and Arabie 1985) and
        ``purity``.

    Raises
    ------
    InputError
        The two differ in length.

    Example
    -------
    >>> truth_figures([0, 0, 1], ["ann", "ann", "bob"])
    {'n_speakers': 2, 'nmi': 1.0, 'ari': 1.0, 'purity': 1.0}
    """
    if len(labels) != len(speakers):
        raise InputError(
            f"{len(labels)} labels and {len(speakers)} speakers: give one of "
            "each for every utterance, in one order"
        )
    return {
        "n_speakers": len(np.unique(np.asarray(speakers))),
        "nmi": round(float(normalized_mutual_info_score(speakers, labels)), 6),
        "ari": round(float(adjusted_rand_score(speakers, labels)), 6),
        "purity": round(purity(labels, speakers), 6),
    }


def true_speakers(path: PathLike, manifest: Manifest) -> np.ndarray:
    """The true speaker of each utterance of a manifest.

    Arguments
    ---------
    path : str or os.PathLike
        ``oracle.csv``; it may hold further utterances.
    manifest : Manifest
        The utterances [N].

    Returns
    -------
    numpy.ndarray
        Speaker names [N].

    Raises
    ------
    InputError
        The oracle lacks an utterance.

    Example
    -------
    >>> import pandas as pd
    >>> path = getfixture("tmp_path") / "oracle.csv"
    >>> _ = path.write_text("ID,spk_id\\na,ann\\nb,bob\\n")
    >>> wanted = Manifest(pd.DataFrame({"ID": ["b"]}), "utterances")
    >>> true_speakers(path, wanted).tolist()
    ['bob']
    """
    oracle = read_manifest(path, "oracle")
    rows = oracle.rows_of(manifest.ids)
    if (rows < 0).any():
        raise InputError(
            f"{path} lacks {int((rows < 0).sum())} of {len(manifest)} "
            f"utterances, the first is {manifest.ids[np.argmin(rows)]!r}; "
            "give the oracle.csv of the same corpus, or null"
        )
    return oracle.spk_id[rows]
