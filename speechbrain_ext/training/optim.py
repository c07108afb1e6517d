"""Parameter groups of an optimiser, and clipping of gradients."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

import torch

from speechbrain_ext.utils.compat import foreach_mul_, foreach_norm
from speechbrain_ext.utils.errors import InputError


def parameter_groups(
    model: torch.nn.Module,
    classifier: torch.nn.Module,
    lr: float,
    lr_parts: dict[str, float],
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Group trained parameters by learning rate; vectors have no weight decay.

    With ``layer_decay`` d, layer l of the L transformer layers of the model's
    encoder has d^(L - l) of its rate and what comes before the first layer
    d^L (Clark et al., "ELECTRA", ICLR 2020, appendix A): lower layers, which
    are more general, move less.

    Arguments
    ---------
    model : torch.nn.Module
        The embedding model.
    classifier : torch.nn.Module
        Its classifier, always at rate ``lr``.
    lr : float
        Peak rate of all that ``lr_parts`` does not name.
    lr_parts : dict
        Peak rates of submodules of ``model``, of submodules of these by
        dotted names; the longest name that fits decides.
    layer_decay : float
        d, above 0; 1: all layers learn at the encoder's rate.

    Returns
    -------
    list of dict
        Groups for an optimiser, that of the classifier last; each has its
        rate under ``peak`` too, which a schedule does not overwrite.

    Raises
    ------
    InputError
        ``lr_parts`` names no submodule, or the encoder has no layers to which
        a decay could apply.

    Example
    -------
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.PReLU())
    >>> groups = parameter_groups(
    ...     model, torch.nn.Linear(3, 2, bias=False), 0.1, {"0": 0.01}
    ... )
    >>> [(len(g["params"]), g["lr"], g.get("weight_decay")) for g in groups]
    [(1, 0.01, None), (1, 0.01, 0.0), (1, 0.1, 0.0), (1, 0.1, None)]
    """
    _check_parts(model, lr_parts)
    factors = layer_factors(model, layer_decay)
    by_rate: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        parts = [part for part in lr_parts if name.startswith(f"{part}.")]
        rate = lr_parts[max(parts, key=len)] if parts else lr
        rate *= factors.get(name, 1.0)
        by_rate.setdefault(rate, []).append(parameter)
    own = list(classifier.parameters())
    groups = []
    for rate, members in [*by_rate.items(), (lr, own)]:
        trained = [p for p in members if p.requires_grad]
        rates = {"lr": rate, "peak": rate}
        groups += [{**group, **rates} for group in decay_groups(trained)]
    return [group for group in groups if group["params"]]


def _check_parts(model: torch.nn.Module, lr_parts: dict[str, float]) -> None:
    known = [name for name, _ in model.named_modules() if name]
    for part in lr_parts:
        if part not in known:
            near = difflib.get_close_matches(part, known, 1)
            children = [name for name, _ in model.named_children()]
            way = f"did you mean {near[0]!r}?" if near else f"use {children}"
            raise InputError(
                f"lr_parts names {part!r}; the embedding model has no such "
                f"part; {way}"
            )


def layer_factors(
    model: torch.nn.Module, layer_decay: float
) -> dict[str, float]:
    """Compute the factor of the rate of each parameter of ``model.encoder``.

    Arguments
    ---------
    model : torch.nn.Module
        Transformer layers are those of a list named ``layers``.
    layer_decay : float
        See `parameter_groups`.

    Returns
    -------
    dict of str to float
        By the parameter's name in the model; empty if the decay is 1.

    Raises
    ------
    InputError
        There are no layers.

    Example
    -------
    >>> layers = torch.nn.ModuleList(torch.nn.PReLU() for _ in range(2))
    >>> encoder = torch.nn.ModuleDict({"cnn": torch.nn.PReLU()})
    >>> encoder["layers"] = layers
    >>> layer_factors(torch.nn.ModuleDict({"encoder": encoder}), 0.5)
    {'encoder.cnn.weight': 0.25, 'encoder.layers.0.weight': 0.5,
     'encoder.layers.1.weight': 1.0}
    """
    if layer_decay == 1:
        return {}
    names = [name for name, _ in model.named_parameters()]
    encoder = [name for name in names if name.startswith("encoder.")]
    layers = {
        name: int(found[1])
        for name in encoder
        if (found := re.search(r"\.layers\.(\d+)\.", name))
    }
    if not layers:
        raise InputError(
            f"layer_decay is {layer_decay} and the embedding model's encoder "
            "has 0 transformer layers; a decay needs layers; leave "
            "--layer_decay out"
        )
    last = max(layers.values())
    return {
        name: layer_decay ** (last - layers.get(name, -1)) for name in encoder
    }


def decay_groups(
    parameters: Iterable[torch.nn.Parameter],
) -> list[dict[str, Any]]:
    """Split parameters in two groups: matrices, and vectors without decay.

    Arguments
    ---------
    parameters : iterable of torch.nn.Parameter
        Of any shapes.

    Returns
    -------
    list of dict
        Groups for an optimiser: matrices, which have its weight decay, and
        vectors (biases, norms), which have none.

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
    """Scale each gradient down to a norm of ``max_norm``, tensor by tensor.

    One exploding layer then leaves the others as they are (Caron et al.,
    ICCV 2021, in their code). Equal to `torch.nn.utils.clip_grad_norm_` on
    each parameter, in few kernels.

    Arguments
    ---------
    parameters : iterable of torch.nn.Parameter
        Those without a gradient are left out.
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
    norms = torch.stack(foreach_norm(gradients))
    scales = (max_norm / (norms + 1e-6)).clamp_(max=1.0)
    # The scales stay on the device: reading them would wait for it.
    foreach_mul_(gradients, scales.unbind())
