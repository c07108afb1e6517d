"""How many clusters there are, judged from Ward's tree without labels.

Speakers are the finest level at which independent halves of the data still
agree and at which clusters are tight for their distance; gender and language
are coarser, sessions finer. The curves of `cluster_curves` show that level
as an inner peak, and where they show none the data does not tell.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.signal import find_peaks

from speechbrain_ext.clustering.n_clusters_curves import (
    agreement_curve,
    candidates,
    cosine_curve,
    gap_curve,
    silhouette_curve,
)
from speechbrain_ext.utils.errors import InputError

logger = logging.getLogger(__name__)

CRITERIA = ("consensus", "agreement", "silhouette", "gap", "cosine")
_PROMINENCE = 0.01
_APART = 1.5  # two answers this many times apart do not confirm each other
_SAMPLE = 4000


class Choice(NamedTuple):
    """A number of clusters, and all that it was chosen by.

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
        """Built-in types for ``clusters.json``."""
        return {
            **self._asdict(),
            "numbers": self.numbers.tolist(),
            "curves": {
                name: values.round(6).tolist()
                for name, values in self.curves.items()
            },
        }


def choose_n_clusters(
    tree: np.ndarray,
    leaves: np.ndarray,
    sizes: np.ndarray,
    weights: np.ndarray | None,
    x: np.ndarray,
    leaf_of: np.ndarray,
    criterion: str = "consensus",
    limits: Sequence[int] | None = None,
    cosine_threshold: float = 0.5,
    seed: int = 0,
) -> Choice:
    """The number of clusters that a criterion finds.

    ``agreement`` and ``silhouette`` take the finest inner peak of their
    curves, ``gap`` the largest relative gap between the heights of merges,
    ``cosine`` the fewest clusters before the mean cosine of what merges join
    falls below ``cosine_threshold``. ``consensus`` is the geometric mean of
    the first two: halves lose small speakers and so count too few, the
    silhouette also rewards sessions and so counts too many.

    Arguments
    ---------
    tree : numpy.ndarray
        `speechbrain_ext.clustering.ward_tree` of the leaves [L - 1, 4].
    leaves : numpy.ndarray
        Means of unit embeddings [L, D].
    sizes : numpy.ndarray
        Embeddings of each leaf [L].
    weights : numpy.ndarray, optional
        What the tree was weighted with.
    x : numpy.ndarray
        Unit embeddings [N, D], of which a sample is read.
    leaf_of : numpy.ndarray
        Leaf of each [N].
    criterion : str
        One of `CRITERIA`.
    limits : sequence of int, optional
        As `speechbrain_ext.clustering.n_clusters_curves.candidates`.
    cosine_threshold : float
        For ``cosine``.
    seed : int
        Decides halves and sample.

    Returns
    -------
    Choice

    Raises
    ------
    InputError
        Too few leaves, or limits that the tree does not have.

    Example
    -------
    >>> from speechbrain_ext.clustering.ward import ward_tree
    >>> x = np.repeat(np.eye(16), 12, axis=0)
    >>> x += 0.1 * np.random.default_rng(0).normal(size=x.shape)
    >>> x = (x / np.linalg.norm(x, axis=1)[:, None]).astype(np.float32)
    >>> found = choose_n_clusters(
    ...     ward_tree(x), x, np.ones(192), None, x, np.arange(192)
    ... )
    >>> found.n_clusters, found.certain
    (16, True)
    """
    numbers = candidates(len(leaves), limits)
    generator = np.random.default_rng(seed)
    some = generator.permutation(len(x))[:_SAMPLE]
    curves = {
        "gap": gap_curve(tree, numbers),
        "cosine": cosine_curve(tree, leaves, sizes, numbers),
        "silhouette": silhouette_curve(
            tree, leaves, sizes, x[some], leaf_of[some], numbers
        ),
        "agreement": agreement_curve(
            tree, leaves, sizes, weights, numbers, seed
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
    """What each criterion says, None where its curve shows nothing."""
    answers: dict[str, int | None] = {
        name: finest_peak(numbers, curves[name])
        for name in ("agreement", "silhouette")
    }
    peaks = [peak for peak in answers.values() if peak is not None]
    both = round(float(np.exp(np.mean(np.log(peaks))))) if peaks else None
    below = np.flatnonzero(curves["cosine"] < threshold)
    # At the ends, the threshold lies outside of the candidates.
    inside = len(below) and below[-1] < len(numbers) - 1
    return {
        "consensus": both,
        **answers,
        "gap": int(numbers[curves["gap"].argmax()]),
        "cosine": int(numbers[below[-1]]) if inside else None,
    }


def finest_peak(numbers: np.ndarray, values: np.ndarray) -> int | None:
    """The largest number at which a curve has a clear inner maximum.

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


def check_criterion(criterion: str, cosine_threshold: float) -> None:
    """Refuse a criterion that is not one, or a threshold that is no cosine.

    Raises
    ------
    InputError
        With what may be given.

    Example
    -------
    >>> check_criterion("gap", 0.5)
    """
    if criterion not in CRITERIA:
        raise InputError(
            f"criterion is {criterion!r}; it must be one of {list(CRITERIA)}"
        )
    number = isinstance(cosine_threshold, (int, float))
    if not number or not -1 <= cosine_threshold <= 1:
        raise InputError(
            f"cosine_threshold is {cosine_threshold!r}; it must be a number "
            "from -1 to 1"
        )
