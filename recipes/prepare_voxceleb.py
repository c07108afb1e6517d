"""Make manifests and trial lists of VoxCeleb, or of a corpus of its shape.

To run it:
> python recipes/prepare_voxceleb.py hparams/prepare_voxceleb.yaml \
    --data_folder=/data/voxceleb --output_folder=exp/voxceleb

VoxCeleb2's m4a files are decoded by ffmpeg, in parallel, into wav copies below
``output_folder``; killed and started again, it goes on. Trials name files by
their path below ``test_wav``; ``test.csv`` has exactly the files that the lists
name. True speakers, the first folder of a path, go to
``oracle.csv`` and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.corpus_files import (
    DOWNLOADS,
    find_corpus,
    keep_downloads,
    prepare_corpus,
)
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.oracle import write_oracle
from speechbrain_ext.dataio.settings import PrepareVoxCeleb
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.distributed import from_first_process


def main(argv: list[str] | None = None) -> None:
    """List, check and measure the files, and write the manifests."""
    recipe = RecipeRun(__file__, PrepareVoxCeleb, argv)
    settings: PrepareVoxCeleb = recipe.settings
    found = find_corpus(settings)
    if recipe.is_done(**found.request()):
        return
    from_first_process(keep_downloads, recipe.folder / DOWNLOADS, found.trials)
    names, facts = prepare_corpus(settings, found)
    has_test = found.test is not None
    facts["n_oracle_speakers"] = from_first_process(
        _write_oracle, recipe.folder, has_test
    )
    recipe.finish([*names, "oracle.csv"], **facts)


def _write_oracle(folder: Path, has_test: bool) -> int:
    """Write the speakers of all utterances; return their number."""
    names = ["train.csv", "test.csv"] if has_test else ["train.csv"]
    manifests = [read_manifest(folder / name, "utterances") for name in names]
    ids = [str(name) for manifest in manifests for name in manifest.ids]
    return write_oracle(folder / "oracle.csv", ids)


if __name__ == "__main__":
    run(main)
