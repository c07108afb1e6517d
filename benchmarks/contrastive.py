"""Table of contrastive trainings: encoder, back-end and positives.

The paper's first finding (Miara et al., Interspeech 2024) at a small scale:
a WavLM, frozen or tuned by SimCLR, with a TDNN, ECAPA-TDNN or MHFA, and
positives of the same utterance, of nearby clusters (SSPS) or, as a diagnostic,
of the true speaker; beside it ECAPA-TDNN on mel bands with SimCLR and MoCo.
WavLM is small and random unless --wavlm names another encoder. Each cell is
compared with the others by a paired bootstrap. With --labels, cells may learn
from these pseudo-labels by AAM-softmax instead.

Every cell is made of stages, so that the same command goes on after a kill and
skips what is done. The corpus is made of synthetic voices unless a prepared
one (train.csv, test.csv, oracle.csv, trials/) is given. To run it:

> python benchmarks/contrastive.py --output_folder=exp/contrastive
> python benchmarks/contrastive.py --output_folder=exp/contrastive_some \
      --cells "tuned MHFA ssps" "ECAPA moco"
> python benchmarks/contrastive.py --output_folder=exp/contrastive_minivox \
      --corpus=exp/minivox/corpus --ssps_clusters=1300
> python benchmarks/contrastive.py --output_folder=exp/contrastive_whisper \
      --corpus=exp/minivox_whisper/corpus --ssps_clusters=1300 \
      --labels=exp/minivox_whisper/round1/labels/pseudo_labels.csv \
      --wavlm="{encoder_source: openai/whisper-tiny.en, n_layers: 2}" \
      --cells "frozen ECAPA utterance" "tuned ECAPA utterance" \
      "tuned ECAPA pseudo-labels"
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import cells
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.experiment.artifacts import (
    CorpusArtifacts,
    ModelArtifacts,
)
from speechbrain_ext.models.embedder import build_embedder
from speechbrain_ext.models.embedder_folder import load_weights
from speechbrain_ext.training.layer_distances import FRONT, of_embedder
from speechbrain_ext.utils.errors import InputError

# A WavLM small enough to train on CPU cores; 20 ms frames, as Base+.
SMALL_WAVLM = {
    "encoder_source": None,
    "encoder_config": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "conv_dim": [32, 32, 32],
        "conv_stride": [10, 8, 4],
        "conv_kernel": [20, 8, 4],
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    },
}
SMALL_BACK_ENDS = {
    "TDNN": {"width": 64, "width_last": 192, "embedding_size": 64},
    "ECAPA": {
        "width": 64,
        "width_last": 192,
        "attention_channels": 32,
        "embedding_size": 64,
    },
    "MHFA": {"n_heads": 8, "compression_size": 32, "embedding_size": 64},
}
N_COLUMNS = 3  # of the plot
SMALL_ECAPA = {
    "n_mels": 80,
    "std_norm": False,
    "width": 32,
    "width_last": 96,
    "attention_channels": 32,
    "embedding_size": 64,
}
FREEZE = {"frozen": "all", "tuned": "front"}
LEAF = {
    "frozen": "train_contrastive_encoder.yaml",
    "tuned": "train_contrastive_encoder.yaml",
    "none": "train_contrastive_ecapa.yaml",
}
POSITIVES = ("utterance", "ssps", "oracle")
CLASSES = "pseudo-labels"  # in place of positives
COLOURS = dict(
    zip((*POSITIVES, CLASSES), ("C0", "C1", "C2", "C3"), strict=True)
)
MARKERS = {"tuned": "o", "frozen": "s", "none": "^"}
BACK_ENDS = ("TDNN", "ECAPA", "MHFA")


def all_cells() -> dict[str, dict[str, str]]:
    """Describe each cell, by its name."""
    rows = [
        {"encoder": encoder, "back-end": back_end, "positives": positives}
        for encoder, back_end, positives in itertools.product(
            FREEZE, BACK_ENDS, POSITIVES
        )
    ]
    found = {" ".join(row.values()): row | {"method": "simclr"} for row in rows}
    for encoder, back_end in itertools.product(FREEZE, BACK_ENDS):
        row = {"encoder": encoder, "back-end": back_end, "positives": CLASSES}
        found[" ".join(row.values())] = row | {"method": "aam"}
    for method in ("simclr", "moco"):
        found[f"ECAPA {method}"] = {
            "encoder": "none",
            "back-end": "ECAPA",
            "positives": "utterance",
            "method": method,
        }
    return found


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cells.add_arguments(parser)
    parser.add_argument("--labels", help="pseudo_labels.csv of the corpus")
    usual = [name for name in all_cells() if not name.endswith(CLASSES)]
    parser.add_argument("--cells", nargs="+", default=usual)
    values = {"type": cells.yaml_values, "help": "values to change"}
    parser.add_argument("--wavlm", default=SMALL_WAVLM, **values)
    parser.add_argument("--back_ends", default=SMALL_BACK_ENDS, **values)
    parser.add_argument("--ecapa", default=SMALL_ECAPA, **values)
    parser.add_argument("--crop", type=float, default=1.5)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--n_epochs", type=int, default=20)
    parser.add_argument("--n_ssps_epochs", type=int, default=5)
    parser.add_argument("--ssps_clusters", type=int, default=240)
    parser.add_argument("--n_keys", type=int, default=512)
    parser.add_argument("--momentum", type=float, default=0.99)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--lr_encoder", type=float, default=2e-4, help="of a tuned WavLM"
    )
    parser.add_argument(
        "--output", default="results/benchmarks/contrastive.json"
    )
    return parser.parse_args(argv)


def model_of(
    arguments: argparse.Namespace, cell: dict[str, str]
) -> dict[str, Any]:
    """Return the options of a cell's embedder and learning rates."""
    if cell["encoder"] == "none":
        return {
            "embedder_yaml": "embedders/ecapa.yaml",
            "embedder": arguments.ecapa,
            "lr_parts": {},
        }
    name = cell["back-end"]
    sizes = arguments.back_ends[name]
    freeze = {"freeze": FREEZE[cell["encoder"]]}
    return {
        "embedder_yaml": f"embedders/encoder_{name.lower()}.yaml",
        "embedder": {**arguments.wavlm, **sizes, **freeze},
        "lr_parts": {"encoder": arguments.lr_encoder},
    }


