"""Pre-trained transformer speech models: loading and construction.

The source is a hub id, a local folder, an official WavLM file or a plain
config (random weights). LayerDrop and SpecAugment, which are for pre-training
only, are switched off.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
    WavLMModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import logging as transformers_logging

from speechbrain_ext.models.encoder_source import check_source
from speechbrain_ext.models.wavlm_attention import fuse_attention
from speechbrain_ext.models.wavlm_checkpoint import is_official, read_official
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, check_links

# transformers' ``model_type`` of each usable kind, with an example.
KINDS = {
    "wavlm": "microsoft/wavlm-base-plus",
    "hubert": "facebook/hubert-base-ls960",
    "wav2vec2": "facebook/wav2vec2-base",
    "unispeech-sat": "microsoft/unispeech-sat-base-plus",
    "wav2vec2-bert": "facebook/w2v-bert-2.0",
    "whisper": "openai/whisper-base",
}
# Fields of the config that make the architecture, where a kind has them; a
# saved embedder holds them all.
ARCHITECTURE = (
    "hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act hidden_dropout activation_dropout attention_dropout "
    "feat_proj_dropout layer_norm_eps feat_extract_norm "
    "feat_extract_activation conv_dim conv_stride conv_kernel conv_bias "
    "num_conv_pos_embeddings num_conv_pos_embedding_groups num_buckets "
    "max_bucket_distance do_stable_layer_norm feat_proj_layer_norm "
    "conv_pos_batch_norm adapter_attn_dim feature_projection_input_dim "
    "position_embeddings_type rotary_embedding_base max_source_positions "
    "left_max_position_embeddings right_max_position_embeddings "
    "conv_depthwise_kernel_size conformer_conv_dropout encoder_ffn_dim "
    "activation_function dropout num_mel_bins"
).split()
# Names of the encoder's weights in a whole Whisper, without and with its head.
_WHISPER_PREFIX = {r"^(model\.)?encoder\.": ""}


def load_model(
    source: PathLike | None, config: Mapping[str, Any] | None
) -> tuple[PreTrainedModel, bool]:
    """Load or make a speech model; return whether it normalises its audio.

    Arguments
    ---------
    source : str or os.PathLike, optional
        Hub id, local folder in transformers' format, or a file ``*.pt`` as
        Microsoft published WavLM.
    config : mapping, optional
        Instead of ``source``: fields of the config class of ``model_type``
        (default ``"wavlm"``, or another of `KINDS`). ``do_normalize`` may be
        among them.

    Returns
    -------
    tuple
        The ``transformers`` model without its heads (of Whisper the encoder
        alone) in float32, and whether utterances get zero mean and unit
        variance: as its preprocessor or its official file says; without one,
        as its kind was released.

    Raises
    ------
    InputError
        Both or none are given, the source cannot be loaded or is of another
        kind, or a field is unknown.

    Example
    -------
    >>> model, do_normalize = load_model(None, {
    ...     "model_type": "hubert", "hidden_size": 32, "num_hidden_layers": 2,
    ...     "num_attention_heads": 2, "intermediate_size": 64,
    ...     "conv_dim": [16, 16], "conv_stride": [20, 16],
    ...     "conv_kernel": [20, 16], "num_conv_pos_embeddings": 16,
    ...     "num_conv_pos_embedding_groups": 2})
    >>> type(model).__name__, do_normalize
    ('HubertModel', False)
    """
    if bool(source) == bool(config):
        raise InputError(
            f"encoder_source is {source or 'null'} and encoder_config "
            f"{dict(config or {})}; they exclude each other; give exactly "
            "one: a hub id, folder or .pt file, or a plain config, and set the "
            "other to null or {}"
        )
    if config:
        model, do_normalize = _from_config(config)
    elif is_official(str(source)):
        model, do_normalize = _from_official(str(source))
    else:
        model, do_normalize = _from_source(str(source))
    if isinstance(model, WavLMModel):
        fuse_attention(model)
    if hasattr(model, "masked_spec_embed"):
        # UniSpeech-SAT always has it; it would be an unused weight.
        del model.masked_spec_embed
    return model, do_normalize


def architecture(config: PretrainedConfig) -> dict[str, Any]:
    """Return the config fields that make the same model, as plain values.

    Example
    -------
    >>> from transformers import WavLMConfig
    >>> fields = architecture(WavLMConfig(hidden_size=96))
    >>> fields["model_type"], fields["hidden_size"], fields["conv_dim"][:2]
    ('wavlm', 96, [512, 512])
    """
    fields: dict[str, Any] = {"model_type": config.model_type}
    for name in ARCHITECTURE:
        if hasattr(config, name):
            value = getattr(config, name)
            fields[name] = list(value) if isinstance(value, tuple) else value
    return fields


def _without_pretraining(config: PretrainedConfig) -> PretrainedConfig:
    config.layerdrop = config.encoder_layerdrop = 0.0
    config.apply_spec_augment = False
    # At 0, transformers does not make the mask vector, which is not trained.
    config.mask_time_prob = config.mask_feature_prob = 0.0
    # Layers after the last hidden state, in translation models.
    config.add_adapter = config.use_intermediate_ffn_before_adapter = False
    return config


def _from_config(config: Mapping[str, Any]) -> tuple[PreTrainedModel, bool]:
    fields = dict(config)
    do_normalize = bool(fields.pop("do_normalize", False))
    kind = fields.pop("model_type", "wavlm")
    if kind not in KINDS:
        raise InputError(
            f"encoder_config.model_type is {kind!r}; it must be one of "
            f"{list(KINDS)}; correct it, or leave it out for wavlm"
        )
    known = AutoConfig.for_model(kind)
    # Whisper's config has other names for some of the fields of the others.
    names = {*known.to_dict(), *known.attribute_map}
    for name in fields:
        if name not in names:
            near = difflib.get_close_matches(name, sorted(names), 1)
            way = f"did you mean {near[0]!r}?" if near else "remove it"
            raise InputError(
                f"encoder_config.{name} is {fields[name]!r}; "
                f"transformers.{type(known).__name__} has no such field; {way}"
            )
    try:
        made: Any = AutoConfig.for_model(kind, **fields)
        made = _without_pretraining(made)
        if kind == "whisper":
            model = WhisperEncoder(made)
        else:
            model = AutoModel.from_config(made, trust_remote_code=False)
    # The type depends on which fields contradict each other.
    except Exception as error:
        raise InputError(
            f"encoder_config makes no {kind} model: {error}; correct its "
            f"fields, see transformers.{type(known).__name__}"
        ) from error
    return model, do_normalize


def _from_official(path: str) -> tuple[PreTrainedModel, bool]:
    fields, state = read_official(path)
    model, do_normalize = _from_config(fields)
    try:
        keys = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(
            f"encoder_source {path}: its weights do not fit its cfg "
            f"({str(error).splitlines()[-1].strip()}); get the file anew"
        ) from error
    _check_complete(path, keys.missing_keys)
    return model, do_normalize


def _from_source(source: str) -> tuple[PreTrainedModel, bool]:
    # Without the second, transformers asks whether to run the code of the
    # source, and takes a "y" for an answer.
    options: dict[str, Any] = {
        "local_files_only": Path(source).is_dir(),
        "trust_remote_code": False,
    }
    # Its annotation does not know what output_loading_info returns.
    load: Any = AutoModel.from_pretrained
    try:
        if options["local_files_only"]:
            check_links(source, os.listdir(source))
        config = AutoConfig.from_pretrained(source, **options)
        if config.model_type not in KINDS:
            raise InputError(
                f"encoder_source {source} is a {config.model_type} model; "
                f"give one of {list(KINDS)}, e.g. {KINDS['wavlm']}"
            )
        if options["local_files_only"]:
            check_source(source)
        more = {}
        if config.model_type == "whisper":
            load = WhisperEncoder.from_pretrained
            more = {"key_mapping": _WHISPER_PREFIX}
        with _quiet_transformers():
            model, report = load(
                source,
                config=_without_pretraining(config),
                dtype=torch.float32,
                output_loading_info=True,
                **options,
                **more,
            )
    except InputError:
        raise
    # OSError, an error of the hub client or of JSON: there is no such model.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"encoder_source {source} cannot be loaded ({reason}); "
            "give a local folder with a model in transformers' format, or "
            "encoder_config, a plain config with random weights"
        ) from error
    _check_complete(source, report["missing_keys"])
    return model, _wants_normalized(source, config, options)


def _check_complete(source: str, missing_keys: Any) -> None:
    if missing_keys:
        raise InputError(
            f"encoder_source {source} lacks the weights "
            f"{sorted(missing_keys)[:3]}; give a complete model"
        )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the warning about the unused mask vector of SpecAugment."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _wants_normalized(
    source: str, config: PretrainedConfig, options: dict
) -> bool:
    try:
        extractor = AutoFeatureExtractor.from_pretrained(source, **options)
    except (OSError, ValueError):
        # Without a preprocessor_config.json: the default of the release.
        return getattr(config, "feat_extract_norm", None) == "layer"
    # w2v-BERT 2.0's makes log-mel features and has no such field.
    return bool(getattr(extractor, "do_normalize", False))
