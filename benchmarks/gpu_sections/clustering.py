"""Section G: k-means, Ward's tree, AS-norm and the bootstrap at full size."""

from __future__ import annotations

import argparse
import time
from functools import partial

import faiss
import numpy as np
import torch
from tqdm import tqdm

from benchmarks import scoring
from benchmarks.gpu_sections.common import Items, Options, Row
from speechbrain_ext.clustering import cut_tree, kmeans, ward_tree
from speechbrain_ext.clustering.assignment import (
    assign_approximately,
    assign_exactly,
)
from speechbrain_ext.clustering.cluster_rows import ClusterRows
from speechbrain_ext.utils.vectors import unit_rows

N_ITERATIONS = 25  # of the paper's plan
N_TIMED = 2


def items(options: Options) -> Items:
    """Yield the assignments, k-means, the tree and scoring."""
    yield "assignment, torch beside faiss", partial(assignment, options)
    yield "k-means", partial(k_means, options)
    yield "Ward tree", partial(ward, options)
    yield "AS-norm, EER and bootstrap", partial(scores, options)


def draw(n_rows: int, dimension: int = 256) -> np.ndarray:
    """Draw unit vectors of a thousandth as many groups, at least ten."""
    generator = np.random.default_rng(0)
    n_groups = max(n_rows // 180, 10)
    centres = generator.normal(size=(n_groups, dimension)).astype(np.float32)
    x = generator.normal(size=(n_rows, dimension)).astype(np.float32)
    return unit_rows(x + centres[np.arange(n_rows) % n_groups])


def assignment(options: Options) -> Row:
    """Time one assignment by torch on the device and faiss on the CPU."""
    n_rows, n_centroids = options.pick(
        (20_000, 20_000), (10_000, 2000), (500, 50)
    )
    x = draw(n_rows)
    rows = ClusterRows(x, options.device)
    there = rows.take(np.arange(n_centroids))
    centroids = x[:n_centroids]

    def by_faiss() -> np.ndarray:
        return faiss.knn(x, centroids, 1)[1][:, 0]

    with tqdm(disable=True) as bar:
        ways = {
            "torch": partial(assign_exactly, rows, there, bar),
            "faiss": by_faiss,
            "approximate": partial(assign_approximately, rows, there, bar),
        }
        row: Row = {"n": n_rows, "n_centroids": n_centroids}
        costs = {}
        for _ in range(2):
            for name, way in ways.items():
                start = time.perf_counter()
                labels = torch.as_tensor(way()).to(options.device)
                costs[name] = float(rows.square_distances(there, labels).sum())
                row[f"{name}_seconds"] = time.perf_counter() - start
    row["faiss_over_torch"] = row["faiss_seconds"] / row["torch_seconds"]
    row["cost_over_faiss"] = costs["torch"] / costs["faiss"]
    row["approximate_cost_over_faiss"] = costs["approximate"] / costs["faiss"]
    row["ok"] = abs(row["cost_over_faiss"] - 1) < 1e-3
    return row


def k_means(options: Options) -> Row:
    """Time some iterations; the plan's 25 are extrapolated from them."""
    n_rows, n_centroids = options.pick(
        (1_092_009, 50_000), (20_000, 500), (500, 20)
    )
    x = draw(n_rows)
    start = time.perf_counter()
    found = kmeans(
        x, n_centroids, 0, n_iterations=N_TIMED, device=options.device
    )
    seconds = time.perf_counter() - start
    return {
        "n": n_rows,
        "n_centroids": n_centroids,
        "iterations": N_TIMED,
        "seconds": seconds,
        "seconds_of_25_extrapolated": seconds * N_ITERATIONS / N_TIMED,
        "inertia": found.inertia,
    }


def ward(options: Options) -> Row:
    """Time Ward's tree."""
    x = draw(options.pick(50_000, 2000, 200))
    start = time.perf_counter()
    tree = ward_tree(x, device=options.device)
    seconds = time.perf_counter() - start
    n_clusters = len(x) // 7
    found = len(np.unique(cut_tree(tree, n_clusters)))
    return {"n": len(x), "seconds": seconds, "ok": found == n_clusters}


def scores(options: Options) -> Row:
    """Time scoring as its own benchmark does."""
    names = ("n_trials", "n_utterances", "dimension", "n_cohort", "top_k")
    values = options.pick(
        (600_000, 150_000, 256, 6000, 300),
        (20_000, 4000, 64, 200, 50),
        (1000, 1500, 16, 40, 10),
    )
    arguments = argparse.Namespace(**dict(zip(names, values, strict=True)))
    return scoring.ours(arguments)
