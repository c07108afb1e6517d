"""WavLM as a speaker embedder: hidden states of all layers, then pooling.

WavLM (Chen et al., IEEE JSTSP 2022) comes from the hub, a local folder or a
plain config; in the last case its weights are random and it says so.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    WavLMConfig,
    WavLMModel,
)
from transformers.utils import logging as transformers_logging

from speechbrain_ext.files import InputError, PathLike

FREEZE = ("all", "cnn", "none")
# What a WavLM is made of; a saved embedder carries these, explicitly.
_ARCHITECTURE = (
    "hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act hidden_dropout activation_dropout attention_dropout "
    "feat_proj_dropout layer_norm_eps feat_extract_norm "
    "feat_extract_activation conv_dim conv_stride conv_kernel conv_bias "
    "num_conv_pos_embeddings num_conv_pos_embedding_groups num_buckets "
    "max_bucket_distance do_stable_layer_norm"
).split()


class WavLMEncoder(torch.nn.Module):
    """Waveforms to the hidden states of every layer.

    LayerDrop and SpecAugment are off: the first changes the number of
    hidden states, the second is not part of speaker fine-tuning. Audio is
    normalised to zero mean and unit variance per utterance where the
    checkpoint's preprocessor says so (Large), and left alone elsewhere
    (Base, Base+).

    Arguments
    ---------
    source : str or os.PathLike, optional
        Hub id or local folder in transformers' format.
    config : mapping, optional
        Fields of ``transformers.WavLMConfig``, instead of ``source``: the
        weights are random. ``do_normalize`` may be among them.
    freeze : str
        ``"all"``: nothing is trained. ``"cnn"``: the transformer layers are;
        CNN, projection, positional convolution and the LayerNorms around
        them stay as pre-trained (Miara et al., Interspeech 2024). ``"none"``:
        everything is trained. Frozen parts stay in eval mode.

    Raises
    ------
    InputError
        The source cannot be had or is not a WavLM, or a field is unknown.

    Example
    -------
    >>> tiny = {"hidden_size": 32, "num_hidden_layers": 2,
    ...         "num_attention_heads": 2, "intermediate_size": 64,
    ...         "conv_dim": [16, 16], "conv_stride": [20, 16],
    ...         "conv_kernel": [20, 16], "num_conv_pos_embeddings": 16,
    ...         "num_conv_pos_embedding_groups": 2}
    >>> encoder = WavLMEncoder(config=tiny)
    >>> encoder(torch.randn(4, 16000)).shape
    torch.Size([3, 4, 50, 32])
    >>> encoder.is_random
    True
    """

    def __init__(
        self,
        source: PathLike | None = None,
        config: Mapping[str, Any] | None = None,
        freeze: str = "cnn",
    ):
        super().__init__()
        if freeze not in FREEZE:
            raise InputError(
                f"freeze is {freeze!r}; it must be one of {list(FREEZE)}"
            )
        if bool(source) == bool(config):
            raise InputError(
                f"encoder_source is {source!r} and encoder_config "
                f"{config or None!r}; give exactly one: a hub id or folder, "
                "or a plain config (and set the other to null or {})"
            )
        self.is_random = bool(config)
        if config:
            self.model, self.do_normalize = _from_config(config)
        else:
            self.model, self.do_normalize = _from_source(str(source))
        self.freeze = freeze
        self._set_requires_grad()
        self.train()

    @property
    def n_layers(self) -> int:
        """Hidden states given: the transformer layers and their input."""
        return self.model.config.num_hidden_layers + 1

    @property
    def output_size(self) -> int:
        """Channels C of a hidden state."""
        return self.model.config.hidden_size

    @property
    def plain_config(self) -> dict[str, Any]:
        """The architecture as a mapping that ``config`` takes."""
        config = self.model.config
        fields = {name: getattr(config, name) for name in _ARCHITECTURE}
        for name, value in fields.items():
            if isinstance(value, tuple):
                fields[name] = list(value)
        return {**fields, "do_normalize": self.do_normalize}

    def forward(self, wavs: torch.Tensor) -> torch.Tensor:
        """Hidden states of waveforms of one length, without padding.

        Arguments
        ---------
        wavs : torch.Tensor
            Samples at 16 kHz [B, T].

        Returns
        -------
        torch.Tensor
            [L + 1, B, T', C]: the input of the first transformer layer,
            then the output of each.

        Raises
        ------
        InputError
            The waveforms are too short for a single frame.
        """
        self._check_length(wavs.shape[1])
        if self.do_normalize:
            wavs = torch.nn.functional.layer_norm(
                wavs, wavs.shape[1:], eps=1e-7
            )
        tracked = torch.is_grad_enabled() and self.freeze != "all"
        with torch.set_grad_enabled(tracked):
            output = self.model(wavs, output_hidden_states=True)
            return torch.stack(output.hidden_states)

    def train(self, mode: bool = True) -> WavLMEncoder:
        """Train mode for what is trained; the rest stays in eval mode."""
        super().train(mode)
        if self.freeze != "none":
            self.model.eval()
        if self.freeze == "cnn":
            self.model.encoder.layers.train(mode)
        return self

    def _set_requires_grad(self) -> None:
        self.model.requires_grad_(self.freeze == "none")
        if self.freeze == "cnn":
            self.model.encoder.layers.requires_grad_(True)

    def _check_length(self, n_frames: int) -> None:
        config = self.model.config
        needed = 1
        layers = zip(config.conv_kernel, config.conv_stride, strict=True)
        for kernel, stride in reversed(list(layers)):
            needed = (needed - 1) * stride + kernel
        if n_frames < needed:
            raise InputError(
                f"an utterance of {n_frames} samples is shorter than the "
                f"{needed} that WavLM needs for one frame; drop such files "
                "when preparing the corpus"
            )


class WavLMSpeaker(torch.nn.Module):
    """WavLM and a pooling back-end: the ``embedding_model`` of a YAML.

    Arguments
    ---------
    encoder_source : str, optional
        As `WavLMEncoder`'s ``source``.
    encoder_config : mapping, optional
        As `WavLMEncoder`'s ``config``.
    pooling : callable
        Makes the back-end from ``n_layers`` and ``input_size``, for
        instance `speechbrain_ext.pooling.MHFA`.
    freeze : str
        As `WavLMEncoder`'s.

    Example
    -------
    >>> from speechbrain_ext.pooling import MHFA
    >>> tiny = {"hidden_size": 32, "num_hidden_layers": 2,
    ...         "num_attention_heads": 2, "intermediate_size": 64,
    ...         "conv_dim": [16, 16], "conv_stride": [20, 16],
    ...         "conv_kernel": [20, 16], "num_conv_pos_embeddings": 16,
    ...         "num_conv_pos_embedding_groups": 2}
    >>> model = WavLMSpeaker(None, tiny, MHFA)
    >>> model(torch.randn(2, 16000)).shape
    torch.Size([2, 1, 256])
    """

    random_start: torch.Tensor

    def __init__(
        self,
        encoder_source: PathLike | None,
        encoder_config: Mapping[str, Any] | None,
        pooling: Callable[..., torch.nn.Module],
        freeze: str = "cnn",
    ):
        super().__init__()
        self.encoder = WavLMEncoder(encoder_source, encoder_config, freeze)
        self.pooling = pooling(
            n_layers=self.encoder.n_layers, input_size=self.encoder.output_size
        )
        # It describes the weights, so it is saved and loaded with them.
        self.register_buffer(
            "random_start", torch.tensor(int(self.encoder.is_random))
        )

    @property
    def is_random(self) -> bool:
        """Whether training began from random, not pre-trained, WavLM."""
        return bool(self.random_start)

    @property
    def encoder_config(self) -> dict[str, Any]:
        """What a saved embedder needs instead of ``encoder_source``."""
        return self.encoder.plain_config

    def forward(
        self, wavs: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings of waveforms.

        Arguments
        ---------
        wavs : torch.Tensor
            Samples at 16 kHz [B, T].
        lengths : torch.Tensor, optional
            Relative lengths [B]. Padding would change every frame of WavLM,
            so utterances shorter than T are cut and embedded one by one.

        Returns
        -------
        torch.Tensor
            [B, 1, D]
        """
        if lengths is None or bool((lengths >= 1).all()):
            return self.pooling(self.encoder(wavs)).unsqueeze(1)
        n_frames = (lengths * wavs.shape[1]).round().long().tolist()
        pairs = zip(wavs, n_frames, strict=True)
        return torch.cat([self(wav[None, :n]) for wav, n in pairs])


class RawWaveform(torch.nn.Module):
    """Passes on its input: the place of features and their normalisation.

    Example
    -------
    >>> wavs = torch.ones(1, 4)
    >>> RawWaveform()(wavs, torch.ones(1)) is wavs
    True
    """

    def forward(
        self, x: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``x`` itself."""
        return x


def _without_masks(config: WavLMConfig) -> WavLMConfig:
    config.layerdrop = 0.0
    config.apply_spec_augment = False
    # At 0 transformers does not make the vector that would never be trained.
    config.mask_time_prob = config.mask_feature_prob = 0.0
    return config


def _from_config(config: Mapping[str, Any]) -> tuple[WavLMModel, bool]:
    fields = dict(config)
    do_normalize = bool(fields.pop("do_normalize", False))
    known = WavLMConfig().to_dict()
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            way = f"did you mean {near[0]!r}?" if near else "remove it"
            raise InputError(
                f"encoder_config has a field {name!r} that "
                f"transformers.WavLMConfig lacks; {way}"
            )
    try:
        model = WavLMModel(_without_masks(WavLMConfig(**fields)))
    # Of many kinds, according to which field contradicts which.
    except Exception as error:
        raise InputError(
            f"encoder_config makes no WavLM: {error}; correct its fields, "
            "see transformers.WavLMConfig"
        ) from error
    return model, do_normalize


def _from_source(source: str) -> tuple[WavLMModel, bool]:
    options: dict[str, Any] = {"local_files_only": Path(source).is_dir()}
    # Its annotation does not know what output_loading_info returns.
    load: Any = WavLMModel.from_pretrained
    try:
        config = AutoConfig.from_pretrained(source, **options)
        if not isinstance(config, WavLMConfig):
            raise InputError(
                f"encoder_source {source} is a {config.model_type} model; "
                "give a WavLM, e.g. microsoft/wavlm-base-plus"
            )
        with _quiet_transformers():
            model, report = load(
                source,
                config=_without_masks(config),
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
    except InputError:
        raise
    # OSError, a hub client's or a JSON error: all mean that it is not there.
    except Exception as error:
        raise InputError(
            f"encoder_source {source} cannot be loaded ({_first_line(error)}); "
            "give a local folder with a WavLM in transformers' format, or "
            "encoder_config, a plain config with random weights"
        ) from error
    if report["missing_keys"]:
        raise InputError(
            f"encoder_source {source} lacks the weights "
            f"{sorted(report['missing_keys'])[:3]}; give a complete WavLM"
        )
    return model, _wants_normalized(source, config, options)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Spare the user a warning of the unused vector of SpecAugment."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _wants_normalized(source: str, config: WavLMConfig, options: dict) -> bool:
    try:
        extractor = AutoFeatureExtractor.from_pretrained(source, **options)
    except (OSError, ValueError):
        # Without a preprocessor_config.json: as the models were released.
        return config.feat_extract_norm == "layer"
    return bool(extractor.do_normalize)
