"""Table of trainings on wrong labels: gates and label correction.

True speakers as labels, of which a share is corrupted; on each, the same small
ECAPA-TDNN (from scratch, or from a bootstrap) is trained without a gate, with
a hard one, with a soft one, and with label correction, and scored on the
corpus' trials. As the truth is known here, so is which labels the gate caught.
Training never sees it.

Each mode is compared with training without a gate on the same labels, by a
paired test over the seeds (`benchmarks.paired`). Every cell is made of stages,
so that the same command goes on after a kill and skips what is done. The
corpus is made of synthetic voices unless a prepared one (train.csv, test.csv,
oracle.csv, trials/) is given. To run it:

> python benchmarks/label_noise.py --output_folder=exp/label_noise

The result beside this package is MiniVox's, from a SimCLR of the same size:

> python recipes/prepare_voxceleb.py hparams/prepare_voxceleb.yaml \
      --data_folder=MINIVOX --output_folder=exp/corpus --convert_to_wav=True \
      --train_wav=train/wav --test_wav=test/wav --trials="{dev: \
      meta/trials_dev.txt, dev2: meta/trials_dev2.txt, dev_all: \
      meta/trials_dev_all.txt}"
> python recipes/train_contrastive.py \
      hparams/train_contrastive_ecapa_small.yaml --n_epochs=12 \
      --train_annotation=exp/corpus/train.csv --data_folder=exp/corpus \
      --output_folder=exp/simclr --augment_folder=MINIVOX/augment \
      --embedder="{width: 32, width_last: 96, attention_channels: 32, \
      embedding_size: 64}"
> python benchmarks/label_noise.py --output_folder=exp/label_noise \
      --corpus=exp/corpus --augment_folder=MINIVOX/augment --n_epochs=12 \
      --init_from=exp/simclr/embedder --shares 0.2 --seeds 1986 1987 1988 \
      --modes none "gate (mixture)" "gate (drawn)" "soft gate (drawn)"
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import cells, paired
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.metrics import equal_error_rate

_DRAWN = {"gate": "hard", "gate_fit": "drawn"}
MODES: dict[str, dict[str, Any]] = {
    "none": {},
    "gate (mixture)": {"gate": "hard", "gate_fit": "mixture"},
    "gate (valley)": {"gate": "hard", "gate_fit": "valley"},
    "gate (drawn)": _DRAWN,
    "soft gate (drawn)": {**_DRAWN, "gate": "soft"},
    "gate (drawn) + correction": {**_DRAWN, "correct": True},
}
# The paired tests compare each mode with this one, on the same labels.
BASELINE = "none"
SMALL = {
    "width": 32,
    "width_last": 96,
    "attention_channels": 32,
    "embedding_size": 64,
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cells.add_arguments(parser)
    parser.add_argument(
        "--kind", choices=sorted(CORRUPTIONS), default="uniform"
    )
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0, 0.2, 0.4]
    )
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    add_training_arguments(parser, crop=1.5, n_epochs=25)
    parser.add_argument("--gate_from_epoch", type=int, default=5)
    parser.add_argument("--correct_from_epoch", type=int, default=9)
    parser.add_argument("--n_bootstrap", type=int, default=1000)
    parser.add_argument(
        "--output", default="results/benchmarks/label_noise.json"
    )
    return parser.parse_args(argv)


def add_training_arguments(
    parser: argparse.ArgumentParser, crop: float, n_epochs: int
) -> None:
    """Add the arguments of `train_on`, with these defaults."""
    parser.add_argument("--embedder", type=cells.yaml_values, default=SMALL)
    parser.add_argument("--init_from", help="an embedder of that size")
    parser.add_argument("--crop", type=float, default=crop)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--n_epochs", type=int, default=n_epochs)
    parser.add_argument("--lr", type=float, default=2e-3)


def uniform(
    speakers: np.ndarray, share: float, generator: np.random.Generator
) -> np.ndarray:
    """Give a share of utterances the label of a different speaker [N]."""
    names, own = np.unique(speakers, return_inverse=True)
    rows = generator.permutation(len(own))[: round(share * len(own))]
    labels = own.copy()
    labels[rows] += generator.integers(1, len(names), len(rows))
    return names[labels % len(names)]


def merges(
    speakers: np.ndarray, share: float, generator: np.random.Generator
) -> np.ndarray:
    """Merge speakers until a share of utterances has another label.

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
    """Split speakers: half of their utterances get a new label."""
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
    """Return the most frequent speaker of each label."""
    table = pd.crosstab(pd.Series(labels), pd.Series(speakers))
    return table.idxmax(axis=1).to_dict()


