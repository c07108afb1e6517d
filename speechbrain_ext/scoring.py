"""Scores of verification trials: cosine, and adaptive s-norm of it.

Everything is a blocked gather or a blocked matrix product: time grows with
the trials, memory with neither the trials nor the cohort.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from speechbrain_ext.files import InputError, PathLike
from speechbrain_ext.trials import TrialList, read_trial_file

_BLOCK = 16384  # trials or utterances gathered at once
_SCORES_AT_ONCE = 2**24  # cohort scores held at once, 64 MB
# Below this the spread of float32 cosines is their rounding.
_LEAST_STD = 1e-6


def read_trials(
    path: PathLike, name: str | None = None, allow_repeats: bool = False
) -> TrialList:
    """Read and check a trial list of lines ``label enrol test``.

    Columns are separated by white space, so a name cannot hold any. Windows
    line ends are read too.

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
        there, or a pair is repeated; lines are numbered from 1.

    Example
    -------
    >>> path = getfixture("tmp_path") / "dev.txt"
    >>> _ = path.write_text("1 a b\\n0 a c\\n")
    >>> trials = read_trials(path)
    >>> trials.name, trials.labels, trials.test
    ('dev', array([1, 0]), array(['b', 'c'], dtype=object))
    """
    trials = read_trial_file(name or Path(path).stem, path)
    _check_repeats(trials, allow_repeats)
    return trials


def _check_repeats(trials: TrialList, allow_repeats: bool) -> None:
    pairs = pd.DataFrame({"enrol": trials.enrol, "test": trials.test})
    again = pairs.duplicated().to_numpy()
    pairs["label"] = trials.labels
    contradicts = again & ~pairs.duplicated().to_numpy()
    if contradicts.any():
        bad, rule = contradicts, "is there with the other label too"
        way = "one of the two is wrong, remove it"
    elif again.any() and not allow_repeats:
        bad, rule = again, "is there twice"
        way = (
            "remove the repeats, or count them as they are with "
            "--allow_repeats=True"
        )
    else:
        return
    row = int(np.flatnonzero(bad)[0])
    raise InputError(
        f"{trials.source} line {trials.lines[row]}: the pair "
        f"{trials.enrol[row]} {trials.test[row]} {rule} "
        f"({int(bad.sum())} such line(s)); {way}"
    )


def cosine_scores(
    embeddings: NDArray | torch.Tensor,
    enrol_rows: NDArray,
    test_rows: NDArray,
) -> NDArray:
    """Cosine similarity of the two embeddings of each trial.

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
    values = _to_numpy(embeddings)
    enrol = _checked_rows(enrol_rows, len(values))
    test = _checked_rows(test_rows, len(values))
    scores = np.empty(len(enrol), dtype=np.float32)
    for first in range(0, len(enrol), _BLOCK):
        part = slice(first, first + _BLOCK)
        left, right = _unit(values, enrol[part]), _unit(values, test[part])
        scores[part] = np.einsum("md,md->m", left, right)
    return scores


def adaptive_s_norm(
    embeddings: NDArray | torch.Tensor,
    cohort: NDArray | torch.Tensor,
    enrol_rows: NDArray,
    test_rows: NDArray,
    top_k: int = 300,
) -> NDArray:
    """Cosine scores after adaptive symmetric normalisation (AS-norm).

    ``s' = ((s - m_e) / d_e + (s - m_t) / d_t) / 2``, where m and d are mean
    and standard deviation of the ``top_k`` highest scores of the enrolment
    (e) or test (t) utterance against the cohort: Cumani et al., Interspeech
    2011, with the selection named adaptive s-norm1 in Matejka et al.,
    "Analysis of score normalization in multilingual speaker recognition",
    Interspeech 2017. Cohort statistics are found once an utterance, not once
    a trial.

    Arguments
    ---------
    embeddings : numpy.ndarray or torch.Tensor
        One row an utterance [N, D], of any length; may be memory-mapped.
    cohort : numpy.ndarray or torch.Tensor
        Embeddings of other speakers [C, D], for instance `speaker_means`.
    enrol_rows, test_rows : numpy.ndarray
        Rows of the two sides of each trial [M].
    top_k : int
        Cohort scores kept for an utterance, 2 to C.

    Returns
    -------
    numpy.ndarray
        Normalised scores [M], float32, in standard deviations.

    Raises
    ------
    InputError
        As in `cosine_scores`; sizes differ; ``top_k`` is out of range; or
        the cohort scores of an utterance do not vary.

    Example
    -------
    >>> x = np.float32([[1, 0], [0, 2], [3, 3]])
    >>> cohort = np.float32([[1, 2], [2, 1], [-1, 0]])
    >>> adaptive_s_norm(x, cohort, np.array([0]), np.array([2]), top_k=3)
    array([0.56566656], dtype=float32)
    """
    values, others = _to_numpy(embeddings), _to_numpy(cohort)
    if values.shape[1] != others.shape[1]:
        raise InputError(
            f"embeddings have {values.shape[1]} dimensions and the cohort "
            f"has {others.shape[1]}; extract both with the same embedder"
        )
    if not 2 <= top_k <= len(others):
        raise InputError(
            f"top_k is {top_k} and the cohort has {len(others)} embeddings; "
            f"choose --top_k from 2 to {len(others)}"
        )
    raw = cosine_scores(values, enrol_rows, test_rows)
    n_trials = len(raw)
    both = np.concatenate([enrol_rows, test_rows])
    rows, position = np.unique(both, return_inverse=True)
    mean, std = _cohort_statistics(values, rows, others, top_k)
    enrol, test = position[:n_trials], position[n_trials:]
    by_enrol = (raw - mean[enrol]) / std[enrol]
    by_test = (raw - mean[test]) / std[test]
    return (by_enrol + by_test) / 2


