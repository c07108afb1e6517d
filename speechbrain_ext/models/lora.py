"""Low-rank adaptation (LoRA): small matrices trained beside frozen ones.

Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022.
SpeechBrain's `LoRA` cannot merge its matrices and both it and peft rename the
frozen weights, whereas an embedder folder must be saved and loaded under the
plain model's names.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch

from speechbrain_ext.utils.errors import InputError

# transformers' names of the projections that the paper adapts: queries and
# values.
TARGETS = ("q_proj", "v_proj", "linear_q", "linear_v")
# Factor of the product (alpha / rank in the paper).
SCALE = 2.0


class LowRankLinear(torch.nn.Module):
    """Frozen linear layer plus a trained low-rank one: (W + 2 B A) x + b.

    B starts at zero: the output is at first that of the frozen layer. The
    plain layer's state dict can be loaded too; B is then zero again.

    Arguments
    ---------
    linear : torch.nn.Linear
        The layer to replace; its weights are frozen.
    rank : int
        Rows of A and columns of B.

    Example
    -------
    >>> linear = torch.nn.Linear(6, 4)
    >>> adapted = LowRankLinear(linear, rank=2)
    >>> x = torch.randn(3, 6)
    >>> torch.equal(adapted(x), linear(x))
    True
    >>> [n for n, p in adapted.named_parameters() if p.requires_grad]
    ['lora_a', 'lora_b']
    """

    def __init__(self, linear: torch.nn.Linear, rank: int):
        super().__init__()
        self.weight = linear.weight.requires_grad_(False)
        self.bias = linear.bias.requires_grad_(False)
        n_outputs, n_inputs = linear.weight.shape
        self.lora_a = torch.nn.Parameter(torch.empty(rank, n_inputs))
        self.lora_b = torch.nn.Parameter(torch.zeros(n_outputs, rank))
        torch.nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output [..., outputs] for ``x`` [..., inputs]."""
        linear = torch.nn.functional.linear
        change = linear(linear(x, self.lora_a), self.lora_b)
        return linear(x, self.weight, self.bias) + SCALE * change

    @torch.no_grad()
    def merged(self) -> torch.Tensor:
        """Return the single matrix [outputs, inputs] with the same effect."""
        return self.weight + SCALE * self.lora_b @ self.lora_a

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:
        state_dict.setdefault(f"{prefix}lora_a", self.lora_a)
        state_dict.setdefault(f"{prefix}lora_b", torch.zeros_like(self.lora_b))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def add_lora(
    model: torch.nn.Module, rank: int, targets: Collection[str] = TARGETS
) -> None:
    """Replace the named linear layers of a model by `LowRankLinear`.

    Arguments
    ---------
    model : torch.nn.Module
        Changed in place.
    rank : int
        Rank of every product, at least 1.
    targets : collection of str
        Last names of the layers to adapt.

    Raises
    ------
    InputError
        The rank is not a positive integer.

    Example
    -------
    >>> model = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(6, 4)})
    >>> add_lora(model, rank=2)
    >>> model["q_proj"].lora_a.shape
    torch.Size([2, 6])
    """
    if not isinstance(rank, int) or rank < 1:
        raise InputError(
            f"lora_rank is {rank!r}; it must be a whole number of 1 or more, "
            "or 0 for none; correct --embedder, for example "
            "--embedder='{lora_rank: 8}'"
        )
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if name in targets and isinstance(child, torch.nn.Linear):
                setattr(parent, name, LowRankLinear(child, rank))


def merged_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict of a plain model with the same output.

    Example
    -------
    >>> model = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(6, 4)})
    >>> add_lora(model, rank=2)
    >>> sorted(merged_state(model))
    ['q_proj.bias', 'q_proj.weight']
    """
    state = model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, LowRankLinear):
            prefix = f"{name}." if name else ""
            state[f"{prefix}weight"] = module.merged()
            del state[f"{prefix}lora_a"], state[f"{prefix}lora_b"]
    return state
