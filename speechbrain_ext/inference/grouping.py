"""Who is who: groups of embeddings, one for each speaker.

The clustering is that of the pseudo-labels: Ward's tree, cut at a given
number of speakers or at one that is estimated without labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows


class Groups(NamedTuple):
    """Groups of utterances.

    ``labels`` [N] has the number of each utterance's group, 0 the largest;
    ``similarity`` [N] its cosine to the mean of its group; ``other`` [N] the
    highest cosine to the mean of another group, -1 if there is none.
    """

    labels: np.ndarray
    similarity: np.ndarray
    other: np.ndarray

    @property
    def n_speakers(self) -> int:
        """Number of groups."""
        return int(self.labels.max()) + 1


def group_embeddings(
    embeddings: np.ndarray, n_speakers: int | None = None, seed: int = 0
) -> Groups:
    """Group embeddings by speaker.

    Arguments
    ---------
    embeddings : numpy.ndarray
        [N, D], of any length, each of one speaker.
    n_speakers : int, optional
        Number of speakers; None estimates it, which takes twenty utterances
        or more.
    seed : int
        Of the estimate's halves.

    Returns
    -------
    Groups

    Raises
    ------
    InputError
        There are too few embeddings, or fewer than speakers.

    Example
    -------
    >>> voices = np.eye(3, dtype=np.float32).repeat([4, 3, 3], axis=0)
    >>> noise = np.random.default_rng(0).normal(size=voices.shape)
    >>> group_embeddings(voices + 0.1 * noise, n_speakers=3).labels
    array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    """
    # faiss and scikit-learn, which verification does without.
    from speechbrain_ext.clustering import (
        choose_n_clusters,
        cut_tree,
        ward_tree,
    )
    from speechbrain_ext.clustering.n_clusters_curves import MIN_LEAVES

    x = unit_rows(np.asarray(embeddings, dtype=np.float32))
    fewest = MIN_LEAVES if n_speakers is None else max(n_speakers, 1)
    if len(x) < fewest or (n_speakers is not None and n_speakers < 1):
        raise InputError(
            f"{len(x)} utterances cannot be grouped with n_speakers "
            f"{n_speakers}; give at least as many utterances as speakers, "
            f"and {MIN_LEAVES} to have their number estimated"
        )
    if n_speakers == 1 or len(x) == 1:
        return _described(x, np.zeros(len(x), dtype=np.int64))
    tree = ward_tree(x)
    if n_speakers is None:
        n_speakers = choose_n_clusters(tree, x, seed=seed).n_clusters
    return _described(x, cut_tree(tree, n_speakers))


def _described(x: np.ndarray, labels: np.ndarray) -> Groups:
    """Number groups by size, and measure how sure each utterance is."""
    sizes = np.bincount(labels)
    # Of groups of one size, the one that begins first.
    first = np.array(
        [np.flatnonzero(labels == k)[0] for k in range(len(sizes))]
    )
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    labels = rank[labels]
    means = np.zeros((len(sizes), x.shape[1]))
    np.add.at(means, labels, x)
    cosines = x @ unit_rows(means.astype(np.float32)).T
    rows = np.arange(len(x))
    own = cosines[rows, labels]
    cosines[rows, labels] = -1
    return Groups(labels, own, cosines.max(axis=1))
