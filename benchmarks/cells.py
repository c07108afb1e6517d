"""Tables of trainings; each cell runs a chain of recipes.

A cell is trained, embeds the test utterances and is scored on the corpus'
trials, each by its recipe, so that the same command goes on after a kill and
skips what is done.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from speechbrain_ext.experiment.artifacts import (
    CorpusArtifacts,
    ModelArtifacts,
    ScoreArtifacts,
)
from speechbrain_ext.experiment.launch import recipe_words
from speechbrain_ext.utils.files import read_json, write_json
from speechbrain_ext.utils.plotting import save_png
from speechbrain_ext.utils.provenance import versions
from speechbrain_ext.utils.yaml_trees import find_yaml, parse_yaml, plain
from speechbrain_ext.verification.results import Result, read_result

SYNTHETIC = "synthetic voices"


def yaml_values(text: str) -> dict[str, Any]:
    """Parse values of YAML keys, as typed on the command line."""
    return plain(parse_yaml(text))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all tables share: folder, corpus, seeds."""
    parser.add_argument("--output_folder", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, help="prepared; else made")
    parser.add_argument("--data_folder", help="of the corpus; else its own")
    parser.add_argument("--augment_folder", help="else that of made voices")
    parser.add_argument(
        "--toy", type=yaml_values, default={}, help="values of prepare_toy"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1986])
    parser.add_argument("--num_workers", type=int, default=0)


def start(recipe: str, leaf: str, **options: Any) -> None:
    """Run a recipe to its end, or skip it if it is done.

    It runs in this process, so that a short cell does not wait for a Python
    to start.
    """
    words = recipe_words(recipe, find_yaml(leaf), options)
    module = importlib.import_module(f"recipes.{recipe}")
    module.main([*words[2:], "--noprogressbar"])


def make_corpus(arguments: argparse.Namespace) -> Path:
    """Return the given corpus, or synthesise one."""
    if arguments.corpus is not None:
        return arguments.corpus
    folder = arguments.output_folder / "corpus"
    start(
        "prepare_toy",
        "prepare_toy.yaml",
        output_folder=str(folder),
        **arguments.toy,
    )
    return folder


def train(
    arguments: argparse.Namespace,
    corpus: Path,
    folder: Path,
    recipe: str,
    leaf: str,
    **options: Any,
) -> None:
    """Train a cell into ``folder/model``."""
    sounds = arguments.augment_folder
    if sounds is None and arguments.corpus is None:
        sounds = str(CorpusArtifacts(corpus).sounds)
    start(
        recipe,
        leaf,
        data_folder=arguments.data_folder or str(corpus),
        output_folder=str(folder / "model"),
        augment_folder=sounds,
        num_workers=arguments.num_workers,
        **options,
    )


def score(
    arguments: argparse.Namespace,
    corpus: Path,
    folder: Path,
    system: str,
    seed: int,
    **options: Any,
) -> None:
    """Embed the test utterances and score the corpus' trials."""
    start(
        "extract_embeddings",
        "extract_embeddings.yaml",
        embedder_folder=str(ModelArtifacts(folder / "model").embedder),
        annotation=str(CorpusArtifacts(corpus).test),
        data_folder=arguments.data_folder or str(corpus),
        output_folder=str(folder / "embeddings"),
        num_workers=arguments.num_workers,
        seed=seed,
    )
    lists = CorpusArtifacts(corpus).trials()
    start(
        "score_trials",
        "score_trials.yaml",
        embeddings_folder=str(folder / "embeddings"),
        trials={name: str(path) for name, path in lists.items()},
        output_folder=str(folder / "scores"),
        system=system,
        seed=seed,
        **options,
    )


def compare(
    corpus: CorpusArtifacts, first: Path, second: Path, seed: int
) -> list[dict[str, Any]]:
    """Compare two cells by a paired bootstrap on each of the corpus' lists."""
    found = []
    for name, trials in corpus.trials().items():
        folder = second / "comparisons" / f"{first.name}_{name}"
        start(
            "compare_scores",
            "compare_scores.yaml",
            first=str(first / "scores"),
            second=str(second / "scores"),
            trials=str(trials),
            oracle=str(corpus.oracle),
            output_folder=str(folder),
            seed=seed,
        )
        found.append(read_json(folder / "comparison.json"))
    return found


def results_of(folder: Path) -> list[Result]:
    """Read the results of a cell, one for each trial list."""
    scored = ScoreArtifacts(folder / "scores")
    return [read_result(path) for path in scored.results()]


def error_rates(folder: Path) -> dict[str, Any]:
    """Return EER and minDCF of a cell on each list."""
    rates: dict[str, Any] = {}
    for result in results_of(folder):
        name = result.trials.name
        rates[f"eer {name}"] = result.eer.value
        rates[f"min_dcf {name}"] = result.min_dcf.value
    return rates


def mean_of(cells: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Average cells over seeds, column by column."""
    means: dict[str, float | None] = {}
    for key in cells[0]:
        values = [cell[key] for cell in cells if cell[key] is not None]
        means[key] = round(statistics.fmean(values), 4) if values else None
    return means


def show(row: dict[str, Any]) -> None:
    """Print a row as soon as it is complete."""
    shown = {key: value for key, value in row.items() if key != "seeds"}
    print(json.dumps(shown), flush=True)


def placeless(value: Any) -> str:
    """Return an option as text, with local folders removed."""
    if isinstance(value, dict):
        return str({key: placeless(each) for key, each in value.items()})
    text = str(value)
    if not Path(text).is_absolute():
        return text
    return "/".join(Path(text).parts[-2:])


def write(
    arguments: argparse.Namespace,
    what: str,
    rows: list[dict[str, Any]],
    plot: Figure,
    comparisons: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write the table to ``arguments.output``, and its plot beside it."""
    output = Path(arguments.output)
    report = {
        "kind": "benchmark",
        "what": what,
        "corpus": placeless(arguments.corpus or SYNTHETIC),
        "rows": rows,
        **({"comparisons": list(comparisons)} if comparisons else {}),
        "options": {k: placeless(v) for k, v in vars(arguments).items()},
        "processor": platform.machine(),
        "n_cores": os.cpu_count(),
        "versions": versions(),
    }
    write_json(output, report)
    save_png(plot, output.with_suffix(".png"))
    print(f"written: {output}")
    return output
