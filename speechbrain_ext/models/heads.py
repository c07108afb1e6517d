"""Heads: networks between an embedding and a self-supervised loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from speechbrain_ext.utils.compat import weight_norm
from speechbrain_ext.utils.precision import single_precision


class DINOHead(torch.nn.Module):
    """DINO's projection head: MLP, L2 normalisation, unit-norm prototypes.

    Caron et al., "Emerging properties in self-supervised vision transformers",
    ICCV 2021, section 3.1 and appendix C. The MLP has BatchNorm, as there for
    convolutional encoders (ViTs do without); it keeps the student from
    collapsing.

    Arguments
    ---------
    input_size : int
        Dimension D of the embedding.
    hidden_size : int
        Width of the two hidden layers.
    bottleneck_size : int
        Dimension that is L2-normalised.
    n_prototypes : int
        Number K of prototypes, which is that of outputs.
    expander_size : int
        Width E of a linear layer before the bottleneck, for
        `speechbrain_ext.losses.rdino_regularizer` (RDINO: 8192); 0 for none.

    Notes
    -----
    Computed in float32 under autocast too: cosines are divided by a
    temperature of 0.04, and half precision would leave two digits of them.

    Example
    -------
    >>> head = DINOHead(192, hidden_size=32, bottleneck_size=8, n_prototypes=64)
    >>> logits = head(torch.randn(4, 192))
    >>> logits.shape, bool((logits.abs() <= 1 + 1e-6).all())
    (torch.Size([4, 64]), True)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 2048,
        bottleneck_size: int = 256,
        n_prototypes: int = 65536,
        expander_size: int = 0,
    ):
        super().__init__()
        self.expander_size = expander_size
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(input_size, hidden_size),
            torch.nn.BatchNorm1d(hidden_size),
            torch.nn.GELU(),
            torch.nn.Linear(hidden_size, hidden_size),
            torch.nn.BatchNorm1d(hidden_size),
            torch.nn.GELU(),
            torch.nn.Linear(hidden_size, expander_size or bottleneck_size),
        )
        self.bottleneck: torch.nn.Module = torch.nn.Identity()
        if expander_size:
            self.bottleneck = torch.nn.Linear(expander_size, bottleneck_size)
        for layer in (*self.mlp, self.bottleneck):
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.trunc_normal_(layer.weight, std=0.02)
                torch.nn.init.zeros_(layer.bias)
        # Weight normalisation with its gain frozen at 1 is a unit-norm row.
        self.prototypes = torch.nn.Parameter(
            torch.empty(n_prototypes, bottleneck_size)
        )
        torch.nn.init.kaiming_uniform_(self.prototypes, a=5**0.5)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the cosines of embeddings with the prototypes.

        Arguments
        ---------
        embeddings : torch.Tensor
            [B, D]

        Returns
        -------
        torch.Tensor
            [B, K], float32, from -1 to 1.
        """
        return self.cosines(self.expand(embeddings))

    def expand(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the output of the MLP.

        Arguments
        ---------
        embeddings : torch.Tensor
            [B, D]

        Returns
        -------
        torch.Tensor
            The expansion [B, E] or, without ``expander_size``, the bottleneck
            before it is normalised [B, bottleneck_size].
        """
        with single_precision(embeddings):
            return self.mlp(embeddings.float())

    def cosines(self, expansion: torch.Tensor) -> torch.Tensor:
        """Return cosines [B, K] of the outputs of `expand` with prototypes."""
        with single_precision(expansion):
            hidden = F.normalize(self.bottleneck(expansion.float()), dim=1)
            # One kernel each way; the backward of `normalize` takes three
            # times as long.
            gains = self.prototypes.new_ones(len(self.prototypes), 1)
            unit = weight_norm(self.prototypes, gains)
            return F.linear(hidden, unit)


class Outputs(NamedTuple):
    """Outputs of embedder and head for V views of B utterances."""

    embeddings: torch.Tensor  # [V B, D]
    expansion: torch.Tensor  # [V, B, E]
    cosines: torch.Tensor  # [V, B, K]


class Projector(torch.nn.Module):
    """Embedder and DINO head, for crops of several lengths.

    Arguments
    ---------
    embedder : torch.nn.Module
        Waveforms [B, T] to embeddings [B, D].
    head : DINOHead
        For embeddings of size D.

    Example
    -------
    >>> projector = Projector(
    ...     torch.nn.LazyLinear(8), DINOHead(8, n_prototypes=16)
    ... )
    >>> out = projector(torch.randn(2, 3, 40), torch.randn(4, 3, 40))
    >>> out.embeddings.shape, out.cosines.shape
    (torch.Size([18, 8]), torch.Size([6, 3, 16]))
    """

    def __init__(self, embedder: torch.nn.Module, head: DINOHead):
        super().__init__()
        self.embedder = embedder
        self.head = head

    def forward(self, *crops: torch.Tensor) -> Outputs:
        """Return the outputs for crops.

        Arguments
        ---------
        *crops : torch.Tensor
            Crops [V_i, B, T_i] of each length.

        Returns
        -------
        Outputs
            Of all views, in the order given.
        """
        shape = (-1, crops[0].shape[1])
        embeddings = torch.cat([self.embedder(c.flatten(0, 1)) for c in crops])
        # One head pass over all crops: its BatchNorm sees them together.
        expansion = self.head.expand(embeddings)
        cosines = self.head.cosines(expansion).unflatten(0, shape)
        return Outputs(embeddings, expansion.unflatten(0, shape), cosines)


class Projection(torch.nn.Module):
    """SimCLR's projection head between embedding and loss: an MLP or none.

    Chen et al., "A simple framework for contrastive learning of visual
    representations", ICML 2020, section 4.2, with BatchNorm and two hidden
    layers (Chen et al., "Big self-supervised models are strong semi-supervised
    learners", NeurIPS 2020). Without the MLP, embeddings are compared.

    Arguments
    ---------
    input_size : int
        Dimension D of the embedding.
    hidden_size : int
        Width of the two hidden layers; 0 for no MLP.
    output_size : int
        Dimension of the MLP's output.

    Example
    -------
    >>> Projection(8).size, Projection(8, 32, 16)(torch.randn(4, 8)).shape
    (8, torch.Size([4, 16]))
    """

    def __init__(
        self, input_size: int, hidden_size: int = 0, output_size: int = 512
    ):
        super().__init__()
        self.size = output_size if hidden_size else input_size
        self.mlp = torch.nn.Sequential()
        if hidden_size:
            self.mlp.extend(_hidden(input_size, hidden_size))
            self.mlp.extend(_hidden(hidden_size, hidden_size))
            self.mlp.append(torch.nn.Linear(hidden_size, output_size))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Project embeddings.

        Arguments
        ---------
        embeddings : torch.Tensor
            [B, D]

        Returns
        -------
        torch.Tensor
            [B, ``size``]
        """
        return self.mlp(embeddings)


def _hidden(input_size: int, hidden_size: int) -> list[torch.nn.Module]:
    return [
        torch.nn.Linear(input_size, hidden_size),
        torch.nn.BatchNorm1d(hidden_size),
        torch.nn.ReLU(),
    ]
