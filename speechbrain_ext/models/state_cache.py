"""Hidden states of a frozen encoder, computed once and kept on disk.

An encoder that learns nothing gives the same states in every epoch: they are
computed once for each utterance, and for each augmented copy of it, and
training reads crops of them. Per epoch that costs the pooling alone.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.utils.distributed import (
    ddp_barrier,
    get_rank,
    run_on_main,
)
from tqdm import tqdm

from speechbrain_ext.dataio.audio import RandomCrop, repeated
from speechbrain_ext.dataio.manifest import SAMPLE_RATE, Manifest
from speechbrain_ext.models.embedder import (
    batches_of_one_length,
    broken_weight,
    why_not_finite,
)
from speechbrain_ext.models.extraction import read_batches
from speechbrain_ext.models.speech_encoder import SpeechEncoder
from speechbrain_ext.utils.distributed import n_processes
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    PathLike,
    read_json_object,
    reserve,
    write_json,
    write_text,
)
from speechbrain_ext.utils.keyed_random import crop_keys, uniforms
from speechbrain_ext.utils.precision import full_precision
from speechbrain_ext.utils.terminal import progress_bar

logger = logging.getLogger(__name__)

STATES, RECORD = "states.float16", "states.json"
_CHUNK = 100  # utterances between two marks of what is done
_BATCH = 60 * SAMPLE_RATE  # most samples in a batch
_AUDIO = ["ID", "wav", "start", "stop"]


class StateCopies:
    """Hidden states of whole utterances, in copies, in one file.

    Copy 0 of an utterance is clean, the others are augmented, each in a way of
    its own: a function of seed, utterance and copy. The file is float16, and
    memory-mapped. A record beside it says what was asked for. After a kill
    what is there is kept; states of another request are made anew, and so are
    those whose bytes are not those that were written.

    Arguments
    ---------
    folder : str or os.PathLike
        Where the states are written, and nothing else.
    manifest : Manifest
        The utterances.
    encoder : SpeechEncoder
        Frozen; of L layers and C channels.
    n_copies : int
        Copies of each utterance.
    seed : int
        The run's.
    augmentation : mapping, optional
        What augments them, for the record.

    Raises
    ------
    InputError
        An utterance is too short for a state.

    Example
    -------
    >>> import pandas as pd
    >>> import soundfile
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", np.sin(np.arange(8000)), 16000)
    >>> rows = [{"ID": "a", "duration": 0.5, "wav": "$data_root/a.wav",
    ...          "start": 0, "stop": 8000}]
    >>> manifest = Manifest(pd.DataFrame(rows), "utterances", str(folder))
    >>> tiny = {"model_type": "whisper", "hidden_size": 16,
    ...         "num_hidden_layers": 2, "num_attention_heads": 2,
    ...         "encoder_ffn_dim": 32}
    >>> encoder = SpeechEncoder(config=tiny, freeze="all")
    >>> states = StateCopies(folder / "states", manifest, encoder, 1, seed=1)
    >>> states.make()
    >>> states.read("a", copy=0, start=5, n_frames=10).shape
    torch.Size([10, 3, 16])
    """

    def __init__(
        self,
        folder: PathLike,
        manifest: Manifest,
        encoder: SpeechEncoder,
        n_copies: int,
        seed: int,
        augmentation: Mapping[str, Any] | None = None,
    ):
        self.folder, self.manifest = Path(folder), manifest
        self.encoder, self.n_copies, self.seed = encoder, n_copies, seed
        self.augmentation = dict(augmentation or {})
        lengths = manifest.stop - manifest.start
        shortest = int(lengths.argmin())
        if lengths[shortest] < encoder.shortest:
            raise InputError(
                f"{manifest.ids[shortest]} has {lengths[shortest]} samples; "
                f"a state needs {encoder.shortest}; drop such utterances when "
                "preparing the corpus, or give --state_copies=0"
            )
        self.row_of = {name: row for row, name in enumerate(manifest.ids)}
        self.n_frames = encoder.n_states(lengths)
        ends = np.cumsum(self.n_frames * n_copies)
        self.starts = ends - self.n_frames * n_copies
        self.shape = (int(ends[-1]), encoder.n_layers, encoder.output_size)
        self._values: np.ndarray | None = None

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return int(np.prod(self.shape)) * np.dtype(np.float16).itemsize

    def make(
        self,
        augment: Callable[[torch.Tensor, np.ndarray], torch.Tensor]
        | None = None,
        num_workers: int = 0,
        shown: bool = False,
    ) -> None:
        """Compute the states that are not there yet; processes share the work.

        Arguments
        ---------
        augment : callable, optional
            Augments waveforms [B, T] by keys [B]; needed for several copies.
        num_workers : int
            Number of processes that read audio, for each process.
        shown : bool
            Whether there is a progress bar.

        Raises
        ------
        InputError
            The disk has no room, or a state does not fit into half precision.
        """
        run_on_main(self._open)
        self._values = None
        rank = (get_rank() or 0) % n_processes()
        first_rows = range(0, len(self.manifest), _CHUNK)
        mine = [
            first
            for number, first in enumerate(first_rows)
            if number % n_processes() == rank and not self._is_done(first)
        ]
        batches = {first: self._batches(first) for first in mine}
        read = read_batches(
            self.manifest,
            list(chain.from_iterable(batches.values())),
            num_workers,
            next(self.encoder.parameters()).device,
        )
        total = sum(len(self._rows(first)) for first in mine)
        with progress_bar(total=total, desc="states", shown=shown) as bar:
            for first in mine:
                own = islice(read, len(batches[first]))
                self._write(own, augment, bar)
                write_text(self._mark(first), self._sha256(first))
        ddp_barrier()

    def read(
        self, utterance: str, copy: int, start: int, n_frames: int
    ) -> torch.Tensor:
        """Read some frames of a copy of an utterance.

        Arguments
        ---------
        utterance : str
            Its ID.
        copy : int
            From 0, the clean one.
        start, n_frames : int
            The first frame and their number.

        Returns
        -------
        torch.Tensor
            [n_frames, L + 1, C], float16.
        """
        if self._values is None:
            self._values = self._map("r")
        row = self.row_of[utterance]
        first = self.starts[row] + copy * self.n_frames[row] + start
        return torch.from_numpy(self._values[first : first + n_frames].copy())

    def delete(self) -> None:
        """Delete the files."""
        self._values = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def request(self) -> dict[str, Any]:
        """Return all that the states depend on, as plain data."""
        text = self.manifest.table[_AUDIO].to_csv(index=False)
        return {
            "encoder": weights_sha256(self.encoder),
            "utterances": hashlib.sha256(text.encode()).hexdigest(),
            "copies": self.n_copies,
            "seed": self.seed,
            "augmentation": self.augmentation,
            "shape": list(self.shape),
        }

    def _open(self) -> None:
        """Keep the states that were asked for before, or begin anew."""
        path, request = self.folder / RECORD, self.request()
        if path.exists():
            wrong = self._wrong(path, request)
            if not wrong:
                return
            logger.warning(f"{self.folder}: {wrong} and are made anew")
        self.delete()
        self.folder.mkdir(parents=True)
        self._reserve()
        write_json(path, request)

    def _wrong(self, path: Path, request: Mapping[str, Any]) -> str:
        """Return why states that are there cannot be kept; empty: they can."""
        try:
            was = read_json_object(path)
        except InputError:
            return f"its states have a damaged {path.name}"
        changed = [key for key in request if request[key] != was.get(key)]
        if changed:
            other = ", ".join(changed)
            return f"its states are of another request (other {other})"
        states = self.folder / STATES
        if not states.is_file() or states.stat().st_size != self.n_bytes:
            return f"its states are not in a {STATES} of the right length"
        return ""

    def _is_done(self, first: int) -> bool:
        """Return whether a chunk is there, with the bytes that were written."""
        mark = self._mark(first)
        if not mark.exists():
            return False
        if mark.read_text("utf-8", "replace") == self._sha256(first):
            return True
        logger.warning(
            f"{self.folder / STATES}: utterances {first} to "
            f"{self._rows(first)[-1]} are damaged and are made again"
        )
        mark.unlink()
        return False

    def _sha256(self, first: int) -> str:
        """Compute the hash of the states of a chunk, which lie together."""
        rows = self._rows(first)
        last = rows[-1]
        end = self.starts[last] + self.n_frames[last] * self.n_copies
        values = self._map("r")[self.starts[rows[0]] : end]
        return hashlib.sha256(values.data).hexdigest()

    def _reserve(self) -> None:
        """Reserve the file's space, so that the disk cannot fill up later."""
        free = shutil.disk_usage(self.folder).free
        if self.n_bytes > free:
            raise InputError(
                f"state_copies is {self.n_copies}; the states take "
                f"{self.n_bytes / 1e9:.1f} GB and {self.folder} has "
                f"{free / 1e9:.1f} GB free; lower --state_copies, keep fewer "
                "layers by n_layers of --embedder, or give another "
                "--output_folder"
            )
        (self.folder / STATES).touch()
        reserve(self.folder / STATES, self.n_bytes)

    def _map(self, mode: Any) -> np.memmap:
        path = self.folder / STATES
        return np.memmap(path, np.float16, mode, shape=self.shape)

    def _rows(self, first: int) -> range:
        return range(first, min(first + _CHUNK, len(self.manifest)))

    def _batches(self, first: int) -> list[list[int]]:
        """Group the utterances of a chunk into batches of one length."""
        rows = self._rows(first)
        manifest = self.manifest
        lengths = (manifest.stop - manifest.start)[rows.start : rows.stop]
        return [
            [rows[place] for place in batch]
            for batch in batches_of_one_length(lengths, _BATCH)
        ]

    def _mark(self, first: int) -> Path:
        """Return the file that says that a chunk is done, by its hash."""
        return self.folder / f"{first:09d}.done"

    @torch.no_grad()
    @full_precision()
    def _write(self, batches: Iterable, augment: Any, bar: tqdm) -> None:
        """Compute and write all copies of some utterances."""
        manifest, values = self.manifest, self._map("r+")
        device = next(self.encoder.parameters()).device
        for batch, wavs in batches:
            names = manifest.ids[batch]
            # Epochs are counted from 1: these keys are of no crop.
            keys = crop_keys(self.seed, 0, names, self.n_copies)
            wavs = wavs.to(device, non_blocking=True)
            for copy in range(self.n_copies):
                heard = wavs
                if copy and augment is not None:
                    heard = augment(wavs, keys[:, copy])
                found = self.encoder(heard).permute(1, 2, 0, 3).half()
                self._check_finite(names, found)
                for row, states in zip(batch, found.cpu().numpy(), strict=True):
                    first = self.starts[row] + copy * self.n_frames[row]
                    values[first : first + len(states)] = states
            bar.update(len(batch))
        values.flush()

    def _check_finite(self, names: Sequence[str], states: torch.Tensor) -> None:
        finite = states.isfinite().flatten(1).all(1)
        if not finite.all():
            name = names[int(finite.long().argmin())]
            if broken_weight(self.encoder) is not None:
                raise InputError(
                    f"{name}: a state is not finite; "
                    f"{why_not_finite(self.encoder)}"
                )
            raise InputError(
                f"{name}: a state is not finite "
                "in half precision, whose largest number is 65,504; keep fewer "
                "layers by n_layers of --embedder, or give --state_copies=0"
            )


