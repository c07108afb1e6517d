"""Which parameters learn at which rate, and which decay."""

from __future__ import annotations

import difflib
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
        matrices = [p for p in trained if p.ndim > 1]
        vectors = [p for p in trained if p.ndim <= 1]
        rates = {"lr": rate, "peak": rate}
        groups.append({"params": matrices, **rates})
        groups.append({"params": vectors, **rates, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]
