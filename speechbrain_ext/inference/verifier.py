"""Loading and use of a published model without trusting its publisher.

`SpeakerVerifier` reads data only (see ``hub_folder``): no YAML is run and no
pickle opened. SpeechBrain's ``SpeakerRecognition`` loads the same
folder by running its YAML, and gives the same embeddings.
"""

from __future__ import annotations

import itertools
import numbers
import os
import re
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from huggingface_hub import snapshot_download

from speechbrain_ext.dataio.audio import OTHER_FILE, read_speech
from speechbrain_ext.dataio.audio_files import length_of
from speechbrain_ext.dataio.audio_stream import (
    HIGHEST_RATE,
    LOWEST_RATE,
    Unusable,
    check_heard,
    check_samples,
)
from speechbrain_ext.dataio.audio_tree import list_audio
from speechbrain_ext.dataio.manifest import SAMPLE_RATE
from speechbrain_ext.dataio.resampling import resampled
from speechbrain_ext.inference.decision import Decision, checked_decision
from speechbrain_ext.inference.enrolment import Enrolment, Identification
from speechbrain_ext.inference.hub_folder import (
    CARD,
    CONFIG,
    WEIGHTS,
    read_hub_folder,
)
from speechbrain_ext.models.embedder import (
    WaveEmbedder,
    batches_of_one_length,
    why_not_finite,
)
from speechbrain_ext.models.speech_encoder import SpeakerEncoder
from speechbrain_ext.utils.devices import checked_device
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.shipped import shipped_model, shipped_models_like
from speechbrain_ext.utils.terminal import progress_bar

if TYPE_CHECKING:
    from speechbrain_ext.inference.grouping import Groups

# One file, samples [T] of one utterance, or (samples [C, T], rate) as
# torchaudio.load gives them.
Speech = PathLike | np.ndarray | torch.Tensor | tuple[torch.Tensor, int]
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


class EmbeddedFiles(NamedTuple):
    """Result of `SpeakerVerifier.embed_files`.

    ``names`` of the N utterances that were embedded, ``embeddings`` [N, D],
    float32, and ``bad``: the reason for each that could not be.
    """

    names: list[str]
    embeddings: np.ndarray
    bad: dict[str, str]


