"""Embedder: the module that is trained, scored and published.

An embedder YAML (``hparams/embedders/*.yaml``) names the four modules that
SpeechBrain's ``SpeakerRecognition`` needs. Resolved and saved beside its
weights, it is the hub folder: the published model is byte for byte the scored
one.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML
from speechbrain.nnet.CNN import Conv1d
from speechbrain.nnet.pooling import StatisticsPooling

from speechbrain_ext.models.settings import MODEL, RECIPE
from speechbrain_ext.utils.compat import run_eagerly, without_noise
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    PathLike,
    atomic_path,
    write_text,
)
from speechbrain_ext.utils.precision import full_precision
from speechbrain_ext.utils.yaml_trees import check_changes, resolve


class WaveEmbedder(torch.nn.Module):
    """Map from waveforms to embeddings: features, normalisation, model.

    Arguments
    ---------
    features, norm, model : torch.nn.Module
        ``compute_features``, ``mean_var_norm`` and ``embedding_model``, as
        SpeechBrain's ``SpeakerRecognition`` calls them.

    Example
    -------
    >>> from speechbrain_ext.models.speech_encoder import RawWaveform
    >>> part = RawWaveform()
    >>> WaveEmbedder(part, part, torch.nn.Linear(9, 2))(torch.ones(3, 9)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        features: torch.nn.Module,
        norm: torch.nn.Module,
        model: torch.nn.Module,
    ):
        super().__init__()
        self.features = features
        self.norm = norm
        self.model = model
        _skip_empty_padding(self.model)
        _embed_alike(self.model)

    def forward(self, wavs: torch.Tensor) -> torch.Tensor:
        """Return embeddings of waveforms of one length.

        Arguments
        ---------
        wavs : torch.Tensor
            Samples at 16 kHz [B, T], from -1 to 1, or what else the model
            takes.

        Returns
        -------
        torch.Tensor
            [B, D]
        """
        lengths = torch.ones(len(wavs), device=wavs.device)
        feats = self.norm(self.features(wavs), lengths)
        return self.model(feats).flatten(1)

    @torch.no_grad()
    @full_precision()
    def embed(self, wavs: torch.Tensor) -> torch.Tensor:
        """Return embeddings, in eval mode, without gradients and TF32.

        Arguments
        ---------
        wavs : torch.Tensor
            Samples at 16 kHz [B, T], from -1 to 1.

        Returns
        -------
        torch.Tensor
            [B, D]; the module's mode is as before.
        """
        was_training = self.training
        self.eval()
        with run_eagerly(self.model):
            embeddings = self(wavs)
        self.train(was_training)
        return embeddings

    @property
    def embedding_size(self) -> int:
        """Return the dimension D, measured on one second of silence."""
        device = next(self.model.parameters()).device
        return self.embed(torch.zeros(1, 16000, device=device)).shape[1]

    @property
    def is_random(self) -> bool:
        """Whether the speech encoder started from random weights."""
        return bool(getattr(self.model, "is_random", False))


class Embedder(WaveEmbedder):
    """Speaker embedder made of the modules of an embedder YAML.

    Its parts are those of SpeechBrain's ``SpeakerRecognition``. Usually made by
    `build_embedder` or `load_embedder`.

    Arguments
    ---------
    yaml_text : str
        Resolved embedder YAML: ``compute_features``, ``mean_var_norm`` and
        ``embedding_model`` under ``modules``.
    modules : mapping of str to torch.nn.Module, optional
        What the YAML describes, where it was built otherwise; None runs the
        YAML.

    Example
    -------
    >>> text = '''
    ... modules:
    ...     compute_features: !new:speechbrain.lobes.features.Fbank
    ...     mean_var_norm:
    ...         !new:speechbrain.processing.features.InputNormalization
    ...         norm_type: sentence
    ...     embedding_model: !new:torch.nn.Flatten
    ... '''
    >>> Embedder(text).embed(torch.zeros(2, 1600)).shape
    torch.Size([2, 440])
    """

    def __init__(
        self,
        yaml_text: str,
        modules: Mapping[str, torch.nn.Module] | None = None,
    ):
        if modules is None:
            modules = load_hyperpyyaml(io.StringIO(yaml_text))["modules"]
        super().__init__(
            modules["compute_features"],
            modules["mean_var_norm"],
            modules["embedding_model"],
        )
        self.yaml_text = _published(yaml_text, self.model)


