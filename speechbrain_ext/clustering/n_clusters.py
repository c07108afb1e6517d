"""Choice of the number of clusters in Ward's tree, without labels.

Speakers are the finest level at which independent halves of the data still
agree and at which clusters are tight for their distance; gender and language
are coarser, sessions finer. The curves of `n_clusters_curves` show that level
as an inner peak, and where they show none the data does not tell.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.signal import find_peaks

from speechbrain_ext.clustering.cluster_rows import cluster_means
from speechbrain_ext.clustering.n_clusters_curves import (
    agreement_curve,
    candidates,
    cosine_curve,
    gap_curve,
    silhouette_curve,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.precision import full_precision

logger = logging.getLogger(__name__)

CRITERIA = ("consensus", "agreement", "silhouette", "gap", "cosine")
_PROMINENCE = 0.01
_APART = 1.5  # two answers that differ by this factor do not confirm each other
_SAMPLE = 4000


class Choice(NamedTuple):
    """Chosen number of clusters, with the answers and curves behind it.

    ``by_criterion`` has every criterion's own answer, None where it gives
    none; ``certain`` is whether the one asked for gave one, for consensus
    whether both of its parts did and differ by less than 1.5 times.
    """

    n_clusters: int
    criterion: str
    certain: bool
    by_criterion: dict[str, int | None]
    numbers: np.ndarray
    curves: dict[str, np.ndarray]

    def as_json(self) -> dict[str, Any]:
        """Convert to built-in types, for ``clusters.json``."""
        return {
            **self._asdict(),
            "numbers": self.numbers.tolist(),
            "curves": {
                name: values.round(6).tolist()
                for name, values in self.curves.items()
            },
        }


@full_precision()
def choose_n_clusters(
    tree: np.ndarray,
    x: np.ndarray,
    leaf_of: np.ndarray | None = None,
    weighted: bool = False,
    criterion: str = "consensus",
    limits: Sequence[int] | None = None,
    cosine_threshold: float = 0.5,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> Choice:
    """Choose the number of clusters by a criterion.

    ``agreement`` and ``silhouette`` take the finest inner peak of their
    curves, ``gap`` the largest relative gap between the heights of merges,
    ``cosine`` the fewest clusters before the mean cosine of what merges join
    falls below ``cosine_threshold``. ``consensus`` is the geometric mean of
    the first two: halves lose small speakers and so count too few, the
    silhouette also rewards sessions and so counts too many.

    Arguments
    ---------
    tree : numpy.ndarray
        `speechbrain_ext.clustering.ward_tree` [L - 1, 4] of the embeddings,
        or of the centroids that k-means made of them.
    x : numpy.ndarray
        Embeddings of length one [N, D], float32.
    leaf_of : numpy.ndarray, optional
        Labels of that k-means [N], 0 to L - 1; None where the tree is of the
        embeddings themselves.
    weighted : bool
        Whether the tree's leaves weighed as many as their embeddings.
    criterion : str
        ``"consensus"``, ``"agreement"``, ``"silhouette"``, ``"gap"`` or
        ``"cosine"``.
    limits : sequence of int, optional
        The least and the largest number to consider; 1 to 50 % of the leaves
        when None.
    cosine_threshold : float
        For ``"cosine"``, from -1 to 1.
    seed : int
        Decides halves and sample.
    device : str or torch.device, optional
        Where to compute: a GPU if there is one when None.

    Returns
    -------
    Choice
        ``n_clusters`` is the number, for `cut_tree`; ``certain`` tells whether
        the data showed it, or it is a guess.

    Raises
    ------
    InputError
        An unknown criterion, fewer than 20 leaves, or limits that the tree
        does not have.

    Example
    -------
    >>> from speechbrain_ext.clustering import cut_tree, unit_rows, ward_tree
    >>> x = np.repeat(np.eye(16), 12, axis=0)
    >>> x += 0.1 * np.random.default_rng(0).normal(size=x.shape)
    >>> x = unit_rows(x)
    >>> tree = ward_tree(x)
    >>> found = choose_n_clusters(tree, x)
    >>> found.n_clusters, found.certain
    (16, True)
    >>> cut_tree(tree, found.n_clusters)[:24].tolist() == 12 * [0] + 12 * [1]
    True
    """
    _check_criterion(criterion)
    leaves = x
    if leaf_of is None:
        leaf_of = np.arange(len(x))
    else:
        leaves = cluster_means(x, leaf_of, len(tree) + 1)
    sizes = np.bincount(leaf_of)
    weights = sizes if weighted else None
    numbers = candidates(len(leaves), limits)
    generator = np.random.default_rng(seed)
    some = generator.permutation(len(x))[:_SAMPLE]
    curves = {
        "gap": gap_curve(tree, numbers),
        "cosine": cosine_curve(tree, leaves, sizes, numbers),
        "silhouette": silhouette_curve(
            tree, leaves, sizes, x[some], leaf_of[some], numbers, device
        ),
        "agreement": agreement_curve(
            tree, leaves, sizes, weights, numbers, seed, device=device
        ),
    }
    answers = _answers(numbers, curves, cosine_threshold)
    certain = _certain(criterion, answers)
    found = answers[criterion]
    if found is None:
        found = int(numbers[curves["silhouette"].argmax()])
    if not certain:
        logger.warning(
            f"n_clusters {found} is a guess: from {numbers[0]} to "
            f"{numbers[-1]} the criteria say {answers}; look at "
            "cluster_number.png, then give --n_clusters or --n_clusters_range"
        )
    return Choice(found, criterion, certain, answers, numbers, curves)


def _certain(criterion: str, answers: dict[str, int | None]) -> bool:
    if criterion != "consensus":
        return answers[criterion] is not None
    one, two = answers["agreement"], answers["silhouette"]
    if one is None or two is None:
        return False
    return max(one, two) < _APART * min(one, two)


def _answers(
    numbers: np.ndarray, curves: dict[str, np.ndarray], threshold: float
) -> dict[str, int | None]:
    """Return each criterion's answer; None if its curve has no clear one."""
    answers: dict[str, int | None] = {
        name: finest_peak(numbers, curves[name])
        for name in ("agreement", "silhouette")
    }
    peaks = [peak for peak in answers.values() if peak is not None]
    both = round(float(np.exp(np.mean(np.log(peaks))))) if peaks else None
    below = np.flatnonzero(curves["cosine"] < threshold)
    # At the ends, the threshold lies outside the candidates.
    inside = len(below) and below[-1] < len(numbers) - 1
    return {
        "consensus": both,
        **answers,
        "gap": int(numbers[curves["gap"].argmax()]),
        "cosine": int(numbers[below[-1]]) if inside else None,
    }


