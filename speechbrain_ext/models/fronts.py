"""Fronts of speech encoders: from waveforms to the first transformer layer.

Kinds of pre-trained encoders differ there: WavLM, HuBERT, wav2vec 2.0 and
UniSpeech-SAT have a CNN on samples, w2v-BERT 2.0 mel bands, Whisper a small CNN
on mel bands. A front has no weights; it uses those of the ``transformers``
model, whose names a saved embedder keeps.
"""

from __future__ import annotations

from typing import Any

import torch

from speechbrain_ext.models.conv_frontend import convolve
from speechbrain_ext.models.log_mel import LogMel, WhisperLogMel
from speechbrain_ext.utils.errors import InputError


class Front(torch.nn.Module):
    """Base of fronts, for a model whose layers are in ``model.encoder``.

    Arguments
    ---------
    model : transformers.PreTrainedModel
        Its config gives sizes; it is passed to every call.
    """

    # Whether utterances are encoded in windows of limited length.
    has_windows = False

    def __init__(self, model: Any):
        super().__init__()

    def windows(self, wavs: torch.Tensor) -> list[torch.Tensor]:
        """Return what the CNN takes, a tensor for each window in time."""
        return [wavs]

    def convolved(self, model: Any, x: torch.Tensor) -> torch.Tensor:
        """Compute the output of the CNN for one window."""
        return x

    def projected(self, model: Any, x: torch.Tensor) -> torch.Tensor:
        """Compute the input of the first layer from the CNN's output."""
        raise NotImplementedError

    def shared(self, model: Any, x: torch.Tensor) -> dict[str, Any]:
        """Return the arguments that all layers share, such as positions."""
        return {}

    def layers(self, model: Any) -> torch.nn.ModuleList:
        """Return the transformer layers."""
        return model.encoder.layers

    def keep_layers(self, model: Any, n_layers: int | None) -> None:
        """Delete all but the first transformer layers; None keeps all.

        Raises
        ------
        InputError
            It is no whole number from 1 to the number of layers.
        """
        if n_layers is None:
            return
        layers = self.layers(model)
        # True is an int, and no number of layers.
        if type(n_layers) is not int or not 1 <= n_layers <= len(layers):
            raise InputError(
                f"n_layers is {n_layers!r}; it must be a whole number from 1 "
                f"to the encoder's {len(layers)} layers; correct --embedder, "
                f"for example --embedder='{{n_layers: {len(layers)}}}', or "
                "give null for all"
            )
        del layers[n_layers:]
        model.config.num_hidden_layers = n_layers

    def cnn(self, model: Any) -> list[torch.nn.Module]:
        """Return the modules of the CNN; none if there is none."""
        return []

    def never_trained(self, model: Any) -> list[torch.nn.Module]:
        """Return the modules that are not used, or fixed by design."""
        return []

    def n_samples(self, model: Any) -> int:
        """Return the length of the shortest usable utterance, in samples."""
        raise NotImplementedError

    def n_states(self, model: Any, n_samples: Any) -> Any:
        """Return the number of states T' of utterances, by their samples."""
        raise NotImplementedError


class ConvFront(Front):
    """CNN on samples, projection and positional convolution.

    Of WavLM, HuBERT, wav2vec 2.0 and UniSpeech-SAT.

    Example
    -------
    >>> from transformers import WavLMConfig, WavLMModel
    >>> model = WavLMModel(WavLMConfig(hidden_size=96, num_hidden_layers=1))
    >>> ConvFront(model).n_samples(model)
    400
    """

    def convolved(self, model: Any, x: torch.Tensor) -> torch.Tensor:
        """Compute frames [B, T', C] of waveforms [B, T]."""
        return convolve(model.feature_extractor, x)

    def projected(self, model: Any, x: torch.Tensor) -> torch.Tensor:
        """Project frames, add positions, normalise: [B, T', C]."""
        encoder = model.encoder
        x = model.feature_projection(x)
        # HuBERT's projection returns one value instead of two.
        x = x[0] if isinstance(x, tuple) else x
        x = x + encoder.pos_conv_embed(x)
        if not model.config.do_stable_layer_norm:
            x = encoder.layer_norm(x)
        return encoder.dropout(x)

    def shared(self, model: Any, x: torch.Tensor) -> dict[str, Any]:
        """Return WavLM's position bias, which all layers share."""
        if model.config.model_type != "wavlm":
            return {}
        first = model.encoder.layers[0].attention
        return {"position_bias": first.position_bias(x.shape[1])}

    def cnn(self, model: Any) -> list[torch.nn.Module]:
        """Return the feature extractor."""
        return [model.feature_extractor]

    def never_trained(self, model: Any) -> list[torch.nn.Module]:
        """Return the LayerNorm that follows the last hidden state, if any."""
        if model.config.do_stable_layer_norm:
            return [model.encoder.layer_norm]
        return []

    def n_samples(self, model: Any) -> int:
        """Return the samples that the CNN needs for one frame."""
        config, needed = model.config, 1
        layers = zip(config.conv_kernel, config.conv_stride, strict=True)
        for kernel, stride in reversed(list(layers)):
            needed = (needed - 1) * stride + kernel
        return needed

    def n_states(self, model: Any, n_samples: Any) -> Any:
        """Return the number of frames that the CNN makes."""
        config = model.config
        for kernel, stride in zip(
            config.conv_kernel, config.conv_stride, strict=True
        ):
            n_samples = (n_samples - kernel) // stride + 1
        return n_samples


