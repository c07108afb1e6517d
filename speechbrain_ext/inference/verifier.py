"""Loading and use of a published model without trusting its publisher.

`SpeakerVerifier` reads data only (see ``hub_folder``): no YAML is run and no
pickle opened. SpeechBrain's ``SpeakerRecognition`` loads the same
folder by running its YAML, and gives the same embeddings.
"""

from __future__ import annotations

import numbers
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torchaudio
from huggingface_hub import snapshot_download
from scipy.special import expit
from speechbrain.utils.distributed import infer_device

from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.audio_files import length_of
from speechbrain_ext.dataio.manifest import SAMPLE_RATE
from speechbrain_ext.inference.decision import Decision, checked_decision, logit
from speechbrain_ext.inference.hub_folder import (
    CONFIG,
    WEIGHTS,
    read_hub_folder,
)
from speechbrain_ext.models.embedder import WaveEmbedder, batches_of_one_length
from speechbrain_ext.models.speech_encoder import SpeakerEncoder
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.shipped import shipped_model

# One file, or samples [T] of one utterance.
Speech = PathLike | np.ndarray | torch.Tensor
_SHORTEST = SAMPLE_RATE // 10  # samples: what the models need, and more
# Attention compares all frames: WavLM Base takes 1.7 GiB for one minute,
# 3.8 for one and a half, and would take 15 for three.
_LONGEST = 180 * SAMPLE_RATE  # samples
_LONGEST_BATCH = 120 * SAMPLE_RATE  # samples
_BLOCK = 64  # files in memory at once
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Verification(NamedTuple):
    """Result of `SpeakerVerifier.verify`.

    ``score`` is the cosine, ``probability`` that of one speaker, ``same``
    whether that is the likelier; arrays [N] where several were compared.
    """

    score: Any
    probability: Any
    same: Any


