"""Several embedders as one: their embeddings side by side.

Errors that two models do not share weigh half in the cosine of both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import normalize

from speechbrain_ext.models.embedder import Embedder, WaveEmbedder
from speechbrain_ext.models.speech_encoder import one_by_one
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.yaml_trees import (
    merged,
    parse_yaml,
    plain,
    read_yaml,
    resolved,
)

_BASE = "embedders/bases/embedder.yaml"


class JoinedEmbedder(torch.nn.Module):
    """Embedders side by side, each with the same weight.

    With e_i the embedding of part i of n, scaled to length one, the embedding
    is W (e_1, ..., e_n) / sqrt(n) + b. W is the identity and b zero, and the
    cosine of two embeddings the mean of the parts' cosines, until whitening
    is folded into them (`whiten_embedder`).

    Arguments
    ---------
    parts : sequence of WaveEmbedder
        Two or more, that take samples at 16 kHz.
    embedding_size : int
        Dimension D: the sum of the parts'.

    Raises
    ------
    InputError
        There are fewer than two.

    Example
    -------
    >>> from speechbrain_ext.models.embedder import build_embedder
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> part = build_embedder("embedders/ecapa.yaml", small)
    >>> JoinedEmbedder([part, part], 16)(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 16])
    """

    def __init__(self, parts: Sequence[WaveEmbedder], embedding_size: int):
        super().__init__()
        if len(parts) < 2:
            raise InputError(
                f"parts has {len(parts)} embedders; two or more are joined; "
                "give more in --embedder_folders"
            )
        self.parts = torch.nn.ModuleList(parts)
        self.output = torch.nn.Linear(embedding_size, embedding_size)
        with torch.no_grad():
            self.output.weight.copy_(torch.eye(embedding_size))
            self.output.bias.zero_()

    @property
    def is_random(self) -> bool:
        """Whether a part's speech encoder started from random weights."""
        return any(bool(part.is_random) for part in self.parts)

    def forward(
        self, wavs: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return embeddings of waveforms.

        Arguments
        ---------
        wavs : torch.Tensor
            Samples at 16 kHz [B, T], from -1 to 1.
        lengths : torch.Tensor, optional
            Relative lengths [B], from 0 to 1. Utterances shorter than T are
            cut and embedded one by one.

        Returns
        -------
        torch.Tensor
            [B, 1, D]
        """
        if lengths is not None and bool((lengths < 1).any()):
            return one_by_one(self, wavs, lengths)
        units = [normalize(part(wavs), dim=1) for part in self.parts]
        joined = torch.cat(units, dim=1) / len(units) ** 0.5
        return self.output(joined).unsqueeze(1)


def join_embedders(embedders: Sequence[Embedder]) -> Embedder:
    """Return one embedder of several, with their weights.

    Arguments
    ---------
    embedders : sequence of Embedder
        Two or more, from `load_embedder`.

    Returns
    -------
    Embedder
        Of a `JoinedEmbedder`; saved, it loads without the folders that its
        parts came from.

    Raises
    ------
    InputError
        There are fewer than two.

    Example
    -------
    >>> from speechbrain_ext.models.embedder import build_embedder
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> part = build_embedder("embedders/ecapa.yaml", small)
    >>> join_embedders([part, part]).embedding_size
    16
    """
    joined = Embedder(_joined_yaml(embedders))
    # What is not in a folder's weights, such as filter banks, is made alike.
    parts = list(joined.model.children())[0]
    for part, embedder in zip(parts.children(), embedders, strict=True):
        part.load_state_dict(embedder.state_dict())
    return joined


def _joined_yaml(embedders: Sequence[Embedder]) -> str:
    """Return the embedder YAML of embedders, joined."""
    raw = {"!": "!new:speechbrain_ext.models.RawWaveform"}
    changes = {
        "compute_features": raw,
        "mean_var_norm": raw,
        "embedding_model": {
            "!": "!new:speechbrain_ext.models.JoinedEmbedder",
            "parts": [_part(one.yaml_text) for one in embedders],
            "embedding_size": sum(one.embedding_size for one in embedders),
        },
    }
    tree = merged(read_yaml(_BASE), parse_yaml(_as_yaml(changes)))
    return resolved(tree, _BASE)


def _part(text: str) -> dict[str, Any]:
    """Return an embedder YAML's modules as the arguments of a part."""
    modules = plain(parse_yaml(text)["modules"], tags=True)
    return {
        "!": "!new:speechbrain_ext.models.WaveEmbedder",
        "features": modules["compute_features"],
        "norm": modules["mean_var_norm"],
        "model": modules["embedding_model"],
    }


def _as_yaml(node: Any) -> str:
    """Write a tree whose classes are under the key ``"!"`` as YAML text."""
    if isinstance(node, dict):
        items = {key: _as_yaml(v) for key, v in node.items() if key != "!"}
        pairs = ", ".join(f"{json.dumps(k)}: {v}" for k, v in items.items())
        return f"{node.get('!', '')} {{{pairs}}}".strip()
    if isinstance(node, list):
        return f"[{', '.join(_as_yaml(value) for value in node)}]"
    if isinstance(node, str) and node.startswith("!"):
        return f"{node} {{}}"
    return json.dumps(node)