class BertFront(Front):
    """Mel bands and their projection, of w2v-BERT 2.0.

    Example
    -------
    >>> BertFront(None).n_samples(None)
    560
    """

    def __init__(self, model: Any):
        super().__init__(model)
        self.log_mel = LogMel()

    def windows(self, wavs: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of the whole utterances."""
        return [self.log_mel(wavs)]

    def projected(self, model: Any, x: torch.Tensor) -> torch.Tensor:
        """Project features [B, T', 160]: [B, T', C]."""
        return model.encoder.dropout(model.feature_projection(x)[0])

    def shared(self, model: Any, x: torch.Tensor) -> dict[str, Any]:
        """Return relative positions, if the model has them."""
        embed = getattr(model.encoder, "embed_positions", None)
        if embed is None:
            return {}
        return {"relative_position_embeddings": embed(x)}

    def n_samples(self, model: Any) -> int:
        """Return the samples of two frames, which make a state."""
        return self.log_mel.n_samples

    def n_states(self, model: Any, n_samples: Any) -> Any:
        """Return the number of pairs of frames."""
        return self.log_mel.n_frames(n_samples)


class WhisperFront(Front):
    """Mel bands, two convolutions and fixed positions, of Whisper.

    Radford et al., "Robust speech recognition via large-scale weak
    supervision", ICML 2023. An utterance that fits into the model's window (30
    s) is not padded to it: it gets the first of the positions. A longer one is
    cut, after its mel bands were computed, into as few windows of equal length
    as will do (the last may be some frames shorter). Each window is encoded by
    itself, from the first position on, and its states follow those of the one
    before. There is a state for every 20 ms begun.

    Arguments
    ---------
    model : transformers.models.whisper.modeling_whisper.WhisperEncoder
        Gives the number of mel bands and of positions.

    Example
    -------
    >>> from transformers import WhisperConfig
    >>> from transformers.models.whisper.modeling_whisper import WhisperEncoder
    >>> model = WhisperEncoder(WhisperConfig(d_model=12, encoder_layers=1))
    >>> front = WhisperFront(model)
    >>> [part.shape for part in front.windows(torch.randn(2, 31 * 16000))]
    [torch.Size([2, 80, 1550]), torch.Size([2, 80, 1550])]
    >>> part = front.windows(torch.randn(2, 16000))[0]
    >>> front.projected(model, front.convolved(model, part)).shape
    torch.Size([2, 50, 12])
    """

    has_windows = True

    def __init__(self, model: Any):
        super().__init__(model)
        config = model.config
        stride = model.conv1.stride[0] * model.conv2.stride[0]
        self.n_frames = config.max_source_positions * stride
        self.stride = stride
        self.log_mel = WhisperLogMel(config.num_mel_bins, self.n_frames)

    def windows(self, wavs: torch.Tensor) -> list[torch.Tensor]:
        """Return mel bands [B, bands, frames], at most 30 s each."""
        bands = self.log_mel(wavs)
        n_windows = -(-bands.shape[2] // self.n_frames)
        # Whole states, so that none is lost where windows meet.
        n_states = -(-bands.shape[2] // (n_windows * self.stride))
        return list(bands.split(n_states * self.stride, dim=2))

    def convolved(self, model: Any, x: torch.Tensor) -> torch.Tensor:
        """Compute frames [B, T', C] of mel bands [B, bands, frames]."""
        gelu = torch.nn.functional.gelu
        x = x.to(model.conv1.weight.dtype)
        return gelu(model.conv2(gelu(model.conv1(x)))).transpose(1, 2)

    def projected(self, model: Any, x: torch.Tensor) -> torch.Tensor:
        """Add the first T' positions to frames [B, T', C]."""
        x = x + model.embed_positions.weight[: x.shape[1]]
        return torch.nn.functional.dropout(x, model.dropout, model.training)

    def shared(self, model: Any, x: torch.Tensor) -> dict[str, Any]:
        """Return the mask that the layers ask for: none."""
        return {"attention_mask": None}

    def layers(self, model: Any) -> torch.nn.ModuleList:
        """Return the transformer layers."""
        return model.layers

    def cnn(self, model: Any) -> list[torch.nn.Module]:
        """Return the two convolutions."""
        return [model.conv1, model.conv2]

    def never_trained(self, model: Any) -> list[torch.nn.Module]:
        """Return the sinusoids, and the LayerNorm after the last state."""
        return [model.embed_positions, model.layer_norm]

    def n_samples(self, model: Any) -> int:
        """Return the samples of one frame of mel bands."""
        return self.log_mel.n_samples

    def n_states(self, model: Any, n_samples: Any) -> Any:
        """Return the number of states of all windows together."""
        return -(-self.log_mel.n_frames(n_samples) // self.stride)


def front_of(model: Any) -> Front:
    """Return the front of a model, by its ``model_type``.

    Example
    -------
    >>> from transformers import WavLMConfig, WavLMModel
    >>> model = WavLMModel(WavLMConfig(hidden_size=96, num_hidden_layers=1))
    >>> type(front_of(model)).__name__
    'ConvFront'
    """
    kinds = {"wav2vec2-bert": BertFront, "whisper": WhisperFront}
    return kinds.get(model.config.model_type, ConvFront)(model)
