"""Embed all files below a folder:

> sbext embed MODEL folder out.npy

MODEL is a folder that export_model wrote, its id on the hub, or the name of a
model that comes with the package. Beside
``out.npy`` [N, D], float32, ``out.csv`` names its rows: ``ID,row``, where an
ID is a file's path below the folder. Files that cannot be embedded are left
out and logged.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import torch

from speechbrain_ext.commands.arguments import parser_of
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.audio import OTHER_FILE, read_speech
from speechbrain_ext.dataio.audio_tree import list_audio
from speechbrain_ext.dataio.corpus import measure
from speechbrain_ext.dataio.embedding_files import read_array
from speechbrain_ext.dataio.manifest import (
    SAMPLE_RATE,
    Manifest,
    write_manifest,
)
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.models.embedder import batches_of_one_length
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    PathLike,
    atomic_path,
    check_own_table,
)
from speechbrain_ext.utils.terminal import progress_bar

logger = logging.getLogger(__name__)

_BATCH = 120 * SAMPLE_RATE  # samples
_HEADER = "ID,row"


def main(argv: list[str] | None = None) -> None:
    """Embed the files below a folder; write an array and its row names.

    Arguments
    ---------
    argv : list of str, optional
        The words after the program; the process's own when None.

    Raises
    ------
    InputError
        The output is not named .npy or would replace another file, or no
        file can be embedded.
    """
    given = parser_of("embed").parse_args(argv)
    output = checked_output(given.output)
    manifest, n_files = usable_files(given.folder)
    verifier = SpeakerVerifier.from_pretrained(given.model, given.device)
    kept, found = embed_files(verifier, manifest, given.num_workers)
    if not len(kept):
        _refuse_all(given.folder, n_files)
    with atomic_path(output) as part:
        np.save(part, found)
    rows = pd.DataFrame({"ID": manifest.ids[kept], "row": range(len(kept))})
    write_manifest(output.with_suffix(".csv"), rows, "embeddings")
    print(
        f"{output}: {len(kept):,} utterances, {found.shape[1]} values; "
        f"{n_files - len(kept):,} files were left out"
    )


def checked_output(path: PathLike) -> Path:
    """Raise InputError if an output would overwrite another kind of file.

    Raises
    ------
    InputError
        It is not named .npy, the .csv beside it is another table, or the
        array is there and the .csv does not name its rows.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "test.csv").write_text("ID,duration,wav,start,stop\\n")
    >>> checked_output(folder / "test.npy")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...test.csv would be replaced, ...
    """
    output = Path(path)
    if output.suffix != ".npy":
        raise InputError(f"{output}: the output is an array; name it .npy")
    table = output.with_suffix(".csv")
    check_own_table(table, _HEADER)
    if output.exists():
        try:
            read_array(output)
        except InputError:
            raise InputError(
                f"{output} would be replaced, and is no array that this "
                f"command wrote: {table.name} does not name its rows; name "
                "another output, or move the file away"
            ) from None
    return output


def usable_files(folder: str) -> tuple[Manifest, int]:
    """List the audio files of a folder that are long enough to embed.

    Arguments
    ---------
    folder : str
        Any tree.

    Returns
    -------
    Manifest
        Kind ``"utterances"``.
    int
        How many files there are.

    Raises
    ------
    InputError
        None can be embedded.
    """
    tree = list_audio([folder], with_aac=True)
    found = measure(tree, folder, min_duration=0.1, num_workers=4)
    for wav, reason in found.rejects.itertuples(index=False):
        logger.warning(f"{wav} is left out: {reason}")
    if found.rows.empty:
        _refuse_all(folder, len(tree))
    return Manifest(found.rows, "utterances", str(folder)), len(tree)


def _refuse_all(folder: str, n_files: int) -> NoReturn:
    raise InputError(
        f"{folder}: none of {n_files} audio files can be embedded; give "
        "a folder with files of 0.1 s or more"
    )


def embed_files(
    verifier: SpeakerVerifier, manifest: Manifest, num_workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Embed all readable files; log the others.

    Arguments
    ---------
    verifier : SpeakerVerifier
        The model.
    manifest : Manifest
        The files.
    num_workers : int
        Processes that read.

    Returns
    -------
    tuple of numpy.ndarray
        Rows [M] of the manifest, rising, and their embeddings [M, D].
    """
    batches = list(batches_of_one_length(manifest.stop, _BATCH))
    loader = torch.utils.data.DataLoader(
        _ReadableFiles(manifest, batches),
        batch_size=None,
        num_workers=num_workers,
    )
    paths = manifest.paths()
    vectors: dict[int, np.ndarray] = {}
    with progress_bar(total=len(manifest), desc="embed", leave=False) as bar:
        for number, (rows, wavs, reasons) in enumerate(loader):
            for reason in reasons:
                logger.warning(f"left out: {reason}")
            vectors |= _embed_batch(verifier, rows, wavs, paths)
            bar.update(len(batches[number]))
    kept = sorted(vectors)
    return np.array(kept), np.array([vectors[row] for row in kept])


class _ReadableFiles(torch.utils.data.Dataset):
    """Dataset of batches: rows, waveforms, and reasons of unreadable files."""

    def __init__(self, manifest: Manifest, batches: list[list[int]]):
        self.manifest = manifest
        self.paths = manifest.paths()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(
        self, index: int
    ) -> tuple[list[int], list[torch.Tensor], list[str]]:
        rows, wavs, reasons = [], [], []
        for row in self.batches[index]:
            n_frames = int(self.manifest.stop[row])
            try:
                path = self.paths[row]
                wavs.append(read_speech(path, 0, n_frames, OTHER_FILE))
                rows.append(row)
            except InputError as error:
                reasons.append(str(error))
        return rows, wavs, reasons


def _embed_batch(
    verifier: SpeakerVerifier,
    rows: list[int],
    wavs: list[torch.Tensor],
    paths: list[str],
) -> dict[int, np.ndarray]:
    """Embed some rows; the failure of one does not affect the others."""
    if not rows:
        return {}
    try:
        return dict(zip(rows, verifier.embed(wavs).numpy(), strict=True))
    except InputError:
        # Embedded one by one, so that the error names the bad file.
        return {
            row: vector
            for row in rows
            if (vector := _embed_alone(verifier, paths[row])) is not None
        }


def _embed_alone(verifier: SpeakerVerifier, path: str) -> np.ndarray | None:
    try:
        return verifier.embed(path).numpy()
    except InputError as error:
        logger.warning(f"left out: {error}")
        return None


if __name__ == "__main__":
    run(main)
