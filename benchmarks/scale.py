"""Time, memory and disk of each stage that handles rows, up to 10^8 of them.

Synthetic rows, with features instead of audio: the manifest is written, read,
read again and looked up, embeddings are joined with it, clustered, labelled and
compared with the round before, a cohort is drawn and trials are normalised.
Each stage runs at each size in a process of its own, whose memory is watched.
Seconds are those of a processor, which other work beside does not change.
From the largest two sizes follows the growth, a power of the rows, and from it
a table of 10^6, 10^7 and 10^8 rows; what was extrapolated says so. Rows of an
earlier run in the output stay, unless they are measured again. To run it:

> python benchmarks/scale.py
> python benchmarks/scale.py --sizes 10000000 --only manifest_read churn
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measuring import machine, peak_mb
from speechbrain_ext.clustering.churn import (
    churn_statistics,
    previous_clusters,
)
from speechbrain_ext.clustering.cleaning import reasons_to_drop
from speechbrain_ext.clustering.cluster_rows import cluster_means
from speechbrain_ext.clustering.k_means import kmeans
from speechbrain_ext.clustering.label_files import write_labels
from speechbrain_ext.clustering.label_metrics import fit
from speechbrain_ext.clustering.ward import cut_tree, ward_tree
from speechbrain_ext.dataio.embedding_files import read_embeddings, rows_for
from speechbrain_ext.dataio.manifest import (
    Manifest,
    read_manifest,
    write_manifest,
)
from speechbrain_ext.experiment.stage_records import is_finished, write_record
from speechbrain_ext.utils.files import read_json, write_json
from speechbrain_ext.utils.vectors import (
    large_array,
    row_blocks,
    taken,
    unit_rows,
)
from speechbrain_ext.verification.cohort import read_cohort
from speechbrain_ext.verification.cosine import read_trials
from speechbrain_ext.verification.score_norm import as_norm

SEED = 1986
FAR = (10**6, 10**7, 10**8)
# Chosen so that the work of a row is small, and constant.
N_CENTROIDS = 64
N_ITERATIONS = 4
N_TREE = 2000  # centroids of Ward's tree, however many rows there are
N_COHORT = 2000
TOP_K = 300
N_LOOKUPS = 5000
ROWS_A_TRIAL_VOICE = 10
_BLOCK = 2**17
REQUEST = {"recipe": "scale", "inputs": {}, "hparams": {}}


def ids_of(rows: np.ndarray) -> list[str]:
    """Return the names of some utterances, as long as VoxCeleb's."""
    return [f"id{r // 60:07d}/s{r // 10:08d}/{r:09d}.wav" for r in rows]


def table_blocks(n_rows: int) -> Iterator[pd.DataFrame]:
    """Yield the rows of a manifest."""
    for first in range(0, n_rows, _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, n_rows))
        names = ids_of(rows)
        stop = 16000 * (2 + rows % 7)
        yield pd.DataFrame(
            {
                "ID": names,
                "duration": stop / 16000,
                "wav": [f"$data_root/{name}" for name in names],
                "start": 0,
                "stop": stop,
            }
        )


def index_blocks(n_rows: int) -> Iterator[pd.DataFrame]:
    """Yield the index of embeddings."""
    for first in range(0, n_rows, _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, n_rows))
        yield pd.DataFrame({"ID": ids_of(rows), "row": rows})


def write_vectors(folder: Path, n_rows: int, size: int) -> None:
    """Write embeddings [N, D]: noise about the centres of many speakers."""
    whole = np.lib.format.open_memmap(
        folder / "embeddings.npy", "w+", np.float32, (n_rows, size)
    )
    centres = np.random.default_rng(SEED).normal(size=(N_CENTROIDS, size))
    for part in row_blocks(n_rows, size):
        generator = np.random.default_rng([SEED, part.start])
        count = len(whole[part])
        noise = generator.standard_normal((count, size), np.float32)
        speaker = generator.integers(0, N_CENTROIDS, count)
        whole[part] = noise + 2 * centres[speaker]
    whole.flush()


