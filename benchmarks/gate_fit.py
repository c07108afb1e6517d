"""Table of what each fit of the loss gate would do, over the corpus' size.

True speakers as labels, of which a share is replaced at random, of more and
more utterances of each speaker. A training without a gate records the losses;
each fit is then made to those of its last epoch, where right and wrong labels
are furthest apart. The table has whether there are two modes, and which
labels each fit would reject.

The corpus is made of synthetic voices unless a prepared one (train.csv,
oracle.csv) is given. To run it:

> python benchmarks/gate_fit.py --output_folder=exp/gate_fit
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks import cells, label_noise
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.losses.loss_gate import FITS, LossGate
from speechbrain_ext.losses.two_gaussians import Mixture, fit_mixture

TOY = {"n_speakers": 40, "n_sessions": 4, "n_utterances": 25}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cells.add_arguments(parser)
    parser.set_defaults(toy=TOY)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument(
        "--per_speaker", type=int, nargs="+", default=[10, 30, 100]
    )
    label_noise.add_training_arguments(parser, crop=1.0, n_epochs=12)
    parser.add_argument("--output", default="results/benchmarks/gate_fit.json")
    return parser.parse_args(argv)


def write_labels(
    path: Path, corpus: Path, per_speaker: int, share: float, seed: int
) -> None:
    """Write true labels of some utterances a speaker, a share replaced."""
    train = read_manifest(corpus / "train.csv", "utterances")
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(train))
    speakers = pd.Series(true_speakers(corpus / "oracle.csv", train)[order])
    few = (speakers.groupby(speakers).cumcount() < per_speaker).to_numpy()
    labels = label_noise.uniform(speakers.to_numpy()[few], share, generator)
    table = train.table.iloc[order[few]].assign(spk_id=labels)
    write_manifest(path, table, "pseudo_labels")


def watch(
    arguments: argparse.Namespace,
    corpus: Path,
    folder: Path,
    labels: Path,
    seed: int,
) -> Path:
    """Train with a gate that begins after the last epoch; return the folder."""
    label_noise.train_on(
        arguments,
        corpus,
        folder,
        labels,
        seed,
        gate="hard",
        gate_fit="drawn",
        gate_from_epoch=arguments.n_epochs + 2,
    )
    return folder / "model"


def gate_of(
    fit: str, log_losses: np.ndarray, drawn: Mixture | None
) -> LossGate:
    """Return a gate after an epoch of these losses; the drawn one is given."""
    gate = LossGate(len(log_losses), fit=fit)
    if fit != "drawn":
        losses = torch.tensor(log_losses).exp()
        gate.record(torch.arange(len(losses)), losses, epoch=1)
        gate.close(epoch=1)
    elif drawn is not None and (crossing := drawn.crossing()) is not None:
        gate.threshold = crossing
    return gate


def facts_of(model: Path, corpus: Path, labels: Path) -> dict[str, Any]:
    """Return what each fit would do with the losses of the last epoch."""
    table = label_noise.read_states(model)
    log_losses = table.log_loss.to_numpy()
    pair = fit_mixture(log_losses)
    history = json.loads((model / "gate.json").read_text())
    drawn = history[-1]["mixture"] and Mixture(**history[-1]["mixture"])
    found: dict[str, Any] = {
        "n_utterances": len(table),
        "two modes": float(pair is not None and pair.has_two_modes()),
    }
    for fit in FITS:
        gate = gate_of(fit, log_losses, drawn)
        kept = gate.weights(torch.tensor(log_losses)).numpy() >= 0.5
        states = table.assign(kept=kept, corrected="", confirmed=False)
        what = label_noise.caught(states, corpus, labels)
        found |= {
            f"{fit}: threshold": float(np.isfinite(gate.threshold)),
            f"{fit}: caught (of wrong)": what["caught (of wrong)"],
            f"{fit}: lost (of right)": what["lost (of right)"],
            "loss eer (wrong from right)": what["loss eer (wrong from right)"],
        }
    return found


def study(arguments: argparse.Namespace) -> tuple[list[dict], Figure]:
    """Train for each size; return a row for each, and a plot of the losses."""
    corpus = cells.make_corpus(arguments)
    rows = []
    sizes = arguments.per_speaker
    figure = Figure(figsize=(4 * len(sizes), 3.2), layout="constrained")
    panels = figure.subplots(1, len(sizes), squeeze=False)[0]
    for axes, size in zip(panels, sizes, strict=True):
        found = []
        for seed in arguments.seeds:
            folder = arguments.output_folder / f"{size}-{seed}"
            labels = folder / "pseudo_labels.csv"
            write_labels(labels, corpus, size, arguments.share, seed)
            model = watch(arguments, corpus, folder, labels, seed)
            found.append(facts_of(model, corpus, labels))
        row = {"per speaker": size, **cells.mean_of(found), "seeds": found}
        rows.append(row)
        cells.show(row)
        draw(axes, label_noise.read_states(model), corpus, labels)
    return rows, figure


def draw(axes: Any, table: pd.DataFrame, corpus: Path, labels: Path) -> None:
    """Draw the log losses of right and wrong labels, and two Gaussians."""
    *_, wrong = label_noise.truth_of(table, corpus, labels)
    log_losses = table.log_loss.to_numpy()
    edges = np.linspace(log_losses.min(), log_losses.max(), 61)
    axes.hist(
        [log_losses[~wrong], log_losses[wrong]],
        edges.tolist(),
        stacked=True,
        label=["right", "wrong"],
        color=["0.75", "0.35"],
    )
    pair = fit_mixture(log_losses)
    if pair is not None:
        scale = len(table) * (edges[1] - edges[0])
        for density in pair.densities(edges):
            axes.plot(edges, scale * density)
        crossing = pair.crossing()
        if crossing is not None:
            axes.axvline(crossing, color="black")
    axes.set_title(f"{len(table):,} utterances")
    axes.set_xlabel("log loss")
    axes.legend(frameon=False)


def main(argv: list[str] | None = None) -> None:
    """Train for every size, then write the table."""
    arguments = parse(argv)
    rows, figure = study(arguments)
    what = "fits of the loss gate to losses that no gate has changed"
    cells.write(arguments, what, rows, figure)


if __name__ == "__main__":
    run(main)
