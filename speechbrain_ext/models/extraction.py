"""Embeddings of whole utterances and of crops, in batches without padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from speechbrain.utils.distributed import get_rank, if_main_process
from tqdm import tqdm

from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import SAMPLE_RATE, Manifest
from speechbrain_ext.models.embedder import WaveEmbedder, batches_of_one_length
from speechbrain_ext.utils.distributed import n_processes, process_sum
from speechbrain_ext.utils.errors import InputError


class WholeUtterances(torch.utils.data.Dataset):
    """Batches of whole utterances of one length.

    Arguments
    ---------
    manifest : Manifest
        The utterances.
    batches : sequence of list of int
        Indices of the utterances of each batch.
    grain : int
        Utterances are cut to a multiple of it, in samples; see
        `embed_manifest`.
    """

    def __init__(
        self,
        manifest: Manifest,
        batches: Sequence[list[int]],
        grain: int = 1,
    ):
        self.manifest = manifest
        self.batches = batches
        self.lengths = cut_lengths(manifest, grain)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[list[int], torch.Tensor]:
        rows = self.batches[index]
        entries = [self.manifest[self.manifest.ids[row]] for row in rows]
        n_frames = int(self.lengths[rows[0]])
        wavs = [read_crop(e["wav"], e["start"], n_frames) for e in entries]
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


def embed_batches(
    embedder: WaveEmbedder,
    manifest: Manifest,
    batches: Sequence[list[int]],
    num_workers: int,
    bar: tqdm,
    grain: int = 1,
    crops: Crops | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed batches of utterances.

    Arguments
    ---------
    embedder : WaveEmbedder
        On its device; used in eval mode.
    manifest : Manifest
        The utterances.
    batches : sequence of list of int
        Indices of utterances of one length, at least one batch.
    num_workers : int
        Number of processes that read audio.
    bar : tqdm
        Progress bar, moved by each utterance.
    grain : int
        As for `embed_manifest`.
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
    loader = torch.utils.data.DataLoader(
        WholeUtterances(manifest, batches, grain),
        batch_size=None,
        num_workers=num_workers,
    )
    rows: list[int] = []
    parts = []
    for batch_rows, wavs in loader:
        wavs = wavs.to(device)
        embeddings = embedder.embed(wavs).float().cpu().numpy()
        if crops:
            parts_of = [embedder.embed(part) for part in crops.cut(wavs)]
            views = [embeddings] + [p.float().cpu().numpy() for p in parts_of]
            embeddings = np.stack(views, axis=1)
        finite = np.isfinite(embeddings.reshape(len(embeddings), -1))
        if not finite.all():
            bad = np.flatnonzero(~finite.all(axis=1))[0]
            raise InputError(
                f"{manifest.ids[batch_rows[bad]]}: its embedding is not "
                "finite; the file is silent or broken, or training diverged; "
                "drop the file, or train again with a lower lr"
            )
        rows.extend(batch_rows)
        parts.append(embeddings)
        bar.update(len(batch_rows))
    return np.array(rows), np.concatenate(parts)


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
    quiet = title is None or not if_main_process()
    if mine:
        with tqdm(total=n_mine, desc=title, disable=quiet, leave=False) as bar:
            rows, embeddings = embed_batches(
                embedder, manifest, mine, num_workers, bar, grain
            )
        whole[rows] = embeddings
    if n_processes() == 1:
        return whole
    # Each row was computed by one process and is zero in the others.
    device = next(embedder.parameters()).device
    return process_sum(torch.from_numpy(whole).to(device)).cpu().numpy()
