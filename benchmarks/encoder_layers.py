"""Error rate of each layer of an encoder beside the criterion without labels.

embed_pretrained chooses a layer by two crops of each utterance. Here every
layer, and every pair of neighbours, makes the embedding in its way, and trial
lists and true speakers tell afterwards what the choice was worth. To run it,
after embed_pretrained of the same encoder on the same corpus:

> PYTHONPATH=. python benchmarks/encoder_layers.py --corpus=exp/minivox/corpus \
      --encoder=FOLDER --choice=exp/minivox_whisper/bootstrap/model/layers.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks import cells
from speechbrain_ext.clustering.label_metrics import truth_statistics
from speechbrain_ext.clustering.ward import cut_tree, ward_tree
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.dataio.trials import read_trial_file
from speechbrain_ext.models.embedder import WaveEmbedder
from speechbrain_ext.models.extraction import embed_manifest
from speechbrain_ext.models.layer_means import (
    LayerMeans,
    RawStatistics,
    fit_layer_means_,
)
from speechbrain_ext.models.speech_encoder import RawWaveform, SpeechEncoder
from speechbrain_ext.utils.files import read_json
from speechbrain_ext.utils.plotting import whole_numbers
from speechbrain_ext.utils.vectors import unit_rows
from speechbrain_ext.verification.metrics import equal_error_rate


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="prepared corpus")
    parser.add_argument(
        "--encoder", required=True, help="source of the encoder"
    )
    parser.add_argument("--choice", help="layers.csv of embed_pretrained")
    parser.add_argument("--whiten", type=float, default=0.5)
    parser.add_argument("--n_clusters", type=int, default=300)
    parser.add_argument(
        "--output", default="results/benchmarks/encoder_layers.json"
    )
    return parser.parse_args(argv)


def manifest_of(corpus: Path, name: str) -> Manifest:
    """Read a manifest of a prepared corpus."""
    root = read_json(corpus / "stage.json").get("data_root", str(corpus))
    return read_manifest(corpus / name, "utterances", root)


def embeddings(
    found: np.ndarray, pooling: LayerMeans, n_layers: int
) -> np.ndarray:
    """Pool statistics of all layers as a fitted pooling would; unit rows."""
    states = found[:, 1:].reshape(len(found), n_layers, -1)
    x = states[:, pooling.layers].reshape(len(found), -1)
    n_frames = torch.from_numpy(found[:, 0])
    with torch.no_grad():
        vectors = pooling.of_statistics(torch.from_numpy(x), n_frames)
    return unit_rows(vectors.numpy())


def fitted(
    found: np.ndarray, layers: list[int], n_layers: int, power: float
) -> LayerMeans:
    """Fit the pooling of some layers to training utterances."""
    states = found[:, 1:].reshape(len(found), n_layers, -1)
    pooling = LayerMeans(n_layers, states.shape[2], layers)
    x = np.ascontiguousarray(states[:, layers].reshape(len(found), -1))
    fit_layer_means_(pooling, found[:, 0], x, power)
    return pooling


def error_rate(x: np.ndarray, manifest: Manifest, path: Path) -> float:
    """Return the EER, in percent, of cosines on a trial list."""
    trials = read_trial_file(path.stem, path)
    rows = trials.of_sides(manifest.rows_of(trials.names))
    scores = np.einsum("nd,nd->n", x[rows[0]], x[rows[1]])
    return round(100 * equal_error_rate(scores, trials.labels)[0], 2)


def study(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure each layer and each two neighbours."""
    corpus = Path(arguments.corpus)
    encoder = SpeechEncoder(arguments.encoder, freeze="all")
    raw = RawWaveform()
    embedder = WaveEmbedder(raw, raw, RawStatistics(encoder)).eval()
    parts = {
        name: manifest_of(corpus, f"{name}.csv") for name in ("train", "test")
    }
    found = {n: embed_manifest(embedder, m, n) for n, m in parts.items()}
    speakers = true_speakers(str(corpus / "oracle.csv"), parts["train"])
    choice = pd.DataFrame()
    if arguments.choice:
        choice = pd.read_csv(arguments.choice).set_index("layer")
    n_layers, rows = encoder.n_layers, []
    sets = [[layer] for layer in range(n_layers)]
    sets += [[layer, layer + 1] for layer in range(n_layers - 1)]
    for layers in sets:
        pooling = fitted(found["train"], layers, n_layers, arguments.whiten)
        x = {n: embeddings(f, pooling, n_layers) for n, f in found.items()}
        labels = cut_tree(ward_tree(x["train"]), arguments.n_clusters)
        row: dict[str, Any] = {"layers": layers}
        if len(layers) == 1 and len(choice):
            row["eer of crop pairs"] = round(choice.eer[layers[0]], 2)
        for path in sorted((corpus / "trials").glob("*.txt")):
            rate = error_rate(x["test"], parts["test"], path)
            row[f"eer {path.stem}"] = rate
        row["nmi"] = round(truth_statistics(labels, speakers)["nmi"], 4)
        rows.append(row)
        cells.show(row)
    return rows


def plot(rows: list[dict[str, Any]]) -> Figure:
    """Plot the criterion and the error rates of single layers."""
    single = pd.DataFrame([row for row in rows if len(row["layers"]) == 1])
    layers = [row[0] for row in single.layers]
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for name in single:
        if str(name).startswith("eer "):
            without = name == "eer of crop pairs"
            label = "crop pairs (no labels)" if without else name[4:]
            style = "k--" if without else "-"
            axes.plot(layers, single[name], style, marker="o", label=label)
    axes.set_xlabel("layer (0: input of the first)")
    axes.set_ylabel("EER (%), lower is better")
    axes.xaxis.set_major_locator(whole_numbers())
    axes.grid(axis="y", color="0.9")
    axes.legend(frameon=False)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Measure all layers and write the table and its plot."""
    arguments = parse(argv)
    rows = study(arguments)
    what = "error rate of each layer of a pre-trained encoder, untrained"
    cells.write(arguments, what, rows, plot(rows))


if __name__ == "__main__":
    run(main)
