"""Cosine scores of verification trials, and mean embeddings of speakers.

Everything is a blocked gather or a blocked matrix product: time grows with
the trials, memory with the utterances they name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from speechbrain_ext.dataio.trials import (
    TrialList,
    check_pairs,
    read_trial_file,
    warn_of_reversed,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.groups import numbered
from speechbrain_ext.utils.vectors import (
    as_matrix,
    checked_rows,
    inner_products,
    large_array,
    row_blocks,
    taken,
    unit_rows,
    used_rows,
)


def read_trials(
    path: PathLike, name: str | None = None, allow_repeats: bool = False
) -> TrialList:
    """Read and check a trial list, VoxCeleb's or Kaldi's.

    Windows line ends are read too. A warning says how many pairs are there in
    both orders.

    Arguments
    ---------
    path : str or os.PathLike
        A text file.
    name : str, optional
        Name of the list; the file's stem when None.
    allow_repeats : bool
        Count a pair that is there twice twice, instead of refusing it.

    Returns
    -------
    TrialList
        Columns [N], in file order.

    Raises
    ------
    InputError
        The file is absent, a line breaks the format, only one class is
        there, or `speechbrain_ext.dataio.trials.check_pairs` refuses a pair;
        lines are numbered from 1.

    Example
    -------
    >>> path = getfixture("tmp_path") / "dev.txt"
    >>> _ = path.write_text("1 a b\\n0 a c\\n")
    >>> trials = read_trials(path)
    >>> trials.name, trials.labels, trials.test
    ('dev', array([1, 0]), array(['b', 'c'], dtype=object))
    """
    trials = read_trial_file(name or Path(path).stem, path)
    check_pairs(trials, allow_repeats)
    warn_of_reversed(trials)
    return trials


def cosine_scores(
    embeddings: NDArray | torch.Tensor,
    enrol_rows: NDArray,
    test_rows: NDArray,
) -> NDArray:
    """Score each trial by the cosine of its two embeddings.

    Arguments
    ---------
    embeddings : numpy.ndarray or torch.Tensor
        One row an utterance [N, D], of any length; may be memory-mapped.
    enrol_rows, test_rows : numpy.ndarray
        Rows of the two sides of each trial [M].

    Returns
    -------
    numpy.ndarray
        Scores from -1 to 1 [M], float32.

    Raises
    ------
    InputError
        A row is not in ``embeddings``, or its embedding is zero or not
        finite.

    Example
    -------
    >>> x = np.float32([[1, 0], [0, 2], [3, 3]])
    >>> cosine_scores(x, np.array([0, 0]), np.array([1, 2])).round(4)
    array([0.    , 0.7071], dtype=float32)
    """
    return inner_products(*used_vectors(embeddings, enrol_rows, test_rows))


def used_vectors(
    embeddings: NDArray | torch.Tensor, enrol_rows: NDArray, test_rows: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Return unit vectors [U, D] of the trials' utterances, and rows of both.

    Arguments
    ---------
    embeddings : numpy.ndarray or torch.Tensor
        One row an utterance [N, D].
    enrol_rows, test_rows : numpy.ndarray
        Rows of the two sides of each trial [M].

    Returns
    -------
    tuple of numpy.ndarray
        Vectors, float32, and the rows of both sides among them.

    Example
    -------
    >>> x = np.float32([[1, 0], [0, 2], [3, 3]])
    >>> used_vectors(x, np.array([1]), np.array([1]))
    (array([[0., 1.]], dtype=float32), array([0]), array([0]))
    """
    values = as_matrix(embeddings)
    enrol = checked_rows(enrol_rows, len(values))
    test = checked_rows(test_rows, len(values))
    rows = used_rows(len(values), enrol, test)
    vectors = unit_rows(values, rows)
    position = large_array(len(values), np.int64)
    position[rows] = np.arange(len(rows))
    return vectors, taken(position, enrol), taken(position, test)


def speaker_means(
    embeddings: NDArray | torch.Tensor,
    rows: NDArray,
    labels: NDArray,
    whitening: tuple[NDArray, NDArray] | None = None,
) -> NDArray:
    """Average the L2-normalised embeddings of each speaker.

    With pseudo-speakers for labels this is an AS-norm cohort that no true
    label entered.

    Arguments
    ---------
    embeddings : numpy.ndarray or torch.Tensor
        One row an utterance [N, D]; may be memory-mapped.
    rows : numpy.ndarray
        Rows of the labelled utterances [M].
    labels : numpy.ndarray
        Speaker of each of them [M], of any type that sorts.
    whitening : tuple of numpy.ndarray, optional
        Of each embedding before it is scaled: mean [D] and matrix [D, D].

    Returns
    -------
    numpy.ndarray
        Means [C, D], float32, in the order of the sorted labels.

    Raises
    ------
    InputError
        Lengths differ, a row is not in ``embeddings``, or its embedding is
        zero or not finite.

    Example
    -------
    >>> x = np.float32([[1, 0], [0, 2], [3, 0]])
    >>> speaker_means(x, np.arange(3), np.array(["a", "b", "a"]))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    values = as_matrix(embeddings)
    rows = checked_rows(rows, len(values))
    if len(rows) != len(labels):
        raise InputError(
            f"there are {len(rows)} rows and {len(labels)} labels; give one "
            "label a row"
        )
    speaker = numbered(np.asarray(labels))
    count = np.bincount(speaker)
    sums = torch.zeros(len(count), values.shape[1])
    for part in row_blocks(len(rows), values.shape[1]):
        unit = torch.from_numpy(unit_rows(values, rows[part], whitening))
        sums.index_add_(0, torch.from_numpy(speaker[part]), unit)
    return sums.numpy() / count[:, None].astype(np.float32)