class Cell:
    """Stage at one size: what it reads, and what is timed.

    Arguments
    ---------
    folder : pathlib.Path
        Files of this size.
    n_rows : int
        The size.
    size : int
        Dimension of the embeddings.
    """

    def __init__(self, folder: Path, n_rows: int, size: int):
        self.folder, self.n_rows, self.size = folder, n_rows, size
        self.train = folder / "train.csv"

    def manifest(self) -> Manifest:
        """Return the manifest, written first where it is not there."""
        if not self.train.exists():
            self.manifest_write()
        return read_manifest(self.train, "utterances", "/data")

    def embeddings(self) -> tuple[np.ndarray, Manifest]:
        """Return embeddings and index, made first where they are not there."""
        if not (self.folder / "embeddings.csv").exists():
            write_vectors(self.folder, self.n_rows, self.size)
            rows = index_blocks(self.n_rows)
            write_manifest(self.folder / "embeddings.csv", rows, "embeddings")
        return read_embeddings(self.folder)

    def labels(self) -> np.ndarray:
        """Return labels [N] of N_CENTROIDS clusters."""
        labels = large_array(self.n_rows, np.int64)
        for part in row_blocks(self.n_rows):
            generator = np.random.default_rng([SEED, part.start])
            count = part.stop - part.start
            labels[part] = generator.integers(0, N_CENTROIDS, count)
        labels[:N_CENTROIDS] = np.arange(N_CENTROIDS)
        return labels

    def manifest_write(self) -> None:
        """Write and check a manifest."""
        write_manifest(self.train, table_blocks(self.n_rows), "utterances")

    def manifest_read(self) -> None:
        """Read and check a manifest for the first time."""
        shutil.rmtree(self.folder / ".train.csv.columns", ignore_errors=True)
        read_manifest(self.train, "utterances", "/data")

    def manifest_reread(self) -> None:
        """Read a manifest again, as each later command does."""
        read_manifest(self.train, "utterances", "/data")

    def row_access(self) -> dict[str, float]:
        """Look up utterances, by their name and by their row."""
        manifest = self.manifest()
        rows = np.random.default_rng(SEED).integers(0, self.n_rows, N_LOOKUPS)
        names = ids_of(rows)
        assert manifest[names[0]] == manifest.entry(rows[0])
        begun = time.process_time()
        for name in names:
            manifest[name]
        by_name = time.process_time()
        for row in rows:
            manifest.entry(row)
        by_row = time.process_time()
        return {
            "seconds": by_name - begun,
            "microseconds_by_name": (by_name - begun) / N_LOOKUPS * 1e6,
            "microseconds_by_row": (by_row - by_name) / N_LOOKUPS * 1e6,
        }

    def embeddings_join(self) -> None:
        """Open embeddings and find the rows of all training utterances."""
        vectors, index = read_embeddings(self.folder)
        rows_for(index, self.manifest().ids, self.folder)

    def k_means(self) -> None:
        """Scale embeddings to length one and cluster them."""
        vectors, _ = self.embeddings()
        x = unit_rows(vectors)
        kmeans(x, N_CENTROIDS, SEED, N_ITERATIONS)

    def ward(self) -> None:
        """Build Ward's tree of as many centroids, and cut it."""
        x = np.random.default_rng(SEED).normal(size=(N_TREE, self.size))
        cut_tree(ward_tree(x.astype(np.float32)), N_TREE // 10)

    def label_making(self) -> None:
        """Measure, clean and write pseudo-labels."""
        vectors, _ = self.embeddings()
        x, labels = unit_rows(vectors), self.labels()
        found = fit(x, labels, cluster_means(x, labels, N_CENTROIDS))
        reason = reasons_to_drop(labels, found.margin, 2)
        write_labels(self.folder, self.manifest(), labels, found, reason)

    def churn(self) -> None:
        """Compare labels with those of the round before."""
        previous = previous_clusters(
            self.folder / "pseudo_labels.csv", self.manifest()
        )
        labels = self.labels()
        labels[::10] = (labels[::10] + 1) % N_CENTROIDS
        churn_statistics(taken(labels, previous[0]), previous[1])

    def cohort(self) -> None:
        """Draw utterances as a cohort."""
        read_cohort(self.folder, None, "utterances", N_COHORT, seed=SEED)

    def as_norm(self) -> None:
        """Read a list of as many trials, and score it with AS-norm."""
        trials = read_trials(self.folder / "trials.txt")
        vectors, index = read_embeddings(self.folder)
        cohort = read_cohort(
            self.folder, None, "utterances", N_COHORT, seed=SEED
        )
        rows = rows_for(index, trials.names, self.folder)
        sides = trials.of_sides(rows)
        as_norm(vectors, cohort.vectors, *sides, top_k=TOP_K)

    def restart(self) -> None:
        """Ask whether the stage that wrote the embeddings is done."""
        assert is_finished(self.folder, REQUEST)

    def prepare(self, stage: str) -> None:
        """Write what a stage reads."""
        if stage == "manifest_read" and not self.train.exists():
            self.manifest_write()
        if stage.startswith(("manifest_rer", "row", "label", "churn")):
            self.manifest()
        if stage in ("embeddings_join", "k_means", "label_making", "as_norm"):
            self.embeddings()
        if stage == "embeddings_join":
            self.manifest()
        if stage in ("cohort", "restart"):
            self.embeddings()
        if (
            stage == "churn"
            and not (self.folder / "pseudo_labels.csv").exists()
        ):
            self.label_making()
        if stage == "as_norm":
            self.write_trials()
        if stage == "restart":
            write_json(self.folder / "request.json", REQUEST)
            names = ["embeddings.npy", "embeddings.csv"]
            write_record(self.folder, REQUEST, names, 1.0, {})

    def write_trials(self) -> None:
        """Write as many trials, of a tenth as many utterances."""
        n_voices = max(self.n_rows // ROWS_A_TRIAL_VOICE, 100)
        with open(self.folder / "trials.txt", "w") as stream:
            for first in range(0, self.n_rows, _BLOCK):
                rows = np.arange(first, min(first + _BLOCK, self.n_rows))
                # Each pair is there once: the distance grows with the turn.
                enrol = rows % n_voices
                test = (enrol + 1 + rows // n_voices) % n_voices
                pairs = zip(ids_of(enrol), ids_of(test), rows % 2, strict=True)
                stream.writelines(f"{k} {a} {b}\n" for a, b, k in pairs)


STAGES = (
    "manifest_write",
    "manifest_read",
    "manifest_reread",
    "row_access",
    "embeddings_join",
    "k_means",
    "ward",
    "label_making",
    "churn",
    "cohort",
    "as_norm",
    "restart",
)


class Watch:
    """Watch of a process's private memory, which mapped files are not.

    Example
    -------
    >>> with Watch() as watch:
    ...     pass
    >>> watch.peak_mb > 1
    True
    """

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text().splitlines()
            line = next(li for li in status if li.startswith("RssAnon"))
            self.peak_mb = max(self.peak_mb, int(line.split()[1]) / 1024)
            if self._done.wait(0.01):
                return

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fork, which has imported all and done nothing."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def prepare(stage: str, folder: Path, n_rows: int, size: int) -> None:
    """Write what a stage reads at one size."""
    Cell(folder, n_rows, size).prepare(stage)


def measure(
    stage: str, folder: Path, n_rows: int, size: int
) -> dict[str, float]:
    """Time a stage at one size, and watch the memory of this process."""
    cell = Cell(folder, n_rows, size)
    with Watch() as watch:
        begun, worked = time.perf_counter(), time.process_time()
        extra = getattr(cell, stage)() or {}
        cpu_seconds = time.process_time() - worked
        seconds = time.perf_counter() - begun
    found = {
        "seconds": cpu_seconds,
        "wall_seconds": seconds,
        "private_mb": watch.peak_mb,
        "resident_mb": peak_mb(),
        **extra,
    }
    return {name: round(value, 4) for name, value in found.items()}


def files_mb(folder: Path) -> float:
    """Return the size of a folder's files in MB."""
    sizes = (p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return sum(sizes) / 2**20


def growth(cells: dict[int, dict[str, float]], key: str) -> float | None:
    """Return the power of the rows by which a value of cells grows.

    Of the largest two sizes, as the smallest measure what is constant.

    Example
    -------
    >>> growth({10: {"seconds": 1.0}, 100: {"seconds": 10.0}}, "seconds")
    1.0
    """
    if len(cells) < 2:
        return None
    few, many = sorted(cells)[-2:]
    ratio = max(cells[many][key], 1e-4) / max(cells[few][key], 1e-4)
    return round(math.log(ratio) / math.log(many / few), 3)


def far_row(cells: dict[int, dict[str, float]], n_rows: int) -> dict[str, Any]:
    """Return time, memory and disk at a size, measured or extrapolated.

    Time follows the growth, and grows with the rows at least; memory and disk
    follow the line through the largest two sizes.
    """
    if n_rows in cells:
        return {**cells[n_rows], "measured": True}
    most = max(cells)
    power = max(growth(cells, "seconds") or 1.0, 1.0)
    row: dict[str, Any] = {
        "seconds": round(cells[most]["seconds"] * (n_rows / most) ** power, 4)
    }
    for key in ("private_mb", "disk_mb"):
        slope = 0.0
        if len(cells) > 1:
            few = sorted(cells)[-2]
            slope = (cells[most][key] - cells[few][key]) / (most - few)
        row[key] = round(cells[most][key] + max(slope, 0) * (n_rows - most))
    return {**row, "measured": False}


def summary(cells: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Return the growth of a stage and its table of far sizes."""
    few, many = (sorted(cells)[-2:] * 2)[:2] if len(cells) > 1 else (0, 0)
    more = {}
    if many:
        grown = cells[many]["private_mb"] - cells[few]["private_mb"]
        more["private_bytes_a_row"] = round(grown * 2**20 / (many - few), 1)
    return {
        "largest": max(cells),
        "power_of_rows": growth(cells, "seconds"),
        **more,
        "table": {str(n): far_row(cells, n) for n in FAR if n >= min(cells)},
    }


def report_of(
    cells: dict[str, dict[int, dict[str, float]]], dimension: int
) -> dict[str, Any]:
    """Return the report of what was measured so far."""
    return {
        "kind": "benchmark",
        "what": "stages that handle rows: time, memory and disk",
        "dimension": dimension,
        "n_centroids": N_CENTROIDS,
        "n_cohort": N_COHORT,
        "how": "far sizes that were not measured follow the largest two",
        "cells": {
            stage: {str(n): found[n] for n in sorted(found)}
            for stage, found in cells.items()
        },
        "stages": {stage: summary(found) for stage, found in cells.items()},
        **machine("cpu"),
    }


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse sizes, stages and places."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6]
    )
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--dimension", type=int, default=32)
    parser.add_argument("--scratch", help="folder for the rows; else deleted")
    parser.add_argument("--output", default="results/benchmarks/scale.json")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure each stage at each size, extrapolate, print and write."""
    arguments = parse(argv)
    output = Path(arguments.output)
    old = read_json(output) if output.exists() else {}
    if old.get("dimension") != arguments.dimension:
        old = {}
    cells: dict[str, dict[int, dict[str, float]]] = {
        stage: {int(n): row for n, row in found.items()}
        for stage, found in old.get("cells", {}).items()
    }
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        for n_rows in sorted(arguments.sizes):
            folder = Path(scratch) / str(n_rows)
            folder.mkdir()
            for stage in (s for s in STAGES if s in arguments.only):
                job = (stage, folder, n_rows, arguments.dimension)
                alone(prepare, *job)
                before = files_mb(folder)
                found = alone(measure, *job)
                # What the stage wrote; what was there before it replaced.
                found["disk_mb"] = round(files_mb(folder) - before, 2)
                cells.setdefault(stage, {})[n_rows] = found
                print(f"{stage} {n_rows:,}: {found}", flush=True)
                write_json(output, report_of(cells, arguments.dimension))
            shutil.rmtree(folder)
    print(f"written: {output}")


if __name__ == "__main__":
    main()