def do_cell(
    arguments: argparse.Namespace,
    corpus: Path,
    folder: Path,
    name: str,
    seed: int,
) -> None:
    """Train, embed and score one cell."""
    cell = all_cells()[name]
    if cell["positives"] == CLASSES:
        train_classes(arguments, corpus, folder, cell, seed)
    else:
        train_contrastive(arguments, corpus, folder, cell, seed)
    cells.score(
        arguments,
        corpus,
        folder,
        name,
        seed,
        caveat=cells.SYNTHETIC if arguments.corpus is None else "",
        train_record=str(ModelArtifacts(folder / "model").record),
    )


def train_contrastive(
    arguments: argparse.Namespace,
    corpus: Path,
    folder: Path,
    cell: dict[str, str],
    seed: int,
) -> None:
    """Train a cell on pairs of positives."""
    chosen: dict[str, Any] = {"positives": cell["positives"]}
    if cell["method"] == "moco":
        chosen["momentum"] = arguments.momentum
    if cell["positives"] == "ssps":
        chosen["n_ssps_epochs"] = arguments.n_ssps_epochs
        chosen["ssps_clusters"] = arguments.ssps_clusters
    if cell["positives"] == "oracle":
        chosen["oracle"] = str(corpus / "oracle.csv")
    cells.train(
        arguments,
        corpus,
        folder,
        "train_contrastive",
        LEAF[cell["encoder"]],
        train_annotation=str(corpus / "train.csv"),
        method=cell["method"],
        # Alike in all cells: each of five kinds as likely.
        augment={"probabilities": [1, 1, 1, 1, 1], "reverb_prob": 0.0},
        n_keys=arguments.n_keys,
        crop=arguments.crop,
        batch_size=arguments.batch_size,
        n_epochs=arguments.n_epochs,
        # As in WavLM's YAML: the rates are the same in all cells.
        n_averaged_epochs=1,
        lr=arguments.lr,
        seed=seed,
        **model_of(arguments, cell),
        **chosen,
    )


