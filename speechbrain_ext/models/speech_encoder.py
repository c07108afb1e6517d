"""Speech encoder (all hidden states) and speaker encoder (pooled).

The speech encoder is WavLM (Chen et al., IEEE JSTSP 2022), HuBERT, wav2vec
2.0, UniSpeech-SAT, w2v-BERT 2.0 or the encoder of Whisper (Radford et al.,
ICML 2023), from `speechbrain_ext.models.pretrained`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from speechbrain_ext.models.fronts import front_of
from speechbrain_ext.models.lora import add_lora, merged_state
from speechbrain_ext.models.pretrained import architecture, load_model
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike

FREEZE = ("all", "front", "cnn", "none")


class SpeechEncoder(torch.nn.Module):
    """Pre-trained speech encoder: hidden states of all layers.

    WavLM (Chen et al., IEEE JSTSP 2022) or another kind of
    `speechbrain_ext.models.pretrained.KINDS`. LayerDrop and SpecAugment are
    off: the first changes the number of hidden states, the second is not part
    of speaker fine-tuning. Audio is normalised to zero mean and unit variance
    per utterance if the model's preprocessor says so (WavLM Large), and not
    otherwise (WavLM Base, Base+). Whisper hears 30 s at most: longer audio is
    encoded in windows, see `speechbrain_ext.models.fronts.WhisperFront`.

    Arguments
    ---------
    source : str or os.PathLike, optional
        Hub id, local folder in transformers' format, or a ``.pt`` file as
        Microsoft published WavLM.
    config : mapping, optional
        Fields of transformers' config, instead of ``source``: the weights
        are random. ``model_type`` (default ``"wavlm"``) and ``do_normalize``
        may be among them.
    freeze : str
        The part that is frozen: in eval mode and without gradients.
        ``"front"``, as Miara et al. (Interspeech 2024): all before the first
        transformer layer, that is CNN, projection, positional convolution
        and the LayerNorms between them. ``"cnn"``: the CNN alone, which is
        the same with Whisper: its positions are fixed. ``"all"``,
        ``"none"``.
    lora_rank : int
        With ``freeze="all"``: rank of the matrices that are trained beside
        the projections of queries and values in each layer
        (`speechbrain_ext.models.lora`); 0 for none.
    checkpoint_layers : bool
        Keep only the layers' inputs for the backward pass and compute each
        layer again: a fraction of the memory, a third more time.
    n_layers : int, optional
        Keep the first transformer layers alone: the others are deleted, and
        cost neither time nor memory nor disk. None keeps all.

    Raises
    ------
    InputError
        The source cannot be loaded or is of another kind, a field is unknown,
        or the options contradict each other.

    Example
    -------
    >>> tiny = {"hidden_size": 32, "num_hidden_layers": 2,
    ...         "num_attention_heads": 2, "intermediate_size": 64,
    ...         "conv_dim": [16, 16], "conv_stride": [20, 16],
    ...         "conv_kernel": [20, 16], "num_conv_pos_embeddings": 16,
    ...         "num_conv_pos_embedding_groups": 2}
    >>> encoder = SpeechEncoder(config=tiny)
    >>> encoder(torch.randn(4, 16000)).shape
    torch.Size([3, 4, 50, 32])
    >>> encoder.is_random
    True
    """

    # Typed as Any: mypy cannot see through transformers' modules.
    model: Any

    def __init__(
        self,
        source: PathLike | None = None,
        config: Mapping[str, Any] | None = None,
        freeze: str = "front",
        lora_rank: int = 0,
        checkpoint_layers: bool = False,
        n_layers: int | None = None,
    ):
        super().__init__()
        if freeze not in FREEZE:
            raise InputError(
                f"freeze is {freeze!r}; it must be one of {list(FREEZE)}; "
                "correct --embedder, for example --embedder='{freeze: front}'"
            )
        if lora_rank and freeze != "all":
            raise InputError(
                f"lora_rank is {lora_rank}; it must be 0 with freeze "
                f"{freeze!r}, as low-rank matrices are trained beside frozen "
                "weights; set freeze to all, or lora_rank to 0"
            )
        self.is_random = bool(config)
        self.model, self.do_normalize = load_model(source, config)
        self.front = front_of(self.model)
        self.front.keep_layers(self.model, n_layers)
        self.freeze = freeze
        self.lora_rank = lora_rank
        self.checkpoint_layers = checkpoint_layers
        self._set_requires_grad()
        self.train()

    @property
    def n_layers(self) -> int:
        """Number of hidden states: the layers and the input of the first."""
        return self.model.config.num_hidden_layers + 1

    @property
    def output_size(self) -> int:
        """Channels C of a hidden state."""
        return self.model.config.hidden_size

    @property
    def shortest(self) -> int:
        """Samples of the shortest usable utterance."""
        return self.front.n_samples(self.model)

    def n_states(self, n_samples: Any) -> Any:
        """Return the number of states T' of utterances.

        Arguments
        ---------
        n_samples : int or numpy.ndarray
            Their lengths in samples at 16 kHz.

        Returns
        -------
        int or numpy.ndarray
            As `forward` returns them.
        """
        return self.front.n_states(self.model, n_samples)

    @property
    def plain_config(self) -> dict[str, Any]:
        """The architecture as a mapping that ``config`` takes."""
        fields = architecture(self.model.config)
        return {**fields, "do_normalize": self.do_normalize}

    @property
    def has_windows(self) -> bool:
        """Return whether long utterances are encoded in windows (Whisper).

        Memory then grows with the length of an utterance, and not with its
        square.
        """
        return self.front.has_windows

    def forward(self, wavs: torch.Tensor) -> torch.Tensor:
        """Return hidden states of waveforms of one length, without padding.

        Arguments
        ---------
        wavs : torch.Tensor
            Samples at 16 kHz [B, T], from -1 to 1.

        Returns
        -------
        torch.Tensor
            [L + 1, B, T', C]: the input of the first transformer layer,
            then the output of each (without the LayerNorm that follows the
            last one in models like WavLM Large and Whisper).

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
        parts = [self._states(part) for part in self.front.windows(wavs)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def train(self, mode: bool = True) -> SpeechEncoder:
        """Set train mode; frozen parts stay in eval mode."""
        super().train(mode)
        if self.freeze in ("all", "front"):
            self.model.eval()
        if self.freeze == "front" or self.lora_rank:
            self.front.layers(self.model).train(mode)
        if self.freeze == "cnn":
            for part in self.front.cnn(self.model):
                part.eval()
        return self

    def _states(self, x: torch.Tensor) -> torch.Tensor:
        """Return the hidden states [L + 1, B, T', C] of one window."""
        with self._tracked(self.freeze not in ("all", "front")):
            with self._tracked(self.freeze == "none"):
                x = self.front.convolved(self.model, x)
            x = self.front.projected(self.model, x)
        states = [x]
        with self._tracked(self.freeze != "all" or self.lora_rank > 0):
            shared = self.front.shared(self.model, x)
            for layer in self.front.layers(self.model):
                if self.checkpoint_layers and torch.is_grad_enabled():
                    x = checkpoint(layer, x, use_reentrant=False, **shared)
                else:
                    x = layer(x, **shared)
                # WavLM's layers pass on the position bias.
                x = x[0] if isinstance(x, tuple) else x
                states.append(x)
            return torch.stack(states)

    @staticmethod
    def _tracked(wanted: bool) -> torch.set_grad_enabled:
        """Enable gradients if they are wanted and enabled in the caller."""
        return torch.set_grad_enabled(wanted and torch.is_grad_enabled())

    def _set_requires_grad(self) -> None:
        self.model.requires_grad_(self.freeze in ("cnn", "none"))
        layers = self.front.layers(self.model)
        if self.freeze == "front":
            layers.requires_grad_(True)
        frozen = self.front.never_trained(self.model)
        if self.freeze == "cnn":
            frozen += self.front.cnn(self.model)
        for part in frozen:
            part.requires_grad_(False)
        if self.lora_rank:
            add_lora(layers, self.lora_rank)

    def _check_length(self, n_frames: int) -> None:
        needed = self.shortest
        if n_frames < needed:
            raise InputError(
                f"an utterance is {n_frames} samples long; the encoder needs "
                f"{needed} for one frame; drop such files when preparing the "
                "corpus"
            )


class SpeakerEncoder(torch.nn.Module):
    """Speaker encoder: a speech encoder and a pooling of its hidden states.

    The ``embedding_model`` of embedder YAMLs; the model of Miara et al.,
    Interspeech 2024, when the pooling is `speechbrain_ext.models.MHFA`.

    Arguments
    ---------
    encoder_source : str, optional
        ``source`` of `SpeechEncoder`: hub id, folder or file.
    encoder_config : mapping, optional
        ``config`` of `SpeechEncoder`, instead of a source: random weights.
    pooling : callable
        Makes the pooling from ``n_layers`` and ``input_size``, for instance
        the class `speechbrain_ext.models.MHFA`.
    freeze : str
        As for `SpeechEncoder`: ``"front"``, ``"cnn"``, ``"all"``, ``"none"``.
    lora_rank : int
        As for `SpeechEncoder`; 0 for no low-rank matrices.
    checkpoint_layers : bool
        As for `SpeechEncoder`: less memory, more time.
    n_layers : int, optional
        As for `SpeechEncoder`: the first layers alone; None for all.

    Raises
    ------
    InputError
        As for `SpeechEncoder`, or the pooling refuses its arguments.

    Example
    -------
    >>> from speechbrain_ext.models.pooling import MHFA
    >>> tiny = {"hidden_size": 32, "num_hidden_layers": 2,
    ...         "num_attention_heads": 2, "intermediate_size": 64,
    ...         "conv_dim": [16, 16], "conv_stride": [20, 16],
    ...         "conv_kernel": [20, 16], "num_conv_pos_embeddings": 16,
    ...         "num_conv_pos_embedding_groups": 2}
    >>> model = SpeakerEncoder(None, tiny, MHFA)
    >>> model(torch.randn(2, 16000)).shape
    torch.Size([2, 1, 256])
    """

    random_start: torch.Tensor

    def __init__(
        self,
        encoder_source: PathLike | None,
        encoder_config: Mapping[str, Any] | None,
        pooling: Callable[..., torch.nn.Module],
        freeze: str = "front",
        lora_rank: int = 0,
        checkpoint_layers: bool = False,
        n_layers: int | None = None,
    ):
        super().__init__()
        self.encoder = SpeechEncoder(
            encoder_source,
            encoder_config,
            freeze,
            lora_rank,
            checkpoint_layers,
            n_layers,
        )
        self.pooling = pooling(
            n_layers=self.encoder.n_layers, input_size=self.encoder.output_size
        )
        # Saved and loaded with the weights, which it describes.
        self.register_buffer(
            "random_start", torch.tensor(int(self.encoder.is_random))
        )

    @property
    def is_random(self) -> bool:
        """Whether training began from random weights."""
        return bool(self.random_start)

    @property
    def published_arguments(self) -> dict[str, Any]:
        """Arguments to save: no source, no low-rank matrices.

        The config is of the layers that were kept.
        """
        return {
            "encoder_source": None,
            "encoder_config": self.encoder.plain_config,
            "lora_rank": 0,
            "n_layers": None,
        }

    def published_state(self) -> dict[str, torch.Tensor]:
        """Return the weights that fit `published_arguments`."""
        return merged_state(self)

    def forward(
        self, wavs: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return embeddings of waveforms.

        Arguments
        ---------
        wavs : torch.Tensor
            Samples at 16 kHz [B, T], from -1 to 1; or hidden states
            [B, T', L + 1, C] that were computed before, which are pooled.
        lengths : torch.Tensor, optional
            Relative lengths [B], from 0 to 1. Padding would change every
            frame of an encoder, so utterances shorter than T are cut and
            embedded one by one.

        Returns
        -------
        torch.Tensor
            [B, 1, D]
        """
        if wavs.ndim == 4:
            return self.pooling(wavs.permute(2, 0, 1, 3).float()).unsqueeze(1)
        if lengths is None or bool((lengths >= 1).all()):
            return self.pooling(self.encoder(wavs)).unsqueeze(1)
        return one_by_one(self, wavs, lengths)


def one_by_one(
    model: torch.nn.Module, wavs: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Embed padded utterances one by one, each cut to its length.

    Arguments
    ---------
    model : torch.nn.Module
        Called with the samples [1, T_i] of each utterance.
    wavs : torch.Tensor
        Samples [B, T].
    lengths : torch.Tensor
        Relative lengths [B], from 0 to 1.

    Returns
    -------
    torch.Tensor
        What the model gives, one after another.

    Example
    -------
    >>> wavs, lengths = torch.ones(2, 4), torch.tensor([1.0, 0.5])
    >>> one_by_one(lambda wav: wav.sum(1), wavs, lengths)
    tensor([4., 2.])
    """
    n_frames = (lengths * wavs.shape[1]).round().long().tolist()
    pairs = zip(wavs, n_frames, strict=True)
    return torch.cat([model(wav[None, :n]) for wav, n in pairs])


class RawWaveform(torch.nn.Module):
    """Identity that replaces features and their normalisation.

    SpeechBrain's ``SpeakerRecognition`` calls both; a speech encoder needs
    neither.

    Example
    -------
    >>> wavs = torch.ones(1, 4)
    >>> RawWaveform()(wavs, torch.ones(1)) is wavs
    True
    """

    def forward(
        self, x: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the input.

        Arguments
        ---------
        x : torch.Tensor
            Waveforms [B, T].
        lengths : torch.Tensor, optional
            Not used.

        Returns
        -------
        torch.Tensor
            ``x`` itself.
        """
        return x
