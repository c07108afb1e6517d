"""Embed all files below a folder. On the command line:

> python -m speechbrain_ext.embed MODEL folder out.npy

MODEL is a folder that export_model wrote, or its id on the hub. Beside
``out.npy`` [N, D], float32, ``out.csv`` names its rows: ``ID,row``, where an
ID is a file's path below the folder. Files that cannot be read are left out
and logged.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from speechbrain_ext.audio_tree import list_audio
from speechbrain_ext.corpus import measure
from speechbrain_ext.extraction import embed_manifest
from speechbrain_ext.files import InputError, atomic_path
from speechbrain_ext.manifest import Manifest, write_manifest
from speechbrain_ext.stage import run
from speechbrain_ext.verifier import SpeakerVerifier

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Files below a folder to an array and the names of its rows.

    Arguments
    ---------
    argv : list of str, optional
        The words after the program; the process's own when None.

    Raises
    ------
    InputError
        The output is not named .npy, or no file can be embedded.
    """
    parser = argparse.ArgumentParser(
        "python -m speechbrain_ext.embed",
        description="Embed all audio files below a folder.",
    )
    parser.add_argument("model", help="folder, or id on the hub")
    parser.add_argument("folder", help="wav, flac, ogg, opus or mp3 below it")
    parser.add_argument("output", help="out.npy; out.csv is written beside it")
    parser.add_argument("--device", help="cpu, cuda:0, ...")
    parser.add_argument("--num_workers", type=int, default=0)
    given = parser.parse_args(argv)
    output = Path(given.output)
    if output.suffix != ".npy":
        raise InputError(f"{output}: the output is an array; name it .npy")
    manifest = usable_files(given.folder)
    verifier = SpeakerVerifier.from_pretrained(given.model, given.device)
    found = embed_manifest(
        verifier.embedder, manifest, "embed", given.num_workers
    )
    with atomic_path(output) as part:
        np.save(part, found)
    rows = pd.DataFrame({"ID": manifest.ids, "row": np.arange(len(manifest))})
    write_manifest(output.with_suffix(".csv"), rows, "embeddings")
    print(f"{output}: {found.shape[0]:,} utterances, {found.shape[1]} values")


def usable_files(folder: str) -> Manifest:
    """The files of a folder that can be embedded.

    Arguments
    ---------
    folder : str
        Any tree.

    Returns
    -------
    Manifest
        Kind ``"utterances"``.

    Raises
    ------
    InputError
        There is none.
    """
    tree = list_audio([folder])
    found = measure(tree, folder, min_duration=0.1, num_workers=4)
    for wav, reason in found.rejects.itertuples(index=False):
        logger.warning(f"{wav} is left out: {reason}")
    if found.rows.empty:
        raise InputError(
            f"{folder}: none of {len(tree)} audio files can be embedded; give "
            "a folder with files of 0.1 s or more"
        )
    return Manifest(found.rows, "utterances", str(folder))


if __name__ == "__main__":
    run(main)