def _skip_empty_padding(model: torch.nn.Module) -> None:
    """Disable the padding of convolutions whose kernel is one frame.

    SpeechBrain's reflection padding copies its input even when it adds no
    frames, and autograd keeps the copy: a fifth of the memory of ECAPA's
    activations. Results are bit-identical.
    """
    for module in model.modules():
        if isinstance(module, Conv1d) and module.padding == "same":
            if module.kernel_size == module.stride == 1:
                module.padding = "valid"


def _embed_alike(model: torch.nn.Module) -> None:
    """Make a model give an utterance the same embedding each time."""
    for module in model.modules():
        if isinstance(module, StatisticsPooling):
            without_noise(module)


def _published(yaml_text: str, model: torch.nn.Module) -> str:
    """Return YAML text with the model's ``published_arguments``, if any.

    For instance the architecture of a pre-trained encoder in place of its
    source: a published model must load offline, with the folder's weights.
    """
    arguments = getattr(model, "published_arguments", None)
    if arguments is None:
        return yaml_text
    yaml = YAML()
    tree = yaml.load(yaml_text)
    # References are resolved already: the arguments are copies of the keys.
    for node in (tree, tree["embedding_model"]):
        node.update({k: v for k, v in arguments.items() if k in node})
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def build_embedder(
    path: PathLike, overrides: dict[str, Any] | None = None
) -> Embedder:
    """Build an embedder from an embedder YAML.

    Its weights are random, except for a pre-trained speech encoder.

    Arguments
    ---------
    path : str or os.PathLike
        An embedder YAML: a path, or one of the package's:
        ``embedders/ecapa.yaml``, ``embedders/encoder_mhfa.yaml``,
        ``embedders/encoder_camhfa.yaml``, ``embedders/encoder_ecapa.yaml``,
        ``embedders/encoder_tdnn.yaml``, ``embedders/whisper_mhfa.yaml`` and
        other ``*_mhfa.yaml``, ``embedders/resnet.yaml``,
        ``embedders/xvector.yaml``.
    overrides : dict, optional
        Values of its keys to change, such as ``{"embedding_size": 128}``.

    Returns
    -------
    Embedder
        In train mode, on the CPU.

    Raises
    ------
    InputError
        There is no such file, an override has an unknown key or a wrong type,
        or a module refuses its arguments.

    Example
    -------
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> embedder = build_embedder("embedders/ecapa.yaml", small)
    >>> embedder.embed(torch.zeros(2, 16000)).shape
    torch.Size([2, 8])
    """
    check_changes("embedder", path, overrides or {})
    return Embedder(resolve(path, overrides or {}))


def save_embedder(
    folder: PathLike, embedder: Embedder, half_precision: bool = False
) -> list[str]:
    """Save an embedder as a folder that stock SpeechBrain loads too.

    Arguments
    ---------
    folder : str or os.PathLike
        The embedder folder, which is made if it is missing.
    embedder : Embedder
        The embedder to save.
    half_precision : bool
        Round the weights to 16 bits: half of the file. Loaded, they are 32
        bits again.

    Returns
    -------
    list of str
        Names of the files written: ``hyperparams.yaml``, resolved, and
        ``embedding_model.ckpt``.

    Raises
    ------
    InputError
        A weight is too large for half precision.

    Example
    -------
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> embedder = build_embedder("embedders/ecapa.yaml", small)
    >>> save_embedder(getfixture("tmp_path"), embedder)
    ['hyperparams.yaml', 'embedding_model.ckpt']
    """
    folder = Path(folder)
    state = published_state(embedder)
    if half_precision:
        state = {key: _halved(key, value) for key, value in state.items()}
    # Given a path, torch would write its (temporary) name into the file.
    with atomic_path(folder / MODEL) as part, open(part, "wb") as stream:
        torch.save(state, stream)
    write_text(folder / RECIPE, embedder.yaml_text)
    return [RECIPE, MODEL]


