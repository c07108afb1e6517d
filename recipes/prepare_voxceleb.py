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

import hashlib
import logging
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from speechbrain_ext.dataio.audio_tree import AudioTree
from speechbrain_ext.dataio.corpus import (
    find_audio,
    named_files,
    prepare,
)
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.oracle import write_oracle
from speechbrain_ext.dataio.settings import PrepareVoxCeleb
from speechbrain_ext.dataio.trials import (
    TrialList,
    parse_trials,
    read_trial_file,
)
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import atomic_path

logger = logging.getLogger(__name__)

DOWNLOADS = "downloads"


def main(argv: list[str] | None = None) -> None:
    """List, check and measure the files, and write the manifests."""
    recipe = RecipeRun(__file__, PrepareVoxCeleb, argv)
    settings: PrepareVoxCeleb = recipe.settings
    root = Path(settings.data_folder)
    train = _tree(recipe.folder, root, settings.train_wav)
    test, trials = None, []
    request: dict[str, Any] = {"train_files": train.summary()}
    if settings.test_wav:
        test = _tree(recipe.folder, root, settings.test_wav)
        sources = settings.trials or settings.official_trials
        trials = read_lists(sources, root, recipe.folder / DOWNLOADS)
        test = named_files(test, trials, str(settings.test_wav))
        check_apart(train, test)
        request["test_files"] = test.summary()
        request["trial_lists"] = {t.name: t.summary() for t in trials}
    if recipe.is_done(**request):
        return
    keep_downloads(recipe.folder / DOWNLOADS, trials)
    names, facts = prepare(
        recipe.folder,
        root,
        train,
        test,
        trials,
        settings.min_duration,
        convert_to_wav=settings.convert_to_wav,
        num_workers=settings.num_workers,
    )
    facts["n_oracle_speakers"] = _write_oracle(recipe.folder, test is not None)
    recipe.finish([*names, "oracle.csv"], **facts)


def _tree(output_folder: Path, root: Path, value: str | list[str]) -> AudioTree:
    """Find the audio below one folder or several, relative to ``root``."""
    names = value if isinstance(value, list) else [value]
    return find_audio(output_folder, [root / name for name in names])


def read_lists(
    sources: dict[str, str], root: Path, downloads: Path
) -> list[TrialList]:
    """Read and check trial lists, from files or addresses."""
    lists = []
    for name, source in sources.items():
        if source.startswith(("http://", "https://")):
            content = fetch(name, source, _download(downloads, source))
            lists.append(parse_trials(name, source, content))
        else:
            lists.append(read_trial_file(name, root / source))
    return lists


def _download(folder: Path, address: str) -> Path:
    return folder / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.txt"


def fetch(name: str, address: str, kept: Path) -> bytes:
    """Download a list, unless an earlier run has stored it."""
    if kept.is_file():
        return kept.read_bytes()
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise InputError(
            f"{address} cannot be fetched ({error}); download it yourself "
            f'and give its path: --trials="{{{name}: /path/to/list.txt}}"'
        ) from None


def keep_downloads(folder: Path, trials: list[TrialList]) -> None:
    """Store downloaded lists, so that a later run needs no network."""
    for some in trials:
        if some.source.startswith("http"):
            with atomic_path(_download(folder, some.source)) as part:
                part.write_bytes(some.content)


def check_apart(train: AudioTree, test: AudioTree) -> None:
    """Raise InputError for test files in training; warn of shared speakers."""
    shared = sorted(set(train.ids) & set(test.ids))
    if shared:
        raise InputError(
            f"{shared[0]!r} and {len(shared) - 1:,} more files are both in "
            "train_wav and in test_wav; give trees without common files"
        )
    known = {name.split("/")[0] for name in train.ids}
    heard = known & {name.split("/")[0] for name in test.ids}
    if heard:
        logger.warning(
            f"{len(heard)} test speakers ({min(heard)}, ...) are in the "
            "training files too: scores will look better than they are"
        )


def _write_oracle(folder: Path, has_test: bool) -> int:
    """Write the speakers of all utterances; return their number."""
    names = ["train.csv", "test.csv"] if has_test else ["train.csv"]
    manifests = [read_manifest(folder / name, "utterances") for name in names]
    ids = [str(name) for manifest in manifests for name in manifest.ids]
    return write_oracle(folder / "oracle.csv", ids)


if __name__ == "__main__":
    run(main)
