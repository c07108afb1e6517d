"""Which parameters learn at which rate, which decay, how they are clipped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import torch

from speechbrain_ext.files import InputError


def parameter_groups(
    model: torch.nn.Module,
    classifier: torch.nn.Module,
    lr: float,
    lr_parts: dict[str, float],
) -> list[dict[str, Any]]:
    """Trained parameters by learning rate; no weight decay on vectors.

    Arguments
    ---------
    model : torch.nn.Module
        The embedding model.
    classifier : torch.nn.Module
        Its classifier, always at rate ``lr``.
    lr : float
        Peak rate of all that ``lr_parts`` does not name.
    lr_parts : dict
        Peak rates of direct submodules of ``model``.

    Returns
    -------
    list of dict
        Groups for an optimiser, those of rate ``lr`` last; each has its rate
        under ``peak`` too, which a schedule does not overwrite.

    Raises
    ------
    InputError
        ``lr_parts`` names what is no submodule.

    Example
    -------
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.PReLU())
    >>> groups = parameter_groups(
    ...     model, torch.nn.Linear(3, 2, bias=False), 0.1, {"0": 0.01}
    ... )
    >>> [(len(g["params"]), g["lr"], g.get("weight_decay")) for g in groups]
    [(1, 0.01, None), (1, 0.01, 0.0), (1, 0.1, None), (1, 0.1, 0.0)]
    """
    parts = dict(model.named_children())
    for name in lr_parts:
        if name not in parts:
            near = difflib.get_close_matches(name, parts, 1)
            way = f"did you mean {near[0]!r}?" if near else f"of {list(parts)}"
            raise InputError(
                f"lr_parts names {name!r}, which is no part of the embedding "
                f"model; {way}"
            )
    rated = [(lr_parts[name], [parts[name]]) for name in lr_parts]
    others = [part for name, part in parts.items() if name not in lr_parts]
    groups = []
    for rate, modules in [*rated, (lr, [*others, classifier])]:
        parameters = torch.nn.ModuleList(modules).parameters()
        trained = [p for p in parameters if p.requires_grad]
        rates = {"lr": rate, "peak": rate}
        groups += [{**group, **rates} for group in decay_groups(trained)]
    return [group for group in groups if group["params"]]


def decay_groups(
    parameters: Iterable[torch.nn.Parameter],
) -> list[dict[str, Any]]:
    """Two groups: weight decay is for matrices, not for biases and norms.

    Arguments
    ---------
    parameters : iterable of torch.nn.Parameter
        Of any shapes.

    Returns
    -------
    list of dict
        Groups for an optimiser: matrices, which decay as it says, and
        vectors, which do not.

    Example
    -------
    >>> groups = decay_groups(torch.nn.Linear(2, 3).parameters())
    >>> [(len(g["params"]), g.get("weight_decay")) for g in groups]
    [(1, None), (1, 0.0)]
    """
    parameters = list(parameters)
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]


@torch.no_grad()
def clip_each_(
    parameters: Iterable[torch.nn.Parameter], max_norm: float
) -> None:
    """Bring each gradient's norm down to ``max_norm``, tensor by tensor.

    One exploding layer does not silence the others, as clipping by the norm
    of all gradients would (Caron et al., ICCV 2021, in their code). The same
    as `torch.nn.utils.clip_grad_norm_` on each parameter, in few kernels.

    Arguments
    ---------
    parameters : iterable of torch.nn.Parameter
        Those without a gradient are passed over.
    max_norm : float
        Euclidean norm that a gradient may have.

    Example
    -------
    >>> weight, bias = torch.nn.Linear(3, 1).parameters()
    >>> weight.grad, bias.grad = torch.ones(1, 3), torch.tensor([40.0])
    >>> clip_each_([weight, bias], max_norm=2.0)
    >>> weight.grad.tolist(), round(bias.grad.item(), 4)
    ([[1.0, 1.0, 1.0]], 2.0)
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    norms = torch.stack(torch._foreach_norm(gradients))
    scales = (max_norm / (norms + 1e-6)).clamp_(max=1.0)
    # Kept on the device: reading them would wait for it.
    torch._foreach_mul_(gradients, scales.unbind())
