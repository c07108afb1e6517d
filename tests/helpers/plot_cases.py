"""Plots of all kinds, and what they are drawn from."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from speechbrain_ext.clustering.plots import (
    churn_by_round,
    cluster_number,
    cluster_sizes,
    embedding_map,
)
from speechbrain_ext.training.plots import (
    contrastive_diagnostics,
    dino_diagnostics,
    gate_fits,
    gate_shares,
    layer_choice,
    layer_distances,
    training_curves,
)
from speechbrain_ext.verification.plots import (
    bayes_errors,
    det,
    eer_by_round,
    score_histograms,
)
from speechbrain_ext.verification.records import Estimate
from speechbrain_ext.verification.results import (
    SystemFacts,
    TrialFacts,
    read_yardsticks,
)


def trials(n_trials=2000, distance=1.5, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n_trials)
    return generator.normal(size=n_trials) + distance * labels, labels


def result(system, eer, trials="dev", backend=""):
    return SimpleNamespace(
        system=SystemFacts(system, backend=backend),
        trials=TrialFacts(trials, "MiniVox", "0", 2, 2),
        eer=Estimate(eer, eer - 1, eer + 1),
    )


def yardstick(system, eer):
    return SimpleNamespace(system=system, eer=eer)


def gate_history(n_epochs):
    """Entries of a gate: no threshold at first, then new and kept ones."""
    generator = np.random.default_rng(0)
    entries = []
    for epoch in range(1, n_epochs + 1):
        counts, edges = np.histogram(generator.normal(size=200), bins=20)
        pair = {"weights": (0.8, 0.2), "means": (-1, 1), "stds": (1, 0.5)}
        entries.append(
            {
                "epoch": epoch,
                "scale": "log loss",
                "counts": counts.tolist(),
                "edges": [edges[0], edges[-1]],
                "mixture": None if epoch == 2 else pair,
                "threshold": None if epoch == 1 else 0.5,
                "is_new": epoch % 3 == 0,
                "kept": 1 - 0.02 * epoch,
                "corrected": 0.01 * epoch,
            }
        )
    return entries


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def distances(n_epochs, n_layers):
    """As layer_distances.csv: middle layers move most."""
    rows = [
        {"epoch": epoch, "front": 0.0}
        | {
            f"layer_{layer}": epoch * layer * (n_layers + 1 - layer) / 1e3
            for layer in range(1, n_layers + 1)
        }
        for epoch in range(1, n_epochs + 1)
    ]
    return pd.DataFrame(rows)


def criteria(n_layers):
    """Rows of the table layers.csv that embed_pretrained writes."""
    layer = np.arange(n_layers)
    eer = 20 + (layer - n_layers / 3) ** 2 / 9
    columns = {"layer": layer, "eer": eer, "eer_clean": eer / 2}
    return pd.DataFrame({**columns, "agreement": 1 / eer})


def diagnostics(names, n_epochs=20):
    """A curve of some statistics, and a band for one."""
    epochs = np.arange(1, n_epochs + 1)
    curve = pd.DataFrame(
        {"epoch": epochs, **dict.fromkeys(names, 3.0 / epochs)}
    )
    return curve, {"effective_rank": (2 / epochs, 4 / epochs)}


def dino_health(n_epochs=20):
    names = "loss kl entropy information prototypes center_norm".split()
    names += ["spread", "effective_rank"]
    curve, bands = diagnostics(names, n_epochs)
    return dino_diagnostics(curve, 7.6, bands)


def contrastive_health():
    names = "loss alignment uniformity spread effective_rank".split()
    return contrastive_diagnostics(*diagnostics(names))


FIGURES = {
    "health of DINO": dino_health,
    "health after one epoch": lambda: dino_health(1),
    "health of SimCLR": contrastive_health,
    "eer beside the supervised row": lambda: eer_by_round(
        [result("DINO", 21), result("+ joined with the bootstrap", 18)],
        supervised=result("topline + large margin", 16),
    ),
    "det beside the supervised row": lambda: det(
        {"DINO": trials(), "topline": trials(distance=2)}, "topline"
    ),
    "eer": lambda: eer_by_round(
        [result("DINO", 21), result("round 2 + large-margin tuning", 18)],
        [yardstick("first supervised ECAPA-TDNN, true labels", 15.8)],
    ),
    "eer of lists": lambda: eer_by_round(
        [result(s, e, t) for s, e in (("a", 3), ("b", 2)) for t in "OEH"]
    ),
    "det": lambda: det({"DINO": trials(), "round 1": trials(distance=2)}),
    "det of few": lambda: det({"DINO": trials(12)}),
    "det of perfect": lambda: det({"DINO": (np.arange(8), np.arange(8) > 3)}),
    "det of chance": lambda: det({"DINO": (np.zeros(8), np.arange(8) % 2)}),
    # The names once ran off both sides of the picture.
    "EER beside long names": lambda: eer_by_round(
        [result("DINO", 22), result("round 1", 18)],
        read_yardsticks("results/yardsticks.json")[:5],
    ),
    "EER of back-ends": lambda: eer_by_round(
        [
            result(s, e, "O", b)
            for s, e in (("DINO", 3), ("round 1", 2))
            for b in ("raw", "as-norm", "as-norm+qmf")
        ]
    ),
    "histogram": lambda: score_histograms({"DINO": trials()}),
    "calibration": lambda: bayes_errors(
        {name: trials(seed=n) for n, name in enumerate("abc")}
    ),
    "calibration of few": lambda: bayes_errors({"DINO": trials(12)}),
    "map": lambda: embedding_map(
        np.random.default_rng(0).normal(size=(200, 2)),
        {"cluster": np.arange(200) % 30, "speaker": np.arange(200) % 3},
    ),
    "clusters": lambda: cluster_sizes({"DINO": [300, 20, 1], "1": [9, 9]}),
    "number of clusters": lambda: cluster_number(
        np.geomspace(500, 25_000, 80).astype(int),
        {name: np.sin(np.arange(80) / 20) for name in "abcd"},
        {"a": 7000, "b": None, "c": 500, "d": 24_000},
        7000,
    ),
    "number of few clusters": lambda: cluster_number(
        [2, 3, 4, 5], {"gap": [1, 2, 3, 2]}, {"gap": 4}, 4
    ),
    "churn": lambda: churn_by_round(
        {f"round{n}": 0.4 / n for n in range(1, 7)}, "round5"
    ),
    "churn of one": lambda: churn_by_round({"round1": 0.0}),
    "training": lambda: training_curves(
        {f"stage {n}": [(1, 8.0), (2, 5.0), (3, 4.0)] for n in range(5)}
    ),
    "gate": lambda: gate_fits(gate_history(5)),
    "gate of many epochs": lambda: gate_fits(gate_history(40)),
    "gate by epoch": lambda: gate_shares(gate_history(5)),
    "gate by epoch, of one": lambda: gate_shares(gate_history(1)),
    "choice of the layer": lambda: layer_choice(criteria(25)),
    "choice of one layer": lambda: layer_choice(criteria(1)),
    "layers": lambda: layer_distances(distances(30, 24)),
    "layers of one epoch": lambda: layer_distances(distances(1, 2)),
    "training of one epoch": lambda: training_curves({"DINO": [(1, 8.0)]}),
}