class SpeakerVerifier:
    """Speaker verifier: embeds speech and compares utterances.

    Arguments
    ---------
    embedder : WaveEmbedder
        In eval mode, on its device.
    decision : Decision
        Calibration and prior of its cosines.

    Example
    -------
    >>> from speechbrain_ext.inference.hub_folder import write_hub_folder
    >>> from speechbrain_ext.models import build_embedder, save_embedder
    >>> folder = getfixture("tmp_path")
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> embedder = build_embedder("hparams/embedders/ecapa.yaml", small)
    >>> _ = save_embedder(folder / "embedder", embedder)
    >>> decision = Decision(10.0, -3.0, 0.5, "nothing")
    >>> _ = write_hub_folder(folder / "m", folder / "embedder", decision, 0)
    >>> verifier = SpeakerVerifier.from_pretrained(folder / "m", "cpu")
    >>> verifier.embed(folder / "m" / "example1.wav").shape
    torch.Size([8])
    >>> verifier.verify_embeddings(torch.eye(8)[0], torch.eye(8)[:2]).same
    array([ True, False])
    """

    def __init__(self, embedder: WaveEmbedder, decision: Decision):
        self.embedder = embedder
        self.decision = decision
        model = embedder.model
        self._longest = None
        # Windows bound what attention compares.
        if isinstance(model, SpeakerEncoder) and not model.encoder.has_windows:
            self._longest = _LONGEST

    @classmethod
    def from_pretrained(
        cls,
        source: PathLike,
        device: str | torch.device | None = None,
        revision: str | None = None,
        cache_dir: PathLike | None = None,
    ) -> SpeakerVerifier:
        """Load what export_model wrote, from a folder or the hub.

        Arguments
        ---------
        source : str or os.PathLike
            A local folder; the name of a model that comes with the package,
            ``minivox_whisper``; or an id ``owner/name``, of which two files
            are fetched once and then taken from the cache, also offline.
        device : str or torch.device, optional
            Such as ``cpu`` or ``cuda:0``; a GPU if there is one when None.
        revision : str, optional
            Branch, tag or commit on the hub.
        cache_dir : str or os.PathLike, optional
            Where what is fetched is kept; the hub client's place when None.

        Returns
        -------
        SpeakerVerifier

        Raises
        ------
        InputError
            The source cannot be had, is damaged, or is no such model; or
            there is no such device.
        """
        folder = Path(source)
        if not folder.is_dir():
            shipped = shipped_model(source)
            folder = shipped or _fetched(str(source), revision, cache_dir)
        embedder, decision = read_hub_folder(folder)
        return cls(embedder.to(_checked_device(device)), decision)

    @property
    def threshold(self) -> float:
        """Cosine above which "same speaker" is the likelier answer."""
        return self.decision.threshold

    def embed(
        self, speech: Speech | Sequence[Speech], sample_rate: int = SAMPLE_RATE
    ) -> torch.Tensor:
        """Embed files or waveforms, of any sample rate and lengths.

        Each is embedded whole and unpadded: its embedding does not depend on
        the others. 0.1 s is the least; a model with WavLM or its like takes
        three minutes at most, as its memory grows with the square; one with
        Whisper, which works in windows of 30 s, has no such limit.

        Arguments
        ---------
        speech : path, array, tensor, or sequence of these
            A file of any rate and channel count; mono samples [T], floats
            within -1 to 1; or several: utterances [N, T] (two channels [2, T]
            are two utterances), or a list, array or Series of such.
        sample_rate : int
            Of arrays and tensors, which are taken as 16 kHz when it is not
            given; files know theirs.

        Returns
        -------
        torch.Tensor
            [D] for one file or [T], else [N, D]; float32, on the CPU.

        Raises
        ------
        InputError
            A file cannot be read, an utterance is too short, too long or not
            finite, or the rate is none.
        """
        sample_rate = _checked_rate(sample_rate)
        speech = _listed(speech)
        several = isinstance(speech, (list, tuple)) or (
            isinstance(speech, (np.ndarray, torch.Tensor)) and speech.ndim == 2
        )
        items: Any = speech if several else [speech]
        if not len(items):
            raise InputError("there is nothing to embed; give an utterance")
        if isinstance(speech, (np.ndarray, torch.Tensor)):
            _refuse_channels_last(speech)
        blocks = [
            self._embed_block(items[first : first + _BLOCK], sample_rate, first)
            for first in range(0, len(items), _BLOCK)
        ]
        found = torch.cat(blocks)
        return found if several else found[0]

    def _embed_block(
        self, items: Any, sample_rate: int, first: int
    ) -> torch.Tensor:
        """Embed utterances [B, D]; ``first`` is the number of the first one."""
        wavs = [
            _samples(item, sample_rate, first + number, self._longest)
            for number, item in enumerate(items)
        ]
        device = next(self.embedder.parameters()).device
        rows_done: list[int] = []
        parts = []
        lengths = [len(wav) for wav in wavs]
        for rows in batches_of_one_length(lengths, _LONGEST_BATCH):
            batch = torch.stack([wavs[row] for row in rows]).to(device)
            parts.append(self.embedder.embed(batch).float().cpu())
            rows_done += rows
        found = torch.cat(parts)[torch.tensor(rows_done).argsort()]
        finite = found.isfinite().all(dim=1)
        if not finite.all():
            bad = int(finite.logical_not().nonzero()[0])
            raise InputError(
                f"{_name(items[bad], first + bad)}: its embedding is not "
                "finite; listen to it: silent, or not speech?"
            )
        return found

    def verify(
        self,
        first: Speech | Sequence[Speech],
        second: Speech | Sequence[Speech],
        sample_rate: int = SAMPLE_RATE,
        prior: float | None = None,
    ) -> Verification:
        """Decide whether two utterances are of the same speaker.

        Arguments
        ---------
        first, second : path, array, tensor, or sequence of these
            As `embed` takes. Two lists are compared pair by pair, one
            utterance with each of a list.
        sample_rate : int
            Of samples.
        prior : float, optional
            Probability of one speaker before the comparison; the model's
            own when None.

        Returns
        -------
        Verification
        """
        return self.verify_embeddings(
            self.embed(first, sample_rate),
            self.embed(second, sample_rate),
            prior,
        )

    def verify_embeddings(
        self,
        first: np.ndarray | torch.Tensor,
        second: np.ndarray | torch.Tensor,
        prior: float | None = None,
    ) -> Verification:
        """Compare embeddings, as `verify` compares recordings.

        Arguments
        ---------
        first, second : numpy.ndarray or torch.Tensor
            Embeddings [D] or [N, D] of any norm; one may be compared with N.
        prior : float, optional
            Probability of one speaker before listening; the model's if None.

        Returns
        -------
        Verification
            Of one pair, or arrays [N] of N pairs.

        Raises
        ------
        InputError
            Shapes do not fit, or the prior is not between 0 and 1.
        """
        decision = self.decision
        if isinstance(prior, numbers.Real):
            prior = float(prior)
        if prior is not None:
            decision = checked_decision(*decision._replace(prior=prior))
        one, other = _unit(first), _unit(second)
        if one.shape[-1] != other.shape[-1] or (
            one.ndim == other.ndim == 2 and len(one) != len(other)
        ):
            raise InputError(
                f"embeddings of shapes {list(one.shape)} and "
                f"{list(other.shape)} cannot be compared; give as many on "
                "either side, or one"
            )
        score = (one * other).sum(axis=-1)
        odds = decision.weight * score + decision.offset + logit(decision.prior)
        same = score >= decision.threshold
        if score.ndim == 0:
            return Verification(float(score), float(expit(odds)), bool(same))
        return Verification(score, expit(odds), same)


def _fetched(
    source: str, revision: str | None, cache_dir: PathLike | None
) -> Path:
    """Download the two files of a model on the hub; return their folder."""
    if not _HUB_ID.fullmatch(source):
        raise InputError(
            f"{source} is neither a folder nor the id owner/name of a model "
            "on the hub; correct the path"
        )
    try:
        return Path(
            snapshot_download(
                source,
                revision=revision,
                cache_dir=None if cache_dir is None else str(cache_dir),
                allow_patterns=[CONFIG, WEIGHTS],
            )
        )
    # Many kinds of errors: no network, no such model, no permission.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{source} cannot be had from the hub ({reason}) and is not in "
            "its cache; check the id and the network, log in if it is "
            "private, or give a local folder"
        ) from error