def write_labels(
    path: Path, corpus: Path, kind: str, share: float, seed: int
) -> None:
    """Write a manifest of true labels, a share of which is corrupted."""
    train = read_manifest(corpus / "train.csv", "utterances")
    speakers = true_speakers(corpus / "oracle.csv", train)
    generator = np.random.default_rng(seed)
    labels = CORRUPTIONS[kind](speakers, share, generator)
    table = train.table.assign(spk_id=labels)
    write_manifest(path, table, "pseudo_labels")


def train_on(
    arguments: argparse.Namespace,
    corpus: Path,
    folder: Path,
    labels: Path,
    seed: int,
    **options: Any,
) -> None:
    """Train the small ECAPA-TDNN on labels, which may be wrong."""
    cells.train(
        arguments,
        corpus,
        folder,
        "train_speaker",
        "train_speaker_ecapa.yaml",
        train_annotation=str(labels),
        embedder=arguments.embedder,
        init_from=arguments.init_from,
        crop=arguments.crop,
        batch_size=arguments.batch_size,
        n_epochs=arguments.n_epochs,
        lr=arguments.lr,
        valid_fraction=0.0,
        seed=seed,
        **options,
    )


def do_cell(
    arguments: argparse.Namespace,
    corpus: Path,
    folder: Path,
    labels: Path,
    mode: str,
    seed: int,
) -> None:
    """Train, embed and score one cell."""
    how = dict(MODES[mode])
    correct = arguments.correct_from_epoch if how.pop("correct", None) else None
    train_on(
        arguments,
        corpus,
        folder,
        labels,
        seed,
        gate_from_epoch=arguments.gate_from_epoch,
        correct_from_epoch=correct,
        **how,
    )
    cells.score(arguments, corpus, folder, mode, seed)


def statistics_of(
    folder: Path, corpus: Path, labels: Path, first_epoch: int
) -> dict[str, Any]:
    """Return error rates, and what the gate did, by the true labels too."""
    found = cells.error_rates(folder)
    path = folder / "model" / "gate.json"
    if path.exists():
        found.update(gated(json.loads(path.read_text()), first_epoch))
        found.update(caught(read_states(path.parent), corpus, labels))
    return found


def gated(
    history: Sequence[dict[str, Any]], first_epoch: int
) -> dict[str, Any]:
    """Return shares kept and corrected, and how often no threshold was found.

    A gated epoch has the threshold of the losses of the epoch before.
    """
    epochs = [row for row in history if row["epoch"] >= first_epoch]
    fits = [row for row in history[:-1] if row["epoch"] >= first_epoch - 1]
    return {
        "kept": epochs[-1]["kept"],
        "least kept": min(row["kept"] for row in epochs),
        "corrected": epochs[-1].get("corrected", 0.0),
        "gated epochs": len(epochs),
        "epochs without a threshold": sum(not row["is_new"] for row in fits),
    }


def read_states(folder: Path) -> pd.DataFrame:
    """Read what became of each label in a training."""
    return pd.read_csv(folder / "label_states.csv", keep_default_na=False)


def caught(table: pd.DataFrame, corpus: Path, labels: Path) -> dict[str, Any]:
    """Return the shares of wrong and right labels that the gate changed."""
    speakers, names, wrong = truth_of(table, corpus, labels)
    kept = table.kept.to_numpy()
    new = table.corrected.to_numpy()
    moved = new != ""
    right = np.array([names.get(label, "") for label in new]) == speakers
    used = kept | table.confirmed.to_numpy() | (moved & right)
    return {
        "wrong": share_of(wrong, np.ones_like(wrong)),
        "caught (of wrong)": share_of(~kept, wrong),
        "lost (of right)": share_of(~used, ~wrong),
        "put right (of wrong)": share_of(moved & right, wrong),
        "put wrong (of all)": share_of(moved & ~right, np.ones_like(wrong)),
        "loss eer (wrong from right)": told_apart(
            table.log_loss.to_numpy(), wrong
        ),
    }


