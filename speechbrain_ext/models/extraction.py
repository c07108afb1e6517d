"""Embeddings of whole utterances and of crops, in batches without padding."""

from __future__ import annotations

import logging
import pickle
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from speechbrain.utils.distributed import get_rank
from tqdm import tqdm

from speechbrain_ext.dataio.audio import read_speech
from speechbrain_ext.dataio.manifest import SAMPLE_RATE, Manifest
from speechbrain_ext.dataio.shards import new_rows
from speechbrain_ext.models.embedder import (
    WaveEmbedder,
    batches_of_one_length,
    require_finite,
)
from speechbrain_ext.utils.devices import loader_options
from speechbrain_ext.utils.distributed import n_processes, process_sum
from speechbrain_ext.utils.files import atomic_path
from speechbrain_ext.utils.terminal import progress_bar

logger = logging.getLogger(__name__)

# What numpy raises for a damaged archive of arrays.
_BROKEN = (
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


class WholeUtterances(torch.utils.data.Dataset):
    """Batches of whole utterances of one length.

    Arguments
    ---------
    manifest : Manifest
        The utterances.
    batches : sequence of list of int or numpy.ndarray
        Indices of the utterances of each batch.
    grain : int
        Utterances are cut to a multiple of it, in samples; see
        `embed_manifest`.
    """

    def __init__(
        self,
        manifest: Manifest,
        batches: Sequence[list[int] | np.ndarray],
        grain: int = 1,
    ):
        self.manifest = manifest
        self.batches = batches
        self.lengths = cut_lengths(manifest, grain)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[list[int], torch.Tensor]:
        rows = np.asarray(self.batches[index]).tolist()
        entries = [self.manifest.entry(row) for row in rows]
        n_frames = int(self.lengths[rows[0]])
        wavs = [read_speech(e["wav"], e["start"], n_frames) for e in entries]
        return rows, torch.stack(wavs)


class Crops(NamedTuple):
    """Number of crops of an utterance to embed, and their samples."""

    n_crops: int
    n_frames: int

    def cut(self, wavs: torch.Tensor) -> list[torch.Tensor]:
        """Cut evenly spaced crops [B, n_frames] from utterances [B, T].

        The first crop begins at the start and the last one ends at the end.
        An utterance shorter than a crop is repeated.

        Example
        -------
        >>> [crop.tolist() for crop in Crops(3, 2).cut(torch.arange(6)[None])]
        [[[0, 1]], [[2, 3]], [[4, 5]]]
        """
        n_repeats = -(-self.n_frames // wavs.shape[1])
        wavs = wavs.repeat(1, n_repeats)[:, : max(wavs.shape[1], self.n_frames)]
        room = wavs.shape[1] - self.n_frames
        starts = np.linspace(0, room, self.n_crops).astype(int)
        return [wavs[:, start : start + self.n_frames] for start in starts]


def cut_lengths(manifest: Manifest, grain: int) -> np.ndarray:
    """Return lengths [N] of utterances cut to multiples of ``grain``."""
    lengths = manifest.stop - manifest.start
    return np.where(lengths < grain, lengths, lengths - lengths % grain)


def read_batches(
    manifest: Manifest,
    batches: Sequence[list[int] | np.ndarray],
    num_workers: int,
    device: torch.device,
    grain: int = 1,
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Read batches of whole utterances, by processes that live until the last.

    Arguments
    ---------
    manifest : Manifest
        The utterances.
    batches : sequence of list of int or numpy.ndarray
        Indices of utterances of one length.
    num_workers : int
        Number of processes that read; they are two batches ahead each.
    device : torch.device
        Where the caller moves the batches to.
    grain : int
        As for `embed_manifest`.

    Returns
    -------
    iterator
        Of indices and their waveforms [B, T], on the CPU.
    """
    if not batches:
        return iter(())
    return iter(
        torch.utils.data.DataLoader(
            WholeUtterances(manifest, batches, grain),
            batch_size=None,
            num_workers=num_workers,
            **loader_options(device),
        )
    )


def embed_batches(
    embedder: WaveEmbedder,
    manifest: Manifest,
    batches: Iterable[tuple[list[int], torch.Tensor]],
    bar: tqdm,
    crops: Crops | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed batches of utterances.

    Arguments
    ---------
    embedder : WaveEmbedder
        On its device; used in eval mode.
    manifest : Manifest
        The utterances.
    batches : iterable of tuple
        As `read_batches` returns them, at least one.
    bar : tqdm
        Progress bar, moved by each utterance.
    crops : Crops, optional
        Crops of each utterance to embed too.

    Returns
    -------
    tuple of numpy.ndarray
        Indices [M] and their embeddings [M, D], float32; with crops
        [M, 1 + n_crops, D], the whole utterance first.

    Raises
    ------
    InputError
        An embedding is not finite.
    """
    device = next(embedder.parameters()).device
    rows: list[int] = []
    parts = []
    for batch_rows, wavs in batches:
        wavs = wavs.to(device, non_blocking=True)
        embeddings = embedder.embed(wavs).float().cpu().numpy()
        if crops:
            parts_of = [embedder.embed(part) for part in crops.cut(wavs)]
            views = [embeddings] + [p.float().cpu().numpy() for p in parts_of]
            embeddings = np.stack(views, axis=1)
        names = manifest.ids[batch_rows]
        require_finite(names, embeddings, embedder)
        rows.extend(batch_rows)
        parts.append(embeddings)
        bar.update(len(batch_rows))
    return np.array(rows), np.concatenate(parts)


def embed_in_chunks(
    embedder: WaveEmbedder,
    manifest: Manifest,
    folder: Path,
    max_batch_seconds: float,
    chunk_size: int,
    num_workers: int,
    crops: Crops | None = None,
) -> None:
    """Embed all utterances into files, of which those that exist are kept.

    One that is damaged is named and made again. A killed run, or one on
    another number of processes, so goes on where it stopped. Join the chunks
    with `joined_chunks`, once all processes are done.

    Arguments
    ---------
    embedder : WaveEmbedder
        On its device; used in eval mode.
    manifest : Manifest
        The utterances.
    folder : pathlib.Path
        Where each chunk is written when it is complete.
    max_batch_seconds : float
        Most seconds of speech in a batch.
    chunk_size : int
        Utterances of a chunk, about.
    num_workers : int
        Number of processes that read audio, for each process.
    crops : Crops, optional
        Crops of each utterance to embed too.
    """
    max_frames = round(max_batch_seconds * SAMPLE_RATE)
    plan = chunks(manifest, max_frames, chunk_size)
    device = next(embedder.parameters()).device
    with progress_bar(total=len(manifest), desc="embed") as bar:
        missing = _missing_chunks(folder, plan, bar)
        batches = list(chain.from_iterable(missing.values()))
        read = read_batches(manifest, batches, num_workers, device)
        for path, wanted in missing.items():
            own = islice(read, len(wanted))
            rows, found = embed_batches(embedder, manifest, own, bar, crops)
            arrays: dict[str, Any] = {"rows": rows, "embeddings": found}
            if crops:
                arrays["embeddings"] = found[:, 0]
                arrays["crops"] = found[:, 1:]
            with atomic_path(path) as part, open(part, "wb") as stream:
                np.savez(stream, **arrays)


def _missing_chunks(
    folder: Path, plan: Iterable[list[list[int]]], bar: tqdm
) -> dict[Path, list[np.ndarray]]:
    """Return the batches of this process's chunks that are still to be made."""
    world = n_processes()
    rank = (get_rank() or 0) % world
    missing = {}
    for number, batches in enumerate(plan):
        path = folder / f"{number:06d}.npz"
        mine = number % world == rank
        if path.exists() and not (mine and _is_damaged(path, batches)):
            bar.update(sum(map(len, batches)))
        elif mine:
            # Arrays, of a third of the memory: they are there until the end.
            missing[path] = [np.array(rows) for rows in batches]
    return missing


def _is_damaged(path: Path, batches: Sequence[list[int]]) -> bool:
    """Return whether a chunk of these batches cannot be used; say so."""
    wanted = [row for batch in batches for row in batch]
    try:
        zipfile.ZipFile(path).close()
        # Reading compares each array with its checksum.
        with np.load(path) as chunk:
            arrays = {name: chunk[name] for name in chunk.files}
        rows = arrays["rows"].tolist()
        wrong = "" if rows == wanted else "it has other utterances"
        if any(len(array) != len(wanted) for array in arrays.values()):
            wrong = "an array has another length"
    except _BROKEN as error:
        size = path.stat().st_size
        wrong = str(error).split("\n")[0][:100] if size else "it is empty"
    if wrong:
        logger.warning(f"{path} is damaged ({wrong}) and is made again")
    return bool(wrong)


def chunks(
    manifest: Manifest, max_frames: int, chunk_size: int
) -> Iterator[list[list[int]]]:
    """Group batches into chunks of about ``chunk_size`` utterances."""
    chunk: list[list[int]] = []
    size = 0
    for batch in batches_of_one_length(
        manifest.stop - manifest.start, max_frames
    ):
        chunk.append(batch)
        size += len(batch)
        if size >= chunk_size:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def joined_chunks(
    folder: Path,
    n_rows: int,
    outputs: Mapping[str, Path],
    shard_rows: int | None = None,
) -> list[str]:
    """Write the chunks of `embed_in_chunks` as one array for each key.

    Arguments
    ---------
    folder : pathlib.Path
        Of the chunks.
    n_rows : int
        Number of utterances.
    outputs : mapping of str to pathlib.Path
        File of ``"embeddings"`` and, if there are any, of ``"crops"``.
    shard_rows : int, optional
        Rows of a part, if these are to be folders of parts.

    Returns
    -------
    list of str
        The keys that the chunks have.

    Raises
    ------
    OSError
        The disk has no room for an array.
    """
    # Ignores temporary files that a killed process has left.
    paths = sorted(folder.glob("[0-9]*.npz"))
    with np.load(paths[0]) as first:
        shapes = {name: first[name].shape[1:] for name in first.files}
    found = [key for key in outputs if key in shapes]
    for key in found:
        shape = (n_rows, *shapes[key])
        with new_rows(outputs[key], shape, shard_rows) as whole:
            for path in paths:
                with np.load(path) as chunk:
                    whole[chunk["rows"]] = chunk[key]
    return found


def embed_manifest(
    embedder: WaveEmbedder,
    manifest: Manifest,
    title: str | None,
    num_workers: int = 0,
    max_batch_seconds: float = 240.0,
    grain: int = 1,
) -> np.ndarray:
    """Embed all utterances in memory; the processes share the work.

    Arguments
    ---------
    embedder : WaveEmbedder
        On its device; used in eval mode.
    manifest : Manifest
        The utterances.
    title : str or None
        Name of the progress bar; None for no bar.
    num_workers : int
        Number of processes that read audio, for each process.
    max_batch_seconds : float
        Most seconds of speech in a batch.
    grain : int
        Samples. Utterances are cut to a multiple of it, so that many have the
        same length and share a batch; shorter ones are left whole.

    Returns
    -------
    numpy.ndarray
        [N, D], float32, the same in all processes.
    """
    max_frames = round(max_batch_seconds * SAMPLE_RATE)
    lengths = cut_lengths(manifest, grain)
    batches = list(batches_of_one_length(lengths, max_frames))
    mine = batches[get_rank() or 0 :: n_processes()]
    whole = np.zeros((len(manifest), embedder.embedding_size), np.float32)
    n_mine = sum(map(len, mine))
    device = next(embedder.parameters()).device
    if mine:
        read = read_batches(manifest, mine, num_workers, device, grain)
        is_shown = title is not None
        bar = progress_bar(
            total=n_mine, desc=title, shown=is_shown, leave=False
        )
        with bar:
            rows, embeddings = embed_batches(embedder, manifest, read, bar)
        whole[rows] = embeddings
    if n_processes() == 1:
        return whole
    # Each row was computed by one process and is zero in the others.
    return process_sum(torch.from_numpy(whole).to(device)).cpu().numpy()
