"""Self-supervised positive sampling (SSPS): positives from neighbours.

Two crops of one utterance share its channel, and a model may learn that.
Lepage and Dehak, "SSPS: Self-Supervised Positive Sampling for Robust
Self-Supervised Speaker Verification", Interspeech 2025: embeddings of clean
utterances are clustered by k-means into many more clusters than there are
speakers, about one a recording session, and the positive of an utterance is
drawn from a cluster near its own: likely of the same speaker, in another
session.
"""

from __future__ import annotations

import numpy as np
import torch

from speechbrain_ext.clustering.k_means import kmeans
from speechbrain_ext.training.settings import ViewSettings
from speechbrain_ext.utils.distributed import from_first_process
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.groups import members
from speechbrain_ext.utils.keyed_random import step_seed
from speechbrain_ext.utils.precision import single_precision
from speechbrain_ext.utils.vectors import row_blocks, unit_rows


class Positives(torch.nn.Module):
    """Row of each utterance's positive, redrawn each epoch.

    The rows are a buffer: a checkpoint in mid-epoch resumes with them.

    Arguments
    ---------
    n_utterances : int
        Rows N of the training manifest.
    seed : int
        With the epoch, it decides the draws.
    """

    # Whether `draw` needs the utterances' embeddings.
    by_embeddings = False
    rows: torch.Tensor
    epoch: torch.Tensor

    def __init__(self, n_utterances: int, seed: int):
        super().__init__()
        self.seed = seed
        self.register_buffer("rows", torch.arange(n_utterances))
        self.register_buffer("epoch", torch.tensor(-1))

    def draw(
        self,
        embeddings: np.ndarray | None,
        epoch: int,
        device: str | torch.device = "cpu",
    ) -> None:
        """Draw the rows in the first process and share them with all.

        Arguments
        ---------
        embeddings : numpy.ndarray or None
            Of the clean utterances [N, D], in the order of the manifest;
            needed if ``by_embeddings``.
        epoch : int
            The epoch to come.
        device : str or torch.device
            Where to cluster.
        """
        rows = from_first_process(self._rows, embeddings, epoch, device)
        self.rows.copy_(torch.from_numpy(rows))
        self.epoch.fill_(epoch)

    def _rows(
        self,
        embeddings: np.ndarray | None,
        epoch: int,
        device: str | torch.device,
    ) -> np.ndarray:
        raise NotImplementedError


class PositiveSampler(Positives):
    """Sampler of positives from clusters near the utterance's own (SSPS).

    Arguments
    ---------
    n_utterances : int
        Rows N of the training manifest.
    n_clusters : int
        Clusters of k-means; the paper has 25,000 for 1.09 million.
    n_neighbours : int
        Number of nearest other clusters that a positive may be from; with 0
        it is from the utterance's own.
    seed : int
        With the epoch, it decides clusters and draws.
    n_iterations : int
        Iterations of k-means, at most.

    Raises
    ------
    InputError
        The numbers of clusters and neighbours do not go together.

    Example
    -------
    >>> x = np.array([[9, 1], [9, 2], [9, 5], [9, 6], [-9, 5]], np.float32)
    >>> sampler = PositiveSampler(5, n_clusters=3, n_neighbours=1, seed=0)
    >>> sampler.draw(x, epoch=7)
    >>> sampler.rows[0] in (2, 3) and sampler.rows[4] in (2, 3)
    True
    """

    by_embeddings = True

    def __init__(
        self,
        n_utterances: int,
        n_clusters: int,
        n_neighbours: int,
        seed: int,
        n_iterations: int = 25,
    ):
        super().__init__(n_utterances, seed)
        if not 0 <= n_neighbours < n_clusters <= n_utterances:
            raise InputError(
                f"there are {n_clusters} clusters of {n_utterances} utterances "
                f"and {n_neighbours} neighbours; clusters must be at most the "
                "utterances, and neighbours fewer than clusters; lower "
                "--ssps_clusters or --ssps_neighbours"
            )
        self.n_clusters = n_clusters
        self.n_iterations = n_iterations
        self.n_neighbours = n_neighbours

    def _rows(
        self,
        embeddings: np.ndarray | None,
        epoch: int,
        device: str | torch.device,
    ) -> np.ndarray:
        if embeddings is None:
            raise ValueError("clusters are of embeddings")
        seed = step_seed(self.seed, epoch)
        found = kmeans(
            unit_rows(embeddings),
            self.n_clusters,
            seed,
            self.n_iterations,
            device=device,
        )
        near = nearest_clusters(found.centroids, self.n_neighbours, device)
        uniform = np.random.default_rng(seed).random((len(embeddings), 2))
        return draw_rows(found.labels, near, uniform)


def ssps_positives(
    settings: ViewSettings, n_utterances: int
) -> PositiveSampler:
    """Build the positive sampler that a recipe's SSPS settings describe."""
    return PositiveSampler(
        n_utterances,
        settings.ssps_clusters,
        settings.ssps_neighbours,
        settings.seed,
        settings.ssps_iterations,
    )


def nearest_clusters(
    centroids: np.ndarray,
    n_neighbours: int,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Find the M nearest clusters of each of K, by cosines of centroids.

    Arguments
    ---------
    centroids : numpy.ndarray
        [K, D].
    n_neighbours : int
        Other clusters M; with 0 each cluster's is itself.
    device : str or torch.device
        Where to compute.

    Returns
    -------
    numpy.ndarray
        [K, M], or [K, 1] with 0.

    Example
    -------
    >>> nearest_clusters(np.array([[1, 0], [1, 1], [-1, 0]], np.float32), 1)
    array([[1],
           [0],
           [1]])
    """
    own = np.arange(len(centroids))[:, None]
    if n_neighbours == 0:
        return own
    unit = torch.from_numpy(unit_rows(centroids)).to(device)
    found = np.empty((len(unit), n_neighbours), dtype=np.int64)
    with single_precision(unit):
        for rows in row_blocks(len(unit), len(unit), unit.device):
            cosines = unit[rows] @ unit.T
            itself = torch.from_numpy(own[rows]).to(unit.device)
            cosines.scatter_(1, itself, -torch.inf)
            found[rows] = cosines.topk(n_neighbours).indices.cpu().numpy()
    return found


def draw_rows(
    labels: np.ndarray, near: np.ndarray, uniform: np.ndarray
) -> np.ndarray:
    """Draw a member of a nearby cluster for each utterance.

    Arguments
    ---------
    labels : numpy.ndarray
        Clusters of the utterances [N], none of the K empty.
    near : numpy.ndarray
        Clusters to draw from [K, M].
    uniform : numpy.ndarray
        Numbers in [0, 1) [N, 2]: for the cluster and for its member.

    Returns
    -------
    numpy.ndarray
        Rows [N].

    Example
    -------
    >>> labels, near = np.array([0, 0, 1]), np.array([[1], [0]])
    >>> draw_rows(labels, near, np.full((3, 2), 0.9))
    array([2, 2, 1])
    """
    column = (uniform[:, 0] * near.shape[1]).astype(np.int64)
    cluster = near[labels, column]
    rows, starts, sizes = members(labels, len(near))
    place = (uniform[:, 1] * sizes[cluster]).astype(np.int64)
    return rows[starts[cluster] + place]