def truth_of(
    table: pd.DataFrame, corpus: Path, labels: Path
) -> tuple[np.ndarray, dict[str, str], np.ndarray]:
    """Return true speakers [N], whom labels stand for, which are wrong [N].

    A label is wrong if most utterances that have it are of another speaker.
    """
    given = read_manifest(labels, "pseudo_labels")
    speakers = true_speakers(corpus / "oracle.csv", given)
    names = stands_for(given.spk_id, speakers)
    rows = given.rows_of(table.ID)
    meant = np.array([names[label] for label in given.spk_id[rows]])
    return speakers[rows], names, meant != speakers[rows]


def told_apart(log_losses: np.ndarray, wrong: np.ndarray) -> float | None:
    """Return the EER of telling wrong labels by their loss [0, 1]."""
    if wrong.all() or not wrong.any():
        return None
    return round(equal_error_rate(log_losses, wrong.astype(int))[0], 4)


def share_of(chosen: np.ndarray, among: np.ndarray) -> float | None:
    """Return the chosen share of a group [0, 1]; None if it is empty."""
    return round(float(chosen[among].mean()), 4) if among.any() else None


def labels_of(arguments: argparse.Namespace, share: float, seed: int) -> Path:
    """Return the path of the labels that all modes of a share and seed have."""
    name = f"{arguments.kind}-{100 * share:.0f}-{seed}"
    return arguments.output_folder / name / "pseudo_labels.csv"


def cell_of(labels: Path, mode: str) -> Path:
    """Return the folder of a mode on these labels."""
    return labels.with_name(re.sub(r"\W+", "_", mode).strip("_"))


def study(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run all cells; return a row for each share and mode."""
    corpus = cells.make_corpus(arguments)
    rows = []
    for share, mode in itertools.product(arguments.shares, arguments.modes):
        found = []
        for seed in arguments.seeds:
            labels = labels_of(arguments, share, seed)
            write_labels(labels, corpus, arguments.kind, share, seed)
            cell = cell_of(labels, mode)
            do_cell(arguments, corpus, cell, labels, mode, seed)
            first = arguments.gate_from_epoch
            found.append(statistics_of(cell, corpus, labels, first))
        row = {"share": share, "mode": mode}
        rows.append({**row, **cells.mean_of(found), "seeds": found})
        cells.show(rows[-1])
    if BASELINE in arguments.modes:
        add_paired_tests(arguments, corpus, rows)
    return rows


def add_paired_tests(
    arguments: argparse.Namespace, corpus: Path, rows: list[dict[str, Any]]
) -> None:
    """Add to each row its difference from the row without a gate."""
    for share in arguments.shares:
        part = [row for row in rows if row["share"] == share]
        drawn = {
            row["mode"]: [
                paired.drawn_eers(
                    cell_of(labels_of(arguments, share, seed), row["mode"]),
                    corpus,
                    arguments.n_bootstrap,
                )
                for seed in arguments.seeds
            ]
            for row in part
        }
        for row in part:
            if row["mode"] != BASELINE:
                row[f"against {BASELINE}"] = paired.compare(
                    drawn[BASELINE], drawn[row["mode"]]
                )


def plot(rows: Sequence[dict[str, Any]]) -> Figure:
    """Plot EER over the share of wrong labels, a line for each mode."""
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
    """Write the table, and plots beside it."""
    what = "training on labels of which a share is wrong"
    output = cells.write(arguments, what, rows, plot(rows))
    labels = labels_of(arguments, max(arguments.shares), arguments.seeds[0])
    for mode in arguments.modes:
        cell = cell_of(labels, mode)
        drawn = cell / "model" / "gate_fits.png"
        if drawn.exists():
            copy = output.with_name(f"{output.stem}_{cell.name}.png")
            shutil.copy(drawn, copy)


def main(argv: list[str] | None = None) -> None:
    """Run every cell, then write the table."""
    arguments = parse(argv)
    unknown = set(arguments.modes) - set(MODES)
    if unknown:
        raise InputError(
            f"modes {sorted(unknown)} are not of {list(MODES)}; correct --modes"
        )
    write(arguments, study(arguments))


if __name__ == "__main__":
    run(main)