class RandomStates(RandomCrop):
    """Reader of random crops of states, of a copy drawn at random.

    Copy and place depend on seed, epoch and utterance only. An utterance
    shorter than a crop is repeated end to end to fill it.

    Arguments
    ---------
    copies : StateCopies
        The states, read once they are made.
    n_frames : int
        Length of a crop, in states.
    seed : int
        Any integer.
    only_clean : bool
        True reads the clean copy always, as for validation.
    """

    def __init__(
        self,
        copies: StateCopies,
        n_frames: int,
        seed: int,
        only_clean: bool = False,
    ):
        super().__init__([n_frames], seed)
        self.copies = copies
        self.n_drawn = 1 if only_clean else copies.n_copies

    def __call__(
        self, utterance: str, path: PathLike, start: int, stop: int
    ) -> list[torch.Tensor]:
        """Read a crop [T', L + 1, C]; the audio is not needed."""
        key = crop_keys(self.seed, self.epoch, [utterance], 1)[:, 0]
        copy = int(uniforms(key, 1)[0, 0] * self.n_drawn)
        return [self._cut(utterance, copy)]

    def clean(self, utterances: Sequence[str]) -> torch.Tensor:
        """Read the same crops of clean copies [M, T', L + 1, C]."""
        return torch.stack([self._cut(name, 0) for name in utterances])

    def _cut(self, utterance: str, copy: int) -> torch.Tensor:
        length = int(self.copies.n_frames[self.copies.row_of[utterance]])
        (start,), (n_frames,) = self.positions(utterance, length), self.n_frames
        states = self.copies.read(utterance, copy, start, min(n_frames, length))
        return repeated(states, n_frames)


def weights_sha256(module: torch.nn.Module) -> str:
    """Compute the SHA-256 of a module's weights and their names.

    Example
    -------
    >>> norm = torch.nn.LayerNorm(3)
    >>> before = weights_sha256(norm)
    >>> _ = torch.nn.init.zeros_(norm.weight)
    >>> weights_sha256(norm) == before
    False
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
