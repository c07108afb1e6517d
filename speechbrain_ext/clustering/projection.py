"""Embeddings in the plane, to be looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

_PERPLEXITY = 30.0
_COMPONENTS = 50


def project(vectors: NDArray, seed: int = 0) -> NDArray:
    """Two coordinates an utterance: t-SNE of the first principal components.

    van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008.
    Near points are alike; distances between groups and the sizes of groups
    mean nothing. For some thousands of rows at most.

    Arguments
    ---------
    vectors : numpy.ndarray
        One unit vector an utterance [N, D], N at least 4.
    seed : int
        Seed of both steps.

    Returns
    -------
    numpy.ndarray
        [N, 2], float32.

    Example
    -------
    >>> project(np.random.default_rng(0).normal(size=(12, 5))).shape
    (12, 2)
    """
    n_rows, size = vectors.shape
    n_components = min(_COMPONENTS, n_rows, size)
    pca = PCA(n_components, random_state=seed)
    perplexity = min(_PERPLEXITY, (n_rows - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return tsne.fit_transform(pca.fit_transform(vectors)).astype(np.float32)
