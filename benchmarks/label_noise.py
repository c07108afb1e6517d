"""What gate and correction are worth when labels are known to be wrong.

True speakers as labels, of which a share is corrupted; on each, the same small
ECAPA-TDNN (from scratch, or from a bootstrap) is trained without a gate, with
a hard one, with a soft one, and with label correction, and scored on the
corpus' trials. As the truth is known here, so is which labels the gate caught.
Training never sees it.

Every cell is made of stages, so that the same command goes on after a kill and
skips what is done. The corpus is made of synthetic voices unless a prepared
one (train.csv, test.csv, oracle.csv, trials/) is given. To run it:

> python benchmarks/label_noise.py --output_folder=exp/label_noise
> python benchmarks/label_noise.py --output_folder=exp/label_noise_minivox \
      --corpus=exp/minivox/corpus --crop=2.0 \
      --init_from=exp/minivox/bootstrap/model/embedder --embedder="{width: 64, \
      width_last: 192, attention_channels: 64, embedding_size: 128}"
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recipes.run_rounds import CPU_ENVIRONMENT
from speechbrain_ext.files import InputError, read_json, write_json
from speechbrain_ext.label_quality import true_speakers
from speechbrain_ext.manifest import read_manifest, write_manifest
from speechbrain_ext.plots import save_png
from speechbrain_ext.receipts import versions
from speechbrain_ext.stage import run
from speechbrain_ext.yamls import parse_yaml, plain

ROOT = Path(__file__).parents[1]
# The paper's fit needs losses of two modes, which small corpora do not have.
_DRAWN = {"gate_fit": "drawn"}
MODES: dict[str, dict[str, Any]] = {
    "none": {},
    "gate (mixture)": {"gate": "hard", "gate_fit": "mixture"},
    "gate": {"gate": "hard", **_DRAWN},
    "soft gate": {"gate": "soft", **_DRAWN},
    "gate + correction": {"gate": "hard", **_DRAWN, "correct": True},
}
SMALL = (
    "{width: 32, width_last: 96, attention_channels: 32, embedding_size: 64}"
)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_folder", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, help="prepared; else made")
    parser.add_argument("--data_folder", help="of the corpus; else its own")
    parser.add_argument("--augment_folder", help="else that of made voices")
    parser.add_argument("--toy", default="{}", help="values of prepare_toy")
    parser.add_argument(
        "--kind", choices=sorted(CORRUPTIONS), default="uniform"
    )
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0, 0.2, 0.4]
    )
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1986])
    parser.add_argument("--embedder", default=SMALL)
    parser.add_argument("--init_from", help="an embedder of that size")
    parser.add_argument("--crop", type=float, default=1.5)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--n_epochs", type=int, default=25)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--gate_from_epoch", type=int, default=5)
    parser.add_argument("--correct_from_epoch", type=int, default=9)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument(
        "--output", default="results/benchmark_label_noise.json"
    )
    return parser.parse_args(argv)


def uniform(
    speakers: np.ndarray, share: float, generator: np.random.Generator
) -> np.ndarray:
    """So many utterances get the label of any other speaker [N]."""
    names, own = np.unique(speakers, return_inverse=True)
    rows = generator.permutation(len(own))[: round(share * len(own))]
    labels = own.copy()
    labels[rows] += generator.integers(1, len(names), len(rows))
    return names[labels % len(names)]


def merges(
    speakers: np.ndarray, share: float, generator: np.random.Generator
) -> np.ndarray:
    """Speakers are given the label of another, until so many utterances are.

    Of two that share a label, the one with more utterances keeps its own.
    """
    names, own, sizes = np.unique(
        speakers, return_inverse=True, return_counts=True
    )
    order = generator.permutation(len(names))
    target = np.arange(len(names))
    n_moved = 0
    for first, second in zip(order[::2], order[1::2], strict=False):
        if n_moved >= share * len(own):
            break
        lesser, larger = sorted((first, second), key=lambda name: sizes[name])
        target[lesser] = larger
        n_moved += sizes[lesser]
    return names[target[own]]


def splits(
    speakers: np.ndarray, share: float, generator: np.random.Generator
) -> np.ndarray:
    """Of some speakers half the utterances get a label of their own."""
    names, own = np.unique(speakers, return_inverse=True)
    labels = speakers.astype(object).copy()
    n_moved = 0
    for name in generator.permutation(len(names)):
        if n_moved >= share * len(own):
            break
        rows = generator.permutation(np.flatnonzero(own == name))
        labels[rows[: len(rows) // 2]] = f"{names[name]}-split"
        n_moved += len(rows) // 2
    return labels


CORRUPTIONS = {"uniform": uniform, "merges": merges, "splits": splits}


def stands_for(labels: np.ndarray, speakers: np.ndarray) -> dict[str, str]:
    """The speaker that most utterances of each label are of."""
    table = pd.crosstab(pd.Series(labels), pd.Series(speakers))
    return table.idxmax(axis=1).to_dict()


def start(recipe: str, leaf: str, **options: Any) -> None:
    """Run a recipe to its end, or skip it if it was."""
    words = [sys.executable, str(ROOT / "recipes" / f"{recipe}.py")]
    words += [str(ROOT / "hparams" / leaf), "--noprogressbar"]
    for key, value in options.items():
        text = value if isinstance(value, str) else json.dumps(value)
        words.append(f"--{key}={text}")
    environment = {**CPU_ENVIRONMENT, **os.environ, "PYTHONPATH": str(ROOT)}
    if subprocess.run(words, env=environment).returncode:
        raise InputError(f"{recipe} into {options['output_folder']} failed")


def make_corpus(arguments: argparse.Namespace) -> Path:
    """The given corpus, or one of synthetic voices."""
    if arguments.corpus is not None:
        return arguments.corpus
    folder = arguments.output_folder / "corpus"
    sizes = plain(parse_yaml(arguments.toy))
    start("prepare_toy", "prepare_toy.yaml", output_folder=str(folder), **sizes)
    return folder


def write_labels(
    path: Path, corpus: Path, kind: str, share: float, seed: int
) -> None:
    """A manifest whose labels are true but for a share."""
    train = read_manifest(corpus / "train.csv", "utterances")
    speakers = true_speakers(corpus / "oracle.csv", train)
    generator = np.random.default_rng(seed)
    labels = CORRUPTIONS[kind](speakers, share, generator)
    table = train.table.assign(spk_id=labels)
    write_manifest(path, table, "pseudo_labels")


def do_cell(
    arguments: argparse.Namespace,
    corpus: Path,
    folder: Path,
    labels: Path,
    mode: str,
    seed: int,
) -> None:
    """Train, embed and score one cell."""
    options = {"seed": seed, "num_workers": arguments.num_workers}
    data = arguments.data_folder or str(corpus)
    sounds = arguments.augment_folder
    if sounds is None and arguments.corpus is None:
        sounds = str(corpus / "augment")
    how = dict(MODES[mode])
    correct = arguments.correct_from_epoch if how.pop("correct", None) else None
    start(
        "train_speaker",
        "train_speaker_ecapa.yaml",
        train_annotation=str(labels),
        data_folder=data,
        output_folder=str(folder / "model"),
        embedder=arguments.embedder,
        init_from=arguments.init_from,
        augment_folder=sounds,
        crop=arguments.crop,
        batch_size=arguments.batch_size,
        n_epochs=arguments.n_epochs,
        lr=arguments.lr,
        valid_fraction=0.0,
        gate_from_epoch=arguments.gate_from_epoch,
        correct_from_epoch=correct,
        **how,
        **options,
    )
    start(
        "extract_embeddings",
        "extract_embeddings.yaml",
        embedder_folder=str(folder / "model" / "embedder"),
        annotation=str(corpus / "test.csv"),
        data_folder=data,
        output_folder=str(folder / "embeddings"),
        **options,
    )
    lists = {p.stem: str(p) for p in sorted((corpus / "trials").glob("*.txt"))}
    start(
        "score_trials",
        "score_trials.yaml",
        embeddings_folder=str(folder / "embeddings"),
        trials=lists,
        output_folder=str(folder / "scores"),
        system=mode,
        seed=seed,
    )


def figures_of(folder: Path, corpus: Path, labels: Path) -> dict[str, Any]:
    """EER of each list and, against the truth, what the gate did."""
    figures: dict[str, Any] = {}
    for path in sorted((folder / "scores").glob("result_*.json")):
        result = read_json(path)
        figures[f"eer {result['trials']}"] = result["eer_percent"]
        figures[f"min_dcf {result['trials']}"] = result["min_dcf"]
    path = folder / "model" / "label_states.csv"
    if path.exists():
        figures.update(caught(path, corpus, labels))
    return figures


def caught(states: Path, corpus: Path, labels: Path) -> dict[str, Any]:
    """Shares of wrong and of right labels that gate and correction moved.

    A label is wrong if most utterances that have it are of another speaker.
    """
    table = pd.read_csv(states, keep_default_na=False)
    given = read_manifest(labels, "pseudo_labels")
    speakers = true_speakers(corpus / "oracle.csv", given)
    names = stands_for(given.spk_id, speakers)
    rows = given.rows_of(table.ID)
    speakers, own = speakers[rows], given.spk_id[rows]
    wrong = np.array([names[label] for label in own]) != speakers
    kept = table.kept.to_numpy()
    new = table.corrected.to_numpy()
    moved = new != ""
    right = np.array([names.get(label, "") for label in new]) == speakers
    return {
        "wrong": share_of(wrong, np.ones_like(wrong)),
        "caught (of wrong)": share_of(~kept, wrong),
        "lost (of right)": share_of(~kept & ~(moved & right), ~wrong),
        "put right (of wrong)": share_of(moved & right, wrong),
        "put wrong (of all)": share_of(moved & ~right, np.ones_like(wrong)),
    }


def share_of(chosen: np.ndarray, among: np.ndarray) -> float | None:
    """Of those, so many [0, 1]; None of none."""
    return round(float(chosen[among].mean()), 4) if among.any() else None


def mean_of(cells: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Means over seeds, figure by figure."""
    means: dict[str, float | None] = {}
    for key in cells[0]:
        values = [cell[key] for cell in cells if cell[key] is not None]
        means[key] = round(statistics.fmean(values), 4) if values else None
    return means


