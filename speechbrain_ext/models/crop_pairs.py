"""Two crops of an utterance, embedded: what label-free criteria compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from speechbrain_ext.dataio.audio import read_crops
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.models.embedder import WaveEmbedder, require_finite
from speechbrain_ext.utils.devices import loader_options
from speechbrain_ext.utils.keyed_random import crop_keys, hash_key
from speechbrain_ext.utils.terminal import progress_bar

Augmentation = Callable[[torch.Tensor, np.ndarray], torch.Tensor]


def rows_with_pairs(
    manifest: Manifest, n_frames: int, n_most: int, seed: int
) -> np.ndarray:
    """Draw utterances that are long enough for two crops.

    Arguments
    ---------
    manifest : Manifest
        The utterances.
    n_frames : int
        Samples of a crop.
    n_most : int
        Number of utterances to draw, if there are as many.
    seed : int
        Decides which.

    Returns
    -------
    numpy.ndarray
        Their indices, in random order.
    """
    long = np.flatnonzero(manifest.stop - manifest.start >= 2 * n_frames)
    drawn = np.random.default_rng(seed).permutation(long)
    return drawn[:n_most]


class CropPairs(torch.utils.data.Dataset):
    """Two crops [2, n_frames] of each utterance that do not overlap.

    Arguments
    ---------
    manifest : Manifest
        The utterances.
    rows : sequence of int
        Which of them, each as long as two crops.
    n_frames : int
        Samples of a crop.
    seed : int
        Decides, with an utterance's ID, where its crops begin.
    """

    def __init__(
        self, manifest: Manifest, rows: Sequence[int], n_frames: int, seed: int
    ):
        self.manifest, self.rows = manifest, rows
        self.n_frames, self.seed = n_frames, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[str, torch.Tensor]:
        row = self.rows[index]
        name, entry = self.manifest.ids[row], self.manifest.entry(row)
        room = entry["stop"] - entry["start"] - 2 * self.n_frames
        rng = np.random.default_rng(hash_key("crop pair", self.seed, name))
        first, second = np.sort(rng.integers(0, room + 1, 2))
        spans = [
            (int(entry["start"] + first), self.n_frames),
            (int(entry["start"] + second + self.n_frames), self.n_frames),
        ]
        return name, torch.stack(read_crops(entry["wav"], spans))


def embed_crop_pairs(
    embedder: WaveEmbedder,
    pairs: CropPairs,
    augment: Augmentation,
    max_batch_seconds: float = 120.0,
    num_workers: int = 0,
    quiet: bool = False,
) -> dict[str, np.ndarray]:
    """Embed pairs of crops as they are and augmented, each on its own.

    Arguments
    ---------
    embedder : WaveEmbedder
        On its device; used in eval mode.
    pairs : CropPairs
        The crops.
    augment : callable
        Crops [M, T] and keys [M] to crops [M, T], as
        `speechbrain_ext.augment.Augment.by_keys`.
    max_batch_seconds : float
        Most seconds of speech in a batch.
    num_workers : int
        Number of processes that read audio.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    dict of str to numpy.ndarray
        ``"clean"`` and ``"augmented"``: [2, N, D], float32.

    Raises
    ------
    InputError
        An embedding is not finite.
    """
    device = next(embedder.parameters()).device
    seconds = 2 * pairs.n_frames / 16000
    loader = torch.utils.data.DataLoader(
        pairs,
        batch_size=max(int(max_batch_seconds / seconds), 1),
        num_workers=num_workers,
        **loader_options(device),
    )
    found: dict[str, list[np.ndarray]] = {"clean": [], "augmented": []}
    bar = progress_bar(total=len(pairs), desc="crop pairs", shown=not quiet)
    with bar:
        for names, crops in loader:
            crops = crops.to(device, non_blocking=True)
            wavs = crops.transpose(0, 1).flatten(0, 1)
            keys = crop_keys(pairs.seed, 0, names, 2).T.flatten()
            views = {"clean": wavs, "augmented": augment(wavs, keys)}
            for name, view in views.items():
                vectors = embedder.embed(view).float().cpu().numpy()
                require_finite([*names, *names], vectors, embedder)
                found[name].append(vectors.reshape(2, len(names), -1))
            bar.update(len(names))
    return {name: np.concatenate(v, axis=1) for name, v in found.items()}
