"""Score normalisation against a cohort: Z-, T-, S- and AS-norm.

Statistics are found once an utterance, not once a trial, by matrix products
of some thousands of utterances with the whole cohort.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from speechbrain_ext.utils.distributed import gathered_objects, own_rows
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.precision import full_precision
from speechbrain_ext.utils.terminal import progress_bar
from speechbrain_ext.utils.vectors import (
    as_matrix,
    by_blocks,
    inner_products,
    unit_rows,
)
from speechbrain_ext.verification.backend import SIDES
from speechbrain_ext.verification.cosine import used_vectors

_SCORES_AT_ONCE = 2**24  # cohort scores held at once, 64 MB
# Below this the spread of float32 cosines is their rounding.
_LEAST_STD = 1e-6


class CohortStatistics(NamedTuple):
    """Mean and deviation of each utterance's cohort scores, both [U]."""

    mean: NDArray
    std: NDArray


@full_precision()
def cohort_statistics(
    vectors: NDArray, cohort: NDArray, top_k: int | None = None
) -> CohortStatistics:
    """Compute mean and deviation of utterances' scores against a cohort.

    Several processes share the utterances: each must call it.

    Arguments
    ---------
    vectors : numpy.ndarray
        One row an utterance [U, D], float32; scores are inner products.
    cohort : numpy.ndarray
        Vectors of other speakers [C, D], float32.
    top_k : int, optional
        How many of an utterance's highest scores count, 2 to C; all when
        None.

    Returns
    -------
    CohortStatistics
        Population deviations, as all the scores that count are at hand.

    Raises
    ------
    InputError
        Sizes differ, ``top_k`` is out of range, or the scores of an
        utterance do not vary.

    Example
    -------
    >>> cohort = np.float32([[1, 0], [0.6, 0.8], [-1, 0]])
    >>> found = cohort_statistics(np.float32([[1, 0]]), cohort, top_k=2)
    >>> found.mean.round(3), found.std.round(3)
    (array([0.8], dtype=float32), array([0.2], dtype=float32))
    """
    _check_cohort(vectors, cohort, top_k)
    others = torch.from_numpy(np.ascontiguousarray(cohort.T))
    block = max(_SCORES_AT_ONCE // len(cohort), 1)
    # Zero in the rows of other processes: their sum is exact, and blocks are
    # the same however many processes there are.
    mean, std = np.zeros((2, len(vectors)), dtype=np.float32)
    starts = range(0, len(vectors), block)
    own = own_rows(len(starts))
    # Short lists need no progress bar.
    for first in progress_bar(
        starts[own.start : own.stop], desc="cohort", delay=2
    ):
        part = slice(first, first + block)
        scores = (torch.from_numpy(vectors[part]) @ others).numpy()
        if top_k is not None and top_k < len(cohort):
            # In place: a tenth of the time of torch's topk.
            scores.partition(len(cohort) - top_k, axis=1)
            scores = scores[:, -top_k:]
        mean[part], std[part] = scores.mean(axis=1), scores.std(axis=1)
    mean, std = (
        sum(some) for some in zip(*gathered_objects((mean, std)), strict=True)
    )
    flat = np.flatnonzero(std < _LEAST_STD)
    if len(flat):
        raise InputError(
            f"the highest cohort scores of {len(flat)} utterance(s), the "
            f"first in row {flat[0]}, are all the same; raise --top_k or use "
            "a cohort of more different speakers"
        )
    return CohortStatistics(mean, std)


def _check_cohort(vectors: NDArray, cohort: NDArray, top_k: int | None) -> None:
    if vectors.shape[1] != cohort.shape[1]:
        raise InputError(
            f"embeddings have {vectors.shape[1]} dimensions and the cohort "
            f"has {cohort.shape[1]}; extract both with the same embedder"
        )
    n_used = len(cohort) if top_k is None else top_k
    if not 2 <= n_used <= len(cohort):
        raise InputError(
            f"top_k is {n_used} and the cohort has {len(cohort)} embeddings; "
            f"choose --top_k from 2 to {len(cohort)}"
        )


def as_norm(
    embeddings: NDArray | torch.Tensor,
    cohort: NDArray | torch.Tensor,
    enrol_rows: NDArray,
    test_rows: NDArray,
    top_k: int = 300,
) -> NDArray:
    """Score trials by cosine, then adaptive symmetric normalisation.

    ``s' = ((s - m_e) / d_e + (s - m_t) / d_t) / 2``, where m and d are mean
    and standard deviation of the ``top_k`` highest scores of the enrolment
    (e) or test (t) utterance against the cohort: see `normalised`.

    Arguments
    ---------
    embeddings : numpy.ndarray or torch.Tensor
        One row an utterance [N, D], of any length; may be memory-mapped.
    cohort : numpy.ndarray or torch.Tensor
        Embeddings of other speakers [C, D], for instance the
        `cosine.speaker_means` of pseudo-speakers of the training data.
    enrol_rows, test_rows : numpy.ndarray
        Rows of ``embeddings``, the two sides of each trial [M].
    top_k : int
        Highest cohort scores of an utterance that count, 2 to C.

    Returns
    -------
    numpy.ndarray
        Normalised scores [M], float32, in standard deviations.

    Raises
    ------
    InputError
        As in `cosine.cosine_scores`; sizes differ; ``top_k`` is out of range;
        or the cohort scores of an utterance do not vary.

    Example
    -------
    >>> x = np.float32([[1, 0], [0, 2], [3, 3]])
    >>> cohort = np.float32([[1, 2], [2, 1], [-1, 0]])
    >>> as_norm(x, cohort, np.array([0]), np.array([2]), top_k=3)
    array([0.56566656], dtype=float32)
    """
    vectors, enrol, test = used_vectors(embeddings, enrol_rows, test_rows)
    others = as_matrix(cohort)
    unit = unit_rows(others, np.arange(len(others)))
    found = cohort_statistics(vectors, unit, top_k)
    raw = inner_products(vectors, enrol, test)
    return normalised(raw, found, enrol, test, "as-norm")


def normalised(
    scores: NDArray,
    statistics: CohortStatistics,
    enrol_rows: NDArray,
    test_rows: NDArray,
    kind: str,
) -> NDArray:
    r"""Return scores as deviations from the cohort's scores.

    With the mean and the deviation of the cohort scores of the enrolment
    (e) and of the test utterance (t),

    .. math:: z_e = (s - \mu_e) / \sigma_e, \qquad
        z_t = (s - \mu_t) / \sigma_t,

    Z-norm (Reynolds, Eurospeech 1997) is the first, T-norm (Auckenthaler et
    al., Digital Signal Processing 2000) the second and S-norm (Kenny,
    Odyssey 2010) their mean. AS-norm is S-norm whose statistics are of each
    side's highest scores alone, chosen for each side by itself: Cumani et
    al., Interspeech 2011, named adaptive s-norm1 in Matejka et al.,
    Interspeech 2017, eq. 5.

    Arguments
    ---------
    scores : numpy.ndarray
        One a trial [M].
    statistics : CohortStatistics
        From `cohort_statistics`, with ``top_k`` for AS-norm alone.
    enrol_rows, test_rows : numpy.ndarray
        Rows of the statistics of the two sides of each trial [M].
    kind : str
        A key of `backend.SIDES`.

    Returns
    -------
    numpy.ndarray
        Normalised scores [M], float32.

    Example
    -------
    >>> found = CohortStatistics(np.float32([0, 0.1]), np.float32([0.1, 0.2]))
    >>> one = np.array([0]), np.array([1])
    >>> [normalised(np.float32([0.5]), found, *one, kind)[0].round(3).item()
    ...     for kind in SIDES]
    [5.0, 2.0, 3.5, 3.5]
    """
    mean, std = statistics
    both = zip(SIDES[kind], (enrol_rows, test_rows), strict=True)
    counted = [rows for counts, rows in both if counts]

    def mean_of_sides(some: NDArray, *rows: NDArray) -> NDArray:
        sides = [(some - mean[own]) / std[own] for own in rows]
        return sum(sides) / np.float32(len(sides))

    return by_blocks(mean_of_sides, scores, *counted, dtype=np.float32)