def finest_peak(numbers: np.ndarray, values: np.ndarray) -> int | None:
    """Find the largest number at which a curve has a clear inner peak.

    Arguments
    ---------
    numbers : numpy.ndarray
        Rising candidates [C].
    values : numpy.ndarray
        The curve [C].

    Returns
    -------
    int or None
        None where no maximum but those at the ends stands out by 0.01. One
        that stands out less than a quarter as far as another is not clear.

    Example
    -------
    >>> finest_peak(np.arange(2, 9), np.array([9, 1, 2, 3, 2, 1, 5]))
    5
    >>> finest_peak(np.arange(2, 9), np.arange(7)) is None
    True
    """
    padded = np.pad(np.asarray(values, dtype=np.float64), 1, mode="edge")
    smooth = np.convolve(padded, [0.25, 0.5, 0.25], mode="valid")
    peaks, found = find_peaks(smooth, prominence=_PROMINENCE)
    if not len(peaks):
        return None
    peaks = peaks[found["prominences"] >= found["prominences"].max() / 4]
    around = np.arange(max(peaks[-1] - 2, 0), min(peaks[-1] + 3, len(values)))
    return int(numbers[around[np.asarray(values)[around].argmax()]])


def _check_criterion(criterion: str) -> None:
    """Raise InputError for an unknown criterion."""
    if criterion not in CRITERIA:
        raise InputError(
            f"criterion is {criterion!r}; it must be {' or '.join(CRITERIA)}; "
            "correct the name"
        )