def why_not_finite(module: torch.nn.Module) -> str:
    """Return why a model's output is not finite, and the way out.

    Samples are checked where they are read, so that the weights are to blame,
    or numbers that grow too large on the way.

    Arguments
    ---------
    module : torch.nn.Module
        The model, which heard finite samples.

    Returns
    -------
    str
        The end of an error message.

    Example
    -------
    >>> layer = torch.nn.Linear(1, 1)
    >>> _ = layer.bias.data.fill_(torch.nan)
    >>> why_not_finite(layer)
    "the model's weight bias is not finite: its training diverged ..."
    """
    name = broken_weight(module)
    if name is not None:
        return (
            f"the model's weight {name} is not finite: its training diverged "
            "or its file is damaged, and the audio is not to blame; take an "
            "earlier model, or train again with a lower lr"
        )
    return (
        "the samples and all weights are finite, so that numbers overflow in "
        "the model; take another model, or leave this recording out"
    )


def require_finite(
    names: Sequence[str], vectors: np.ndarray, module: torch.nn.Module
) -> None:
    """Raise InputError, with the utterance, for an embedding not finite.

    Arguments
    ---------
    names : sequence of str
        Utterances [N].
    vectors : numpy.ndarray
        Their embeddings [N, ...].
    module : torch.nn.Module
        What gave them.

    Raises
    ------
    InputError
        One is not finite; whether weights or audio are to blame is said.

    Example
    -------
    >>> require_finite(["a"], np.zeros((1, 8)), torch.nn.Linear(1, 8))
    """
    finite = np.isfinite(vectors.reshape(len(vectors), -1)).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{names[int(finite.argmin())]}: its embedding is not finite; "
            f"{why_not_finite(module)}"
        )


def broken_weight(module: torch.nn.Module) -> str | None:
    """Return the name of the first weight that is not finite, if any is.

    Example
    -------
    >>> broken_weight(torch.nn.Linear(1, 1)) is None
    True
    """
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            return name
    return None


def _halved(name: str, x: torch.Tensor) -> torch.Tensor:
    """Return numbers in half precision; counts, such as those of steps, not."""
    if not x.is_floating_point():
        return x
    half = x.half()
    if not bool(half.isfinite().all()):
        raise InputError(
            f"weight {name} reaches {x.abs().max():.3g}; 16 bits hold up to "
            "65504; give half_precision=false"
        )
    return half


def published_state(embedder: WaveEmbedder) -> dict[str, torch.Tensor]:
    """Return the weights of an embedder's model to save, on the CPU.

    Example
    -------
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> embedder = build_embedder("embedders/ecapa.yaml", small)
    >>> published_state(embedder)["fc.conv.bias"].shape
    torch.Size([8])
    """
    model = embedder.model
    state_dict = getattr(model, "published_state", model.state_dict)()
    return {
        key: value.detach().cpu().contiguous()
        for key, value in state_dict.items()
    }


def batches_of_one_length(
    lengths: Iterable[int], max_frames: int
) -> Iterator[list[int]]:
    """Yield batches of utterances of equal length, so that none is padded.

    Padding changes every frame of an encoder, and ECAPA's statistics; without
    it, an embedding does not depend on the rest of the batch.

    Arguments
    ---------
    lengths : iterable of int
        Samples of each utterance.
    max_frames : int
        Most samples in a batch; a longer utterance is a batch of its own.

    Yields
    ------
    list of int
        Indices of utterances of one length, longest first.

    Example
    -------
    >>> list(batches_of_one_length([5, 9, 5, 5], max_frames=10))
    [[1], [0, 2], [3]]
    """
    values = np.fromiter(lengths, dtype=np.int64)
    order = np.argsort(-values, kind="stable")
    changes = np.flatnonzero(np.diff(values[order])) + 1
    for rows in np.split(order, changes) if len(order) else []:
        size = max(max_frames // int(values[rows[0]]), 1)
        for first in range(0, len(rows), size):
            yield rows[first : first + size].tolist()
