"""Partial whitening of embeddings, learnt without labels.

Self-supervised embeddings vary along few directions, which cosine and Ward's
costs then are about. Dividing each principal component by a power of its
deviation needs no label; what it is worth is in
`results/benchmarks/label_levels.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import row_blocks, unit_rows

# Of the largest deviation: what is smaller is noise, and not divided by more.
_FLOOR = 1e-3


class Whitening(NamedTuple):
    """Whitening transform: x becomes ``(x - mean) @ matrix``, [D], [D, D]."""

    mean: np.ndarray
    matrix: np.ndarray


def whitening(x: np.ndarray, power: float) -> Whitening:
    """Learn partial whitening: centring and a matrix, from embeddings.

    With U S V' the singular value decomposition of the centred rows, a row x
    becomes ``(x - mean) V S^-power``. Power 1 is whitening as before the
    length normalisation of i-vectors (Garcia-Romero and Espy-Wilson,
    Interspeech 2011); 0 centres and rotates, which cosine does not notice.

    Arguments
    ---------
    x : numpy.ndarray
        Embeddings [N, D], read in blocks.
    power : float
        0 to 1.

    Returns
    -------
    Whitening

    Raises
    ------
    InputError
        The power is out of range.

    Example
    -------
    >>> x = np.array([[3, 1], [3, -1], [-3, 1], [-3, -1]], dtype=np.float32)
    >>> mean, matrix = whitening(x, power=1.0)
    >>> np.abs((x - mean) @ matrix)[0].round(2)
    array([3., 3.])
    """
    mean, covariance = _moments(x, power)
    return Whitening(mean, _partial(covariance, power))


def standard_whitening(x: np.ndarray, power: float) -> Whitening:
    """Learn standardisation followed by partial whitening, as one transform.

    Each column is divided by its standard deviation first: of hidden states,
    single channels can be larger than all others together, and would be the
    principal components.

    Arguments
    ---------
    x : numpy.ndarray
        Vectors [N, D], read in blocks.
    power : float
        0 to 1, as of `whitening`.

    Returns
    -------
    Whitening

    Raises
    ------
    InputError
        The power is out of range.

    Example
    -------
    >>> x = np.array([[9, 1], [9, -1], [-9, 1], [-9, -1]], dtype=np.float32)
    >>> mean, matrix = standard_whitening(x, power=0.5)
    >>> np.abs((x - mean) @ matrix)[0].round(2)
    array([1., 1.])
    """
    mean, covariance = _moments(x, power)
    deviations = np.sqrt(np.diag(covariance))
    # A constant column has nothing to say, and stays at zero.
    scale = np.where(deviations > 0, deviations, 1.0)
    correlation = covariance / scale[:, None] / scale
    return Whitening(mean, _partial(correlation, power) / scale[:, None])


def whiten_together(
    parts: Sequence[np.ndarray], power: float
) -> list[np.ndarray]:
    """Standardise and whiten sets of vectors by the statistics of all.

    Arguments
    ---------
    parts : sequence of numpy.ndarray
        Vectors [N_i, D] of each set.
    power : float
        0 to 1, as of `whitening`.

    Returns
    -------
    list of numpy.ndarray
        Unit rows of each set, float32.

    Raises
    ------
    InputError
        The power is out of range.

    Example
    -------
    >>> x = np.array([[9, 1], [9, -1], [-9, 1], [-9, -1]], dtype=np.float32)
    >>> np.abs(whiten_together([x[:2], x[2:]], power=1.0)[1][0]).round(2)
    array([0.71, 0.71], dtype=float32)
    """
    found = standard_whitening(np.concatenate(parts), power)
    return [_turned(part, found).astype(np.float32) for part in parts]


def _moments(x: np.ndarray, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean [D] and covariance [D, D] of rows [N, D]."""
    check_power(power)
    mean = x.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((x.shape[1], x.shape[1]))
    for block in row_blocks(len(x), x.shape[1]):
        offset = x[block] - mean
        covariance += offset.T @ offset
    return mean, covariance / len(x)


def _partial(covariance: np.ndarray, power: float) -> np.ndarray:
    """Return the matrix [D, D] that whitens rows of a covariance in part."""
    variances, directions = np.linalg.eigh(covariance)
    deviations = np.sqrt(np.maximum(variances, variances[-1] * _FLOOR**2))
    return directions * (deviations[-1] / deviations) ** power