def _checked_device(device: str | torch.device | None) -> torch.device:
    """Return a device; raise InputError if it is not available."""
    try:
        found = torch.device(infer_device() if device is None else device)
        torch.empty(1, device=found)
        return found
    # torch raises RuntimeError or AssertionError.
    except Exception as error:
        raise InputError(
            f"device {str(device)!r} cannot be used "
            f"({str(error).splitlines()[0]}); give cpu, or cuda:0"
        ) from None


def _checked_rate(sample_rate: Any) -> int:
    """Return a sample rate; raise InputError if it is not positive."""
    number = isinstance(sample_rate, numbers.Real)
    if not (number and sample_rate > 0 and sample_rate % 1 == 0):
        raise InputError(
            f"sample_rate is {sample_rate!r}; give samples a second, a whole "
            "number above 0"
        )
    return int(sample_rate)


def _listed(speech: Any) -> Any:
    """Convert arrays and Series of paths to lists; leave other input."""
    if isinstance(speech, pd.Series):
        speech = speech.to_numpy()
    if isinstance(speech, np.ndarray) and speech.dtype.kind in "OU":
        return speech.reshape(-1).tolist()
    return speech


def _refuse_channels_last(wavs: np.ndarray | torch.Tensor) -> None:
    """Raise InputError if a waveform is [T, 2]: channels must come first."""
    if wavs.ndim == 2 and wavs.shape[1] < min(_SHORTEST, wavs.shape[0]):
        raise InputError(
            f"samples of shape {list(wavs.shape)} would be {wavs.shape[0]:,} "
            f"utterances of {wavs.shape[1]} samples; give mono samples [T] "
            "(the mean of the channels), or utterances [N, T]"
        )


def _name(item: Any, number: int) -> str:
    """Return a name of an utterance for error messages."""
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return f"utterance {number}"
    return str(item)


def _samples(
    item: Any, sample_rate: int, number: int, longest: int | None
) -> torch.Tensor:
    """Read the samples [T] of one utterance at 16 kHz, float32."""
    name = _name(item, number)
    if isinstance(item, (np.ndarray, torch.Tensor)):
        wav = _floats(item, name)
        _check_length(name, len(wav) * SAMPLE_RATE // sample_rate, longest)
        if sample_rate != SAMPLE_RATE:
            wav = torchaudio.functional.resample(wav, sample_rate, SAMPLE_RATE)
        return wav
    if not isinstance(item, (str, os.PathLike)):
        raise InputError(
            f"{name} is a {type(item).__name__}; give a file, samples [T] as "
            "an array or tensor, or a list of these"
        )
    if not Path(item).is_file():
        raise InputError(f"{name}: no such file; correct the path")
    # Audio beyond the limit is not decoded.
    n_frames, reason = length_of(str(item))
    if not reason:
        _check_length(name, n_frames, longest)
    wav = read_crop(item)
    _check_length(name, len(wav), longest)
    return wav


def _floats(item: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """Convert samples [T] of any float type and device to float32."""
    if isinstance(item, torch.Tensor):
        floats = item.is_floating_point()
    else:
        floats = item.dtype.kind == "f"
    if item.ndim != 1 or not floats:
        raise InputError(
            f"{name} has shape {list(item.shape)} and type {item.dtype}; "
            "give samples [T] as floats within -1 to 1"
        )
    if isinstance(item, np.ndarray):
        # torch supports neither negative strides nor foreign byte orders.
        item = torch.from_numpy(np.array(item, dtype=np.float32, order="C"))
    return item.detach().cpu().float()


def _check_length(name: str, n_frames: int, longest: int | None) -> None:
    """Raise InputError if an utterance is too short or too long."""
    seconds = n_frames / SAMPLE_RATE
    if n_frames < _SHORTEST:
        raise InputError(
            f"{name} has {seconds:.3f} s; give at least "
            f"{_SHORTEST / SAMPLE_RATE} s, better seconds"
        )
    if longest is not None and n_frames > longest:
        raise InputError(
            f"{name} has {seconds:.1f} s, and this model takes "
            f"{longest / SAMPLE_RATE:.0f} s at most; cut it into pieces"
        )


def _unit(embeddings: np.ndarray | torch.Tensor) -> np.ndarray:
    """Scale embeddings [D] or [N, D] to length one, in float64."""
    if isinstance(embeddings, torch.Tensor):
        # NumPy has no bfloat16.
        embeddings = embeddings.detach().cpu().double().numpy()
    x = np.asarray(embeddings, dtype=np.float64)
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    if x.ndim not in (1, 2) or not (np.isfinite(norm) & (norm > 0)).all():
        raise InputError(
            f"embeddings of shape {list(x.shape)}: each must be [D] or [N, D] "
            "and of a finite length above 0; embed the speech again"
        )
    return x / norm
