"""Who is who: agreement of groups with the true speakers of small folders.

Folders of some files of some voices are drawn from a corpus' test utterances
and grouped by a published model, with the number of speakers given and
estimated. To run it:

> python benchmarks/grouping.py pretrained/minivox_whisper \\
      exp/minivox_whisper/corpus --caveat="model trained on like speech"

It writes results/benchmarks/grouping.json.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
)

from benchmarks.cells import placeless
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.experiment.artifacts import CorpusArtifacts
from speechbrain_ext.inference.grouping import group_embeddings
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json, write_json
from speechbrain_ext.utils.provenance import versions


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="published folder")
    parser.add_argument("corpus", type=Path, help="prepared corpus")
    parser.add_argument("--n_voices", type=int, default=8)
    parser.add_argument("--n_files", type=int, default=5, help="of a voice")
    parser.add_argument("--n_folders", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1986)
    parser.add_argument("--caveat", default="")
    parser.add_argument("--output", default="results/benchmarks/grouping.json")
    return parser.parse_args(argv)


def embedded_test(
    arguments: argparse.Namespace,
) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings [N, D] and speakers [N] of the test utterances."""
    corpus = CorpusArtifacts(arguments.corpus)
    root = read_json(corpus.record).get("data_root", str(corpus.folder))
    test = read_manifest(corpus.test, "utterances", root)
    oracle = read_manifest(corpus.oracle, "oracle").table.set_index("ID")
    known = np.flatnonzero(np.isin(test.ids, oracle.index))
    verifier = SpeakerVerifier.from_pretrained(arguments.model, "cpu")
    paths = np.array(test.paths(), dtype=object)[known]
    found = verifier.embed_files(list(paths), progress=True)
    return found.embeddings, oracle.loc[test.ids[known], "spk_id"].to_numpy()


def one_folder(
    x: np.ndarray, speakers: np.ndarray, n_given: int | None
) -> dict[str, float]:
    """Group one folder; return how its groups agree with the speakers."""
    groups = group_embeddings(x, n_given)
    return {
        "ari": adjusted_rand_score(speakers, groups.labels),
        "nmi": normalized_mutual_info_score(speakers, groups.labels),
        "n_found": groups.n_speakers,
    }


def study(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Group all folders, with the number of speakers given and estimated."""
    x, speakers = embedded_test(arguments)
    counts = pd.Series(speakers).value_counts()
    fit = np.sort(counts.index[counts >= arguments.n_files].to_numpy(str))
    if len(fit) < arguments.n_voices:
        raise InputError(
            f"n_voices is {arguments.n_voices}; {len(fit)} speakers of "
            f"{arguments.corpus} have {arguments.n_files} test utterances; "
            "give fewer"
        )
    generator = np.random.default_rng(arguments.seed)
    found: dict[str, list[dict[str, float]]] = {"given": [], "estimated": []}
    for _ in range(arguments.n_folders):
        voices = generator.choice(fit, arguments.n_voices, replace=False)
        rows = np.concatenate(
            [
                generator.choice(
                    np.flatnonzero(speakers == voice),
                    arguments.n_files,
                    replace=False,
                )
                for voice in voices
            ]
        )
        for number, given in (
            ("given", arguments.n_voices),
            ("estimated", None),
        ):
            found[number].append(one_folder(x[rows], speakers[rows], given))
    return [summary(name, rows) for name, rows in found.items()]


def summary(name: str, folders: list[dict[str, float]]) -> dict[str, Any]:
    """Return means over folders, and the range of nine in ten of them."""
    table = pd.DataFrame(folders)
    low, high = table.quantile(0.05), table.quantile(0.95)
    return {
        "number_of_speakers": name,
        **{key: round(float(table[key].mean()), 4) for key in table},
        **{
            f"{key}_from_5_to_95_percent": [
                round(float(low[key]), 4),
                round(float(high[key]), 4),
            ]
            for key in table
        },
    }


def main(argv: list[str] | None = None) -> None:
    """Draw and group folders; write the agreement."""
    arguments = parse(argv)
    rows = study(arguments)
    for row in rows:
        print(row)
    report = {
        "kind": "benchmark",
        "what": "groups of small folders against their true speakers",
        "rows": rows,
        "options": {k: placeless(v) for k, v in vars(arguments).items()},
        "caveat": arguments.caveat,
        "n_cores": os.cpu_count(),
        "versions": versions(),
    }
    write_json(Path(arguments.output), report)
    print(f"written: {arguments.output}")


if __name__ == "__main__":
    run(main)