def train_classes(
    arguments: argparse.Namespace,
    corpus: Path,
    folder: Path,
    cell: dict[str, str],
    seed: int,
) -> None:
    """Train a cell on pseudo-labels, as long as the contrastive ones."""
    cells.train(
        arguments,
        corpus,
        folder,
        "train_speaker",
        "train_speaker_ecapa.yaml",
        train_annotation=arguments.labels,
        augment={"probabilities": [1, 1, 1, 1, 1], "reverb_prob": 0.0},
        crop=arguments.crop,
        batch_size=arguments.batch_size,
        n_epochs=arguments.n_epochs,
        lr=arguments.lr,
        n_warmup_epochs=min(2, arguments.n_epochs - 1),
        seed=seed,
        **model_of(arguments, cell),
    )


def statistics_of(
    arguments: argparse.Namespace, cell: dict[str, str], folder: Path
) -> dict[str, Any]:
    """Return error rates and the last epoch's statistics."""
    found = cells.error_rates(folder)
    trained = ModelArtifacts(folder / "model")
    last = pd.read_csv(trained.curve).iloc[-1]
    if cell["positives"] != CLASSES:
        for name in ("loss", "alignment", "uniformity"):
            found[name] = round(float(last[name]), 4)
    if cell["encoder"] == "tuned":
        # Relative norms of the changes; the paper plots them by layer.
        found |= distances_of(arguments, cell, trained)
    return found


def distances_of(
    arguments: argparse.Namespace,
    cell: dict[str, str],
    trained: ModelArtifacts,
) -> dict[str, float]:
    """Return each layer's distance from its weights before the training."""
    if trained.layer_distances.exists():
        last = pd.read_csv(trained.layer_distances).iloc[-1]
        moved = {str(key): float(value) for key, value in last.items()}
    elif arguments.wavlm.get("encoder_source") is None:
        return {}  # Random weights at the start: nothing says which.
    else:
        options = model_of(arguments, cell)
        begun = build_embedder(options["embedder_yaml"], options["embedder"])
        distances = of_embedder(begun.model)
        load_weights(begun, trained.embedder)
        moved = {} if distances is None else distances()
    return {
        key: round(value, 5)
        for key, value in moved.items()
        if key not in ("epoch", FRONT)
    }


