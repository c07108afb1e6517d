"""Regularisers of RDINO: diversity and redundancy elimination.

Chen et al., "Pushing the limits of self-supervised speaker verification using
regularized distillation framework", ICASSP 2023 (RDINO): the variance and
covariance terms of Bardes et al., "VICReg", ICLR 2022, on a wide linear layer
of the projection head (`speechbrain_ext.models.DINOHead` with an
``expander_size``). They penalise a collapse that DINO's centred cross-entropy
does not see.
"""

from __future__ import annotations

import torch
import torch.distributed
import torch.distributed.nn.functional

from speechbrain_ext.utils.distributed import joined
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.precision import single_precision


def rdino_regularizer(
    expansion: torch.Tensor,
    variance_weight: float = 10.0,
    covariance_weight: float = 1.0,
) -> torch.Tensor:
    r"""Return RDINO's diversity and redundancy-elimination terms.

    Chen et al., ICASSP 2023: the variance and covariance terms of Bardes et
    al., "VICReg", ICLR 2022, Eqs. 1-4.

    .. math:: R = \frac{w_v}{2} \, \mathrm{hinge}(X)
        + w_c \, \mathrm{cov}(X)

    with X the student's expansion, averaged over global views. The result is
    added to DINO's loss with a factor that RDINO raises from 0.05 to 0.2.

    Arguments
    ---------
    expansion : torch.Tensor
        Outputs of the student's `DINOHead.expand` for the global views
        [G, B, D].
    variance_weight : float
        w_v; the default is RDINO's.
    covariance_weight : float
        w_c; the default is RDINO's.

    Returns
    -------
    torch.Tensor
        Scalar, float32; over the rows of all processes, and equal in them.

    Raises
    ------
    InputError
        There is one utterance only.

    Notes
    -----
    RDINO adds the same terms of the teacher and halves the variance term.
    Those of the teacher are constant for the student and left out here: the
    gradient is the same, the value lower. RDINO's code divides the covariances
    by the number of prototypes (65,536), not by D (8,192): to follow it, give
    the quotient, 0.125, as ``covariance_weight``.

    Example
    -------
    >>> _ = torch.manual_seed(0)
    >>> spread, one_point = 9 * torch.randn(2, 64, 8), torch.ones(2, 64, 8)
    >>> bool(rdino_regularizer(spread, covariance_weight=0.0) == 0)
    True
    >>> round(rdino_regularizer(one_point).item(), 3)
    4.95
    """
    with single_precision(expansion):
        rows = joined(expansion.float().mean(0))
        if len(rows) < 2:
            raise InputError(
                "batch_size is 1; RDINO's terms need the variance over 2 or "
                "more utterances of a batch; raise --batch_size or leave the "
                "terms out"
            )
        variance = variance_hinge(rows)
        return (
            variance_weight / 2 * variance
            + covariance_weight * covariance_penalty(rows)
        )


def variance_hinge(x: torch.Tensor) -> torch.Tensor:
    """Return the variance term: std deviations below 1 (VICReg, Eq. 1).

    Mean over dimensions of ``max(0, 1 - sqrt(var + 1e-4))``.

    Arguments
    ---------
    x : torch.Tensor
        Vectors [B, D], B at least 2.

    Returns
    -------
    torch.Tensor
        Scalar, from 0 (enough variance) to 0.99 (none).

    Example
    -------
    >>> x = torch.tensor([[0.0, 0.0], [0.0, 9.0]])
    >>> round(variance_hinge(x).item(), 3)
    0.495
    """
    return torch.relu(1 - (x.var(0) + 1e-4).sqrt()).mean()


def covariance_penalty(x: torch.Tensor) -> torch.Tensor:
    """Return the covariance term: squared covariances / D (VICReg, Eq. 4).

    The squared entries of X'X and of X X' have the same sum: the smaller
    product is computed, and the variances are subtracted.

    Arguments
    ---------
    x : torch.Tensor
        Vectors [B, D], B at least 2.

    Returns
    -------
    torch.Tensor
        Scalar; 0, within rounding, if all dimensions are uncorrelated.

    Example
    -------
    >>> corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    >>> covariance_penalty(corners).item()
    0.0
    >>> covariance_penalty(corners[[0, 3]]).item()
    4.0
    """
    n_rows, n_dimensions = x.shape
    x = x - x.mean(0)
    gram = x @ x.T if n_rows < n_dimensions else x.T @ x
    variances = x.square().sum(0)
    off_diagonal = gram.square().sum() - variances.square().sum()
    return off_diagonal / ((n_rows - 1) ** 2 * n_dimensions)
