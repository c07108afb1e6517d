"""Stop a training whose loss is no number, before it ruins the weights."""

from __future__ import annotations

import torch

from speechbrain_ext.utils.errors import InputError


def require_finite(
    loss: torch.Tensor, epoch: int, batch: int, remedy: str
) -> None:
    """Refuse to go on from an infinite or undefined loss.

    Arguments
    ---------
    loss : torch.Tensor
        Scalar.
    epoch, batch : int
        Where in the training, for the message.
    remedy : str
        What to change, for the message.

    Raises
    ------
    InputError
        The loss is not finite.

    Example
    -------
    >>> require_finite(torch.tensor(1.0), 1, 1, "lower --lr")
    >>> require_finite(torch.tensor(float("nan")), 2, 7, "lower --lr")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: epoch 2, batch 7: the loss is ...
    """
    if not torch.isfinite(loss):
        raise InputError(
            f"epoch {epoch}, batch {batch}: the loss is {loss.item()}; "
            f"{remedy} and run with --overwrite=True"
        )