def study(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells; a row a share and mode."""
    corpus = make_corpus(arguments)
    rows = []
    for share, mode in itertools.product(arguments.shares, arguments.modes):
        cells = []
        for seed in arguments.seeds:
            folder = arguments.output_folder / (
                f"{arguments.kind}-{100 * share:.0f}-{seed}"
            )
            labels = folder / "pseudo_labels.csv"
            write_labels(labels, corpus, arguments.kind, share, seed)
            cell = folder / re.sub(r"\W+", "_", mode)
            do_cell(arguments, corpus, cell, labels, mode, seed)
            cells.append(figures_of(cell, corpus, labels))
        row = {"share": share, "mode": mode, **mean_of(cells), "seeds": cells}
        rows.append(row)
        shown = {k: v for k, v in row.items() if k != "seeds"}
        print(json.dumps(shown), flush=True)
    return rows


def picture(rows: Sequence[dict[str, Any]]) -> Figure:
    """EER over the share of wrong labels, a line a mode and a panel a list."""
    table = pd.DataFrame(rows)
    lists = [name for name in table if str(name).startswith("eer ")]
    figure = Figure(figsize=(5 * len(lists), 3.6), layout="constrained")
    panels = figure.subplots(1, len(lists), squeeze=False)[0]
    for axes, name in zip(panels, lists, strict=True):
        for mode, part in table.groupby("mode", sort=False):
            axes.plot(100 * part["share"], part[name], "o-", label=mode)
        axes.set_title(str(name).removeprefix("eer "))
        axes.set_xlabel("wrong labels (%)")
        axes.set_ylabel("EER (%)")
        axes.grid(color="0.9")
        axes.legend(frameon=False)
    return figure


def write(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """The table, and pictures beside it."""
    options = {k: str(v) for k, v in vars(arguments).items()}
    output = Path(arguments.output)
    report = {
        "kind": "benchmark",
        "what": "training on labels of which a share is wrong",
        "corpus": str(arguments.corpus or "synthetic voices"),
        "rows": rows,
        "options": options,
        "processor": platform.machine(),
        "n_cores": os.cpu_count(),
        "versions": versions(),
    }
    write_json(output, report)
    save_png(picture(rows), output.with_suffix(".png"))
    last = arguments.output_folder / (
        f"{arguments.kind}-{100 * max(arguments.shares):.0f}-"
        f"{arguments.seeds[0]}"
    )
    for name in ("gate_fits", "gate_shares"):
        drawn = last / "gate" / "model" / f"{name}.png"
        if drawn.exists():
            copy = output.with_name(f"{output.stem}_{name}.png")
            shutil.copy(drawn, copy)
    print(f"written: {output}")


def main(argv: list[str] | None = None) -> None:
    """Every cell, then the table."""
    arguments = parse(argv)
    unknown = set(arguments.modes) - set(MODES)
    if unknown:
        raise InputError(f"modes {sorted(unknown)} are not of {list(MODES)}")
    write(arguments, study(arguments))


if __name__ == "__main__":
    run(main)