def whiten(x: np.ndarray, power: float) -> np.ndarray:
    """Whiten embeddings in part and scale them to length one.

    Arguments
    ---------
    x : numpy.ndarray
        Embeddings [N, D] of any length, N of some thousands or more: what is
        whitened is learnt from them, without labels.
    power : float
        0 to 1: of the deviation that each principal component is divided by.
        0 only centres, 1 makes all directions vary alike; 0.5 to 0.75 is
        best for clusters of self-supervised embeddings.

    Returns
    -------
    numpy.ndarray
        Unit rows [N, D], float32, ready for `kmeans` and `ward_tree`; ``x``
        is left as it is.

    Raises
    ------
    InputError
        The power is out of range, or a row is zero or not finite.

    Example
    -------
    >>> x = np.array([[3, 1], [3, -1], [-3, 1], [-3, -1]], dtype=np.float32)
    >>> np.abs(whiten(x, power=1.0))[0].round(2)
    array([0.71, 0.71], dtype=float32)
    """
    return whiten_(unit_rows(x), power)


def whiten_(x: np.ndarray, power: float) -> np.ndarray:
    """Whiten unit rows in place and scale them to length one again.

    Arguments
    ---------
    x : numpy.ndarray
        Unit embeddings [N, D], float32; overwritten, block by block.
    power : float
        0 to 1.

    Returns
    -------
    numpy.ndarray
        ``x``, unit rows.

    Raises
    ------
    InputError
        The power is out of range.

    Example
    -------
    >>> x = np.array([[3, 1], [3, -1], [-3, 1], [-3, -1]], dtype=np.float32)
    >>> np.abs(whiten_(x, power=1.0))[0].round(2)
    array([0.71, 0.71], dtype=float32)
    """
    found = whitening(x, power)
    for block in row_blocks(len(x), x.shape[1]):
        x[block] = _turned(x[block], found)
    return x


def _turned(x: np.ndarray, found: Whitening) -> np.ndarray:
    """Return whitened rows [N, D], scaled to length one."""
    turned = (x - found.mean) @ found.matrix
    length = np.linalg.norm(turned, axis=1, keepdims=True)
    # An embedding at the mean has no direction: it keeps a length of 0.
    return turned / np.maximum(length, 1e-12)


@torch.no_grad()
def fold_whitening_(model: torch.nn.Module, found: Whitening) -> None:
    """Build a whitening into the last layer of a model, which is linear.

    The model then gives ``(e - mean) @ matrix`` for e: what is published
    needs no code of ours to whiten.

    Arguments
    ---------
    model : torch.nn.Module
        Whose last `torch.nn.Linear` or `torch.nn.Conv1d` gives its embedding.
    found : Whitening
        Of its embeddings.

    Raises
    ------
    InputError
        There is no such layer, or it has another number of outputs.

    Example
    -------
    >>> model, wav = torch.nn.Linear(3, 2), torch.ones(1, 3)
    >>> before = model(wav).detach().numpy()
    >>> fold_whitening_(model, Whitening(np.ones(2), 2 * np.eye(2)))
    >>> bool(np.allclose(model(wav).detach(), 2 * (before - 1), atol=1e-6))
    True
    """
    kinds = (torch.nn.Linear, torch.nn.Conv1d)
    linear = [part for part in model.modules() if isinstance(part, kinds)]
    size = len(found.mean)
    if not linear or len(linear[-1].weight) != size:
        raise InputError(
            f"{type(model).__name__} does not end in a linear layer of {size} "
            "outputs, into which whitening could be folded; whiten the "
            "embeddings instead (make_pseudo_labels --whiten)"
        )
    layer = linear[-1]
    turn = torch.from_numpy(found.matrix.T)
    weight = (turn @ layer.weight.double().flatten(1)).view_as(layer.weight)
    bias = torch.zeros(size) if layer.bias is None else layer.bias
    moved = turn @ (bias.double() - torch.from_numpy(found.mean))
    layer.weight.copy_(weight)
    layer.bias = torch.nn.Parameter(moved.to(layer.weight.dtype))


def check_power(power: float) -> None:
    """Raise InputError if a power of whitening is not from 0 to 1.

    Raises
    ------
    InputError
        With the value and the range.

    Example
    -------
    >>> check_power(0.5)
    """
    if isinstance(power, bool) or not isinstance(power, (int, float)):
        power = float("nan")
    if not 0 <= power <= 1:
        raise InputError(
            f"whiten is {power}; it must be a number from 0 (centre only) to "
            "1 (all directions alike), or null for none; correct --whiten"
        )
