"""Conversion of Microsoft's WavLM files to ``transformers`` format.

An official ``.pt`` is a dict of ``cfg`` (plain values, fairseq's names) and
``model`` (a state dict). The tables below map its names.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import torch

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.saved_tensors import read_saved

# Fields of transformers' WavLMConfig to those of the official cfg.
_FIELDS = {
    "num_hidden_layers": "encoder_layers",
    "hidden_size": "encoder_embed_dim",
    "intermediate_size": "encoder_ffn_embed_dim",
    "num_attention_heads": "encoder_attention_heads",
    "hidden_act": "activation_fn",
    "do_stable_layer_norm": "layer_norm_first",
    "conv_bias": "conv_bias",
    "hidden_dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "feat_proj_dropout": "dropout_input",
    "num_conv_pos_embeddings": "conv_pos",
    "num_conv_pos_embedding_groups": "conv_pos_groups",
    "num_buckets": "num_buckets",
    "max_bucket_distance": "max_distance",
    "do_normalize": "normalize",
}
# Patterns of official names of weights, and the names in transformers.
_CONV = r"feature_extractor\.conv_layers\.(\d+)\."
_LAYER = r"encoder\.layers\.(\d+)\."
_NAMES = [
    (_CONV + r"0\.", r"feature_extractor.conv_layers.\1.conv."),
    # Group norm follows the dropout; layer norm lies between transpositions.
    (_CONV + r"2\.(?:1\.)?", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"layer_norm\.", "feature_projection.layer_norm."),
    (r"post_extract_proj\.", "feature_projection.projection."),
    (
        r"encoder\.pos_conv\.0\.weight_g",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    ),
    (
        r"encoder\.pos_conv\.0\.weight_v",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
    ),
    (r"encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (
        _LAYER + r"self_attn\.grep_linear\.",
        r"encoder.layers.\1.attention.gru_rel_pos_linear.",
    ),
    (
        _LAYER + r"self_attn\.grep_a",
        r"encoder.layers.\1.attention.gru_rel_pos_const",
    ),
    (
        _LAYER + r"self_attn\.relative_attention_bias\.",
        r"encoder.layers.\1.attention.rel_attn_embed.",
    ),
    (_LAYER + r"self_attn\.", r"encoder.layers.\1.attention."),
    (_LAYER + r"self_attn_layer_norm\.", r"encoder.layers.\1.layer_norm."),
    (
        _LAYER + r"fc1\.",
        r"encoder.layers.\1.feed_forward.intermediate_dense.",
    ),
    (_LAYER + r"fc2\.", r"encoder.layers.\1.feed_forward.output_dense."),
]


def read_official(
    path: PathLike,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read config fields and weights of an official WavLM file.

    Arguments
    ---------
    path : str or os.PathLike
        For instance ``WavLM-Base+.pt``. It is read as plain data: no code in
        it could run.

    Returns
    -------
    tuple
        Fields of ``transformers.WavLMConfig`` with ``do_normalize``, and a
        state dict of ``transformers.WavLMModel``.

    Raises
    ------
    InputError
        The file is missing, is not an official WavLM, or has another
        architecture.
    """
    if not Path(path).exists():
        raise InputError(
            f"encoder_source {path}: no such file; correct the path or give "
            "a hub id, e.g. microsoft/wavlm-base-plus"
        )
    content, reason = read_saved(path)
    if reason:
        raise _not_official(path, reason)
    try:
        cfg, state = content["cfg"], content["model"]
        fields = _config_fields(cfg)
    except (LookupError, TypeError, ValueError, SyntaxError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _not_official(path, reason) from error
    for name in ("relative_position_embedding", "gru_rel_pos"):
        if not cfg.get(name):
            raise InputError(
                f"encoder_source {path} has no {name} in its cfg; it must be "
                "a WavLM; give WavLM-Base.pt, -Base+.pt or -Large.pt"
            )
    # A speaker model does not use the vector of masked pre-training.
    return fields, {
        official_to_transformers(name): value
        for name, value in state.items()
        if name != "mask_emb"
    }


def _not_official(path: PathLike, reason: str) -> InputError:
    return InputError(
        f"encoder_source {path} is no official WavLM file ({reason}); it must "
        "hold a dict of cfg and model, as Microsoft published it; get the file "
        "again, or give another model's hub id or folder"
    )


def official_to_transformers(name: str) -> str:
    """Return the name in transformers of an official weight.

    Example
    -------
    >>> official_to_transformers("encoder.layers.3.fc1.weight")
    'encoder.layers.3.feed_forward.intermediate_dense.weight'
    >>> official_to_transformers("encoder.layer_norm.bias")
    'encoder.layer_norm.bias'
    """
    for pattern, replacement in _NAMES:
        renamed, n_found = re.subn("^" + pattern, replacement, name)
        if n_found:
            return renamed
    return name


def _config_fields(cfg: dict[str, Any]) -> dict[str, Any]:
    fields = {name: cfg[theirs] for name, theirs in _FIELDS.items()}
    convolutions = _conv_layers(ast.parse(cfg["conv_feature_layers"]).body[0])
    sizes, kernels, strides = zip(*convolutions, strict=True)
    return {
        **fields,
        "conv_dim": list(sizes),
        "conv_kernel": list(kernels),
        "conv_stride": list(strides),
        "feat_extract_norm": {"default": "group", "layer_norm": "layer"}[
            cfg["extractor_mode"]
        ],
    }


def _conv_layers(node: ast.AST) -> list[tuple[int, int, int]]:
    """Evaluate ``"[(512,10,5)] + [(512,3,2)] * 4"`` without running code."""
    if isinstance(node, ast.Expr):
        return _conv_layers(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _conv_layers(node.left) + _conv_layers(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _conv_layers(node.left) * ast.literal_eval(node.right)
    return ast.literal_eval(node)


def is_official(source: PathLike) -> bool:
    """Return whether a source is an official file, by its suffix."""
    return Path(source).suffix == ".pt"