class SpeakerVerifier:
    """Speaker verifier: embeds speech and compares utterances.

    Arguments
    ---------
    embedder : WaveEmbedder
        In eval mode, on its device.
    decision : Decision
        Calibration and prior of its cosines.
    card : str
        Text of the model card, if there is one.

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

    sample_rate = SAMPLE_RATE  # Hz, that audio is embedded at

    def __init__(
        self, embedder: WaveEmbedder, decision: Decision, card: str = ""
    ):
        self.embedder = embedder
        self.decision = decision
        self.card = card
        self.enrolment = Enrolment(decision)
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
        card = folder / CARD
        text = card.read_text("utf-8", "replace") if card.is_file() else ""
        return cls(embedder.to(checked_device(device)), decision, text)

    def __repr__(self) -> str:
        model = type(self.embedder.model).__name__
        return (
            f"SpeakerVerifier({model}, embedding_size={self.embedding_size}, "
            f"threshold={self.threshold:.4f}, device={self.device}, "
            f"enrolled={list(self.enrolment.voices)})"
        )

    @property
    def device(self) -> torch.device:
        """Device that embeddings are computed on."""
        return next(self.embedder.parameters()).device

    @property
    def embedding_size(self) -> int:
        """Dimension of the embeddings."""
        return self.embedder.embedding_size

    def to(self, device: str | torch.device) -> SpeakerVerifier:
        """Move the model to a device, such as ``cuda:0``; return itself."""
        self.embedder.to(checked_device(device))
        return self

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
            within -1 to 1; a pair (samples [C, T], rate), as torchaudio
            loads a file; or several: utterances [N, T] (two channels [2, T]
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
            A file cannot be read, an utterance is too short, too long, silent
            or not finite, or the rate is none of speech.
        """
        sample_rate = _checked_rate(sample_rate)
        speech = _listed(speech)
        several = not _is_loaded(speech) and (
            isinstance(speech, (list, tuple))
            or isinstance(speech, (np.ndarray, torch.Tensor))
            and speech.ndim == 2
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
        device = self.device
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
                f"finite; {why_not_finite(self.embedder)}"
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
        probability = decision.probability(score)
        same = score >= decision.threshold
        if score.ndim == 0:
            return Verification(float(score), float(probability), bool(same))
        return Verification(score, probability, same)

    def similarity(
        self,
        first: np.ndarray | torch.Tensor,
        second: np.ndarray | torch.Tensor | None = None,
    ) -> np.ndarray:
        """Return the cosine of each embedding with each other one.

        Arguments
        ---------
        first : numpy.ndarray or torch.Tensor
            Embeddings [N, D].
        second : numpy.ndarray or torch.Tensor, optional
            Embeddings [M, D]; ``first`` when None.

        Returns
        -------
        numpy.ndarray
            Cosines [N, M], float64.

        Raises
        ------
        InputError
            Shapes do not fit.
        """
        one = np.atleast_2d(_unit(first))
        other = one if second is None else np.atleast_2d(_unit(second))
        if one.shape[1] != other.shape[1]:
            raise InputError(
                f"embeddings of {one.shape[1]} and of {other.shape[1]} values "
                "cannot be compared; embed all with one model"
            )
        return one @ other.T

    def embed_files(
        self,
        speech: PathLike | Iterable[Speech],
        sample_rate: int = SAMPLE_RATE,
        batch_size: int = _BLOCK,
        keep_going: bool = False,
        progress: bool = False,
    ) -> EmbeddedFiles:
        """Embed a folder, or what an iterable yields, a batch at a time.

        Arguments
        ---------
        speech : path or iterable
            A folder, of whose audio files at any depth each is embedded; or
            files and waveforms, as `embed` takes.
        sample_rate : int
            Of arrays and tensors.
        batch_size : int
            Most utterances in memory at once.
        keep_going : bool
            Whether to leave out what cannot be embedded, and to name it in
            the answer, in place of an error.
        progress : bool
            Whether to show a progress bar.

        Returns
        -------
        EmbeddedFiles

        Raises
        ------
        InputError
            There is nothing to embed, or, unless ``keep_going``, an utterance
            cannot be.
        """
        rate = _checked_rate(sample_rate)
        items: Iterable[Any] = audio_below(speech)
        total = len(items) if isinstance(items, Sized) else None
        bar = progress_bar(total=total, desc="embed", shown=progress)
        names: list[str] = []
        bad: dict[str, str] = {}
        parts: list[torch.Tensor] = []
        n_seen = 0
        for batch in _batches(items, batch_size):
            good, found, reasons = self._embed_those_that_can(
                batch, rate, n_seen, keep_going
            )
            parts.append(found)
            names += good
            bad |= reasons
            n_seen += len(batch)
            bar.update(len(batch))
        bar.close()
        if not names:
            raise InputError(
                f"none of {n_seen} utterances could be embedded"
                + "".join(f"; {reason}" for reason in list(bad.values())[:1])
                + "; give audio files"
            )
        return EmbeddedFiles(names, torch.cat(parts).numpy(), bad)

    def _embed_those_that_can(
        self, batch: list[Any], rate: int, first: int, keep_going: bool
    ) -> tuple[list[str], torch.Tensor, dict[str, str]]:
        """Embed a batch; without it, one by one, if one has an error."""
        names = [_name(item, first + place) for place, item in enumerate(batch)]
        try:
            return names, self._embed_block(batch, rate, first), {}
        except InputError:
            if not keep_going:
                raise
        good, parts, bad = [], [torch.empty(0, self.embedding_size)], {}
        for place, (name, item) in enumerate(zip(names, batch, strict=True)):
            try:
                parts.append(self._embed_block([item], rate, first + place))
                good.append(name)
            except InputError as error:
                bad[name] = str(error)
        return good, torch.cat(parts), bad

    def enrol(
        self,
        name: str,
        speech: Speech | Sequence[Speech],
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        """Enrol a speaker by one or more utterances, for `identify`.

        Arguments
        ---------
        name : str
            The speaker's; an earlier enrolment under it is replaced.
        speech : path, array, tensor, or sequence of these
            As `embed` takes.
        sample_rate : int
            Of samples.
        """
        self.enrolment.add(name, self.embed(speech, sample_rate).numpy())

    def identify(
        self, speech: Speech, sample_rate: int = SAMPLE_RATE
    ) -> Identification:
        """Tell which of those enrolled speaks, or that none does.

        Arguments
        ---------
        speech : path, array or tensor
            One utterance, as `embed` takes it.
        sample_rate : int
            Of samples.

        Returns
        -------
        Identification
            Whose ``name`` is None for a voice that is nobody's.
        """
        embedding = self.embed(speech, sample_rate).numpy()
        if embedding.ndim != 1:
            raise InputError(
                f"{len(embedding)} utterances are given; identify takes one "
                "at a time"
            )
        return self.enrolment.identify(embedding)

    def group(
        self,
        speech: PathLike | Iterable[Speech],
        n_speakers: int | None = None,
        sample_rate: int = SAMPLE_RATE,
        keep_going: bool = False,
        progress: bool = False,
    ) -> tuple[EmbeddedFiles, Groups]:
        """Tell who is who in a folder of files of one speaker each.

        Arguments
        ---------
        speech : path or iterable
            As `embed_files` takes.
        n_speakers : int, optional
            Number of speakers; estimated when None.
        sample_rate, keep_going, progress
            As of `embed_files`.

        Returns
        -------
        EmbeddedFiles
            The utterances that were grouped, and those that could not be.
        Groups
            Their groups, in the same order.
        """
        # Clustering, with faiss, is heavy, and needed here alone.
        from speechbrain_ext.inference.grouping import group_embeddings

        files = self.embed_files(
            speech, sample_rate, keep_going=keep_going, progress=progress
        )
        return files, group_embeddings(files.embeddings, n_speakers)


def _fetched(
    source: str, revision: str | None, cache_dir: PathLike | None
) -> Path:
    """Download the two files of a model on the hub; return their folder."""
    if not _HUB_ID.fullmatch(source):
        near = shipped_models_like(source)
        way = f"did you mean {near[0]}?" if near else "correct the path"
        raise InputError(
            f"{source} is neither a folder, a model that comes with the "
            f"package, nor the id owner/name of a model on the hub; {way}"
        )
    try:
        return Path(
            snapshot_download(
                source,
                revision=revision,
                cache_dir=None if cache_dir is None else str(cache_dir),
                allow_patterns=[CONFIG, WEIGHTS, CARD],
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


def _checked_rate(sample_rate: Any) -> int:
    """Return a sample rate; raise InputError if it is none of speech."""
    number = isinstance(sample_rate, numbers.Real)
    inside = number and LOWEST_RATE <= sample_rate <= HIGHEST_RATE
    if not (inside and sample_rate % 1 == 0):
        raise InputError(
            f"sample_rate is {sample_rate!r}; give samples a second, a whole "
            f"number from {LOWEST_RATE:,} to {HIGHEST_RATE:,}"
        )
    return int(sample_rate)


def _listed(speech: Any) -> Any:
    """Convert arrays and Series of paths to lists; leave other input."""
    if isinstance(speech, pd.Series):
        speech = speech.to_numpy()
    if isinstance(speech, np.ndarray) and speech.dtype.kind in "OU":
        return speech.reshape(-1).tolist()
    return speech


def _is_loaded(item: Any) -> bool:
    """Whether an item is (samples [C, T], rate), as of ``torchaudio.load``."""
    if not (isinstance(item, tuple) and len(item) == 2):
        return False
    wav, rate = item
    is_wav = isinstance(wav, (np.ndarray, torch.Tensor)) and wav.ndim == 2
    return is_wav and isinstance(rate, numbers.Integral)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of so many items, the last one of what is left."""
    if size < 1:
        raise InputError(f"batch_size is {size}; give 1 or more")
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch


def audio_below(speech: PathLike | Iterable[Any]) -> Iterable[Any]:
    """Return the audio files of a folder, or what is no folder as it is.

    Raises
    ------
    InputError
        The path is not a folder, or has no audio files.

    Example
    -------
    >>> audio_below(["a.wav", "b.wav"])
    ['a.wav', 'b.wav']
    """
    if not isinstance(speech, (str, os.PathLike)):
        return _listed(speech)
    if not Path(speech).is_dir():
        raise InputError(
            f"{speech} is not a folder; give one, or a list of files"
        )
    return [str(path) for path in list_audio([speech]).paths]


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
    if isinstance(item, (np.ndarray, torch.Tensor, tuple)):
        return f"utterance {number}"
    return str(item)


def _samples(
    item: Any, sample_rate: int, number: int, longest: int | None
) -> torch.Tensor:
    """Read the samples [T] of one utterance at 16 kHz, float32."""
    name = _name(item, number)
    if _is_loaded(item):
        item, sample_rate = item[0].mean(0), _checked_rate(item[1])
    if isinstance(item, (np.ndarray, torch.Tensor)):
        wav = _floats(item, name)
        _check_length(name, len(wav) * SAMPLE_RATE // sample_rate, longest)
        _check_waveform(name, wav)
        return resampled(wav, sample_rate)
    if not isinstance(item, (str, os.PathLike)):
        raise InputError(
            f"{name} is a {type(item).__name__}; give a file, samples [T] as "
            "an array or tensor, or a list of these"
        )
    if Path(item).is_dir():
        raise InputError(
            f"{name} is a folder; give a file, or the folder to embed_files"
        )
    if not Path(item).is_file():
        raise InputError(f"{name}: no such file; correct the path")
    # Audio beyond the limit is not decoded.
    n_frames, reason = length_of(str(item))
    if not reason:
        _check_length(name, n_frames, longest)
    wav = read_speech(item, way_out=OTHER_FILE)
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


def _check_waveform(name: str, wav: torch.Tensor) -> None:
    """Raise InputError for samples [T] that no file may have either."""
    try:
        check_samples(wav.numpy())
        check_heard(float(wav.min()), float(wav.max()))
    except Unusable as reason:
        raise InputError(f"{name}: {reason}; give other speech") from None


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