def _cohort_statistics(
    values: NDArray, rows: NDArray, cohort: NDArray, top_k: int
) -> tuple[NDArray, NDArray]:
    """Mean and population deviation [R] of the highest cohort scores."""
    others = torch.from_numpy(_unit(cohort, np.arange(len(cohort)))).T
    block = max(_SCORES_AT_ONCE // len(cohort), 1)
    means, stds = [], []
    # Short lists need no bar.
    for first in tqdm(range(0, len(rows), block), desc="cohort", delay=2):
        part = torch.from_numpy(_unit(values, rows[first : first + block]))
        highest = (part @ others).topk(top_k, dim=1, sorted=False).values
        part_std, part_mean = torch.std_mean(highest, dim=1, correction=0)
        means.append(part_mean.numpy())
        stds.append(part_std.numpy())
    mean, std = np.concatenate(means), np.concatenate(stds)
    flat = np.flatnonzero(std < _LEAST_STD)
    if len(flat):
        raise InputError(
            f"the {top_k} highest cohort scores of embedding row "
            f"{rows[flat[0]]} are all the same ({len(flat)} such row(s)); "
            "raise --top_k or use a cohort of more different speakers"
        )
    return mean, std


def speaker_means(
    embeddings: NDArray | torch.Tensor, rows: NDArray, labels: NDArray
) -> NDArray:
    """One embedding a speaker: the mean of its L2-normalised embeddings.

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
    values = _to_numpy(embeddings)
    rows = _checked_rows(rows, len(values))
    if len(rows) != len(labels):
        raise InputError(
            f"there are {len(rows)} rows and {len(labels)} labels; give one "
            "label a row"
        )
    _, speaker, count = np.unique(
        labels, return_inverse=True, return_counts=True
    )
    sums = torch.zeros(len(count), values.shape[1])
    for first in range(0, len(rows), _BLOCK):
        part = slice(first, first + _BLOCK)
        unit = torch.from_numpy(_unit(values, rows[part]))
        sums.index_add_(0, torch.from_numpy(speaker[part]), unit)
    return sums.numpy() / count[:, None].astype(np.float32)


def _unit(values: NDArray, rows: NDArray) -> NDArray:
    """The rows [B, D] of ``values``, each of length 1, float32."""
    gathered = np.asarray(values[rows], dtype=np.float32)
    norms = np.linalg.norm(gathered, axis=1, keepdims=True)
    bad = ~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"embedding row {rows[first]} has length {norms[first, 0]}; a "
            "cosine needs a finite length above 0, extract it again or look "
            "at its audio"
        )
    return gathered / norms


def _to_numpy(values: Any) -> NDArray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    if values.ndim != 2:
        raise InputError(
            f"embeddings have shape {list(values.shape)}; one row an "
            "utterance [N, D] is needed"
        )
    return values


def _checked_rows(rows: NDArray, n_rows: int) -> NDArray:
    rows = np.asarray(rows)
    bad = (rows < 0) | (rows >= n_rows)
    if bad.any():
        trial = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"trial {trial} uses embedding row {rows[trial]} of {n_rows}; "
            "the trials and the embeddings are not of the same utterances"
        )
    return rows