def study(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the cells; return a row for each."""
    corpus = cells.make_corpus(arguments)
    rows = []
    for name in arguments.cells:
        found, caveats = [], set()
        for seed in arguments.seeds:
            folder = arguments.output_folder / (
                f"{name.lower().replace(' ', '_')}-{seed}"
            )
            do_cell(arguments, corpus, folder, name, seed)
            found.append(statistics_of(arguments, all_cells()[name], folder))
            caveats |= {r.system.caveat for r in cells.results_of(folder)}
        row = {**all_cells()[name], **cells.mean_of(found)}
        rows.append({**row, "caveat": "; ".join(caveats), "seeds": found})
        cells.show(rows[-1])
    return rows


def compare(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare any two cells, on each list and for each seed."""
    corpus = CorpusArtifacts(cells.make_corpus(arguments))
    names = [name.lower().replace(" ", "_") for name in arguments.cells]
    found = []
    for seed in arguments.seeds:
        for first, other in itertools.combinations(names, 2):
            found += cells.compare(
                corpus,
                arguments.output_folder / f"{first}-{seed}",
                arguments.output_folder / f"{other}-{seed}",
                seed,
            )
    return found


def plot(rows: Sequence[dict[str, Any]]) -> Figure:
    """Plot error rates, alignment and uniformity, and layer distances."""
    table = pd.DataFrame(rows)
    lists = [str(name) for name in table if str(name).startswith("eer ")]
    has_distances = any(str(name).startswith("layer_") for name in table)
    n_panels = len(lists) + 1 + has_distances
    n_rows = -(-n_panels // N_COLUMNS)
    size = (4.2 * N_COLUMNS, 4.2 * n_rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(n_rows, N_COLUMNS, squeeze=False).ravel()
    for unused in panels[n_panels:]:
        unused.remove()
    panels = panels[:n_panels]
    for axes, name in zip(panels, lists, strict=False):
        plot_rates(axes, table, name)
    plot_spheres(panels[len(lists)], table)
    if has_distances:
        plot_distances(panels[-1], table)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=max(len(labels), 1),
        frameon=False,
        title="positives",
    )
    return figure


def plot_rates(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """Plot a list's EER of each model, a colour for each kind of positives."""
    models = [model_name(row) for _, row in table.iterrows()]
    names = list(dict.fromkeys(models))
    kinds = kinds_of(table)
    width = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        chosen = table.positives == kind
        at = [names.index(model) for model in np.array(models)[chosen]]
        places = np.array(at) + number * width
        values = table.loc[chosen, name]
        axes.bar(places, values, width, color=COLOURS[kind], label=kind)
    middle = np.arange(len(names)) + width * (len(kinds) - 1) / 2
    axes.set_xticks(middle, names, rotation=45, ha="right")
    axes.set_title(name.removeprefix("eer "))
    axes.set_ylabel("EER (%), lower is better")
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)


def plot_spheres(axes: Axes, table: pd.DataFrame) -> None:
    """Plot alignment and uniformity of each contrastive cell."""
    for _, row in table[table.positives != CLASSES].iterrows():
        colour, marker = COLOURS[row.positives], MARKERS[row.encoder]
        axes.plot(row.uniformity, row.alignment, marker, color=colour)
    axes.set_xlabel("uniformity, lower is better")
    axes.set_ylabel("alignment, lower is better")
    axes.set_title("last epoch; circle tuned, square frozen")
    axes.grid(color="0.9")


def plot_distances(axes: Axes, table: pd.DataFrame) -> None:
    """Plot how far each layer of the tuned encoders moved."""
    layers = [name for name in table if str(name).startswith("layer_")]
    for _, row in table[table.encoder == "tuned"].iterrows():
        values = 100 * row[layers].astype(float)
        axes.plot(
            range(1, len(layers) + 1),
            values,
            ".-",
            color=COLOURS[row.positives],
        )
    axes.set_xticks(range(1, len(layers) + 1))
    axes.set_xlabel("transformer layer")
    axes.set_ylabel("distance from its start (% of its norm)")
    axes.set_title("tuned encoders")
    axes.grid(color="0.9")


def kinds_of(table: pd.DataFrame) -> list[str]:
    """Return the kinds of positives in a table, in their usual order."""
    return [kind for kind in COLOURS if kind in set(table.positives)]


def model_name(row: pd.Series) -> str:
    """Return the name of a row's model for the plot."""
    if row["encoder"] == "none":
        return f"ECAPA, {row['method']}"
    return f"{row['encoder']} encoder, {row['back-end']}"


def main(argv: list[str] | None = None) -> None:
    """Run every cell, then write the table."""
    arguments = parse(argv)
    unknown = set(arguments.cells) - set(all_cells())
    if unknown:
        raise InputError(
            f"cells {sorted(unknown)} are not of {list(all_cells())}; correct "
            "--cells"
        )
    if arguments.labels is None and any(
        name.endswith(CLASSES) for name in arguments.cells
    ):
        raise InputError(
            f"--cells has {CLASSES} and --labels is not given; give the "
            "pseudo_labels.csv of a clustering of the corpus"
        )
    rows = study(arguments)
    what = "contrastive training by encoder, back-end and positives"
    cells.write(arguments, what, rows, plot(rows), compare(arguments))


if __name__ == "__main__":
    run(main)
