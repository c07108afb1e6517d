"""Settings of the recipe that clusters embeddings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.settings import Settings, setting

_CLUSTERS = "number of clusters"
_CLEANING = "which utterances are kept"
_REPORT = "what is reported"


@dataclasses.dataclass(kw_only=True)
class MakePseudoLabels(Settings):
    """Settings of clustering: k-means, Ward's tree and where to cut it."""

    recipe = "make_pseudo_labels"

    embeddings_folder: str = setting(
        doc="folder with embeddings.npy and embeddings.csv of the training "
        "utterances",
        path=True,
    )
    joined_folder: str | None = setting(
        None,
        "folder of another model's embeddings of these utterances, which are "
        "clustered joined with the first, both of length one; null: none",
        path=True,
    )
    train_annotation: str = setting(
        doc="train.csv, the manifest of the utterances to label", path=True
    )
    n_centroids: int | None = setting(
        50000,
        "number of k-means centroids, which Ward's method then merges; null "
        "runs Ward's method on the utterances themselves",
        low=2,
    )
    whiten: float | None = setting(
        None,
        "exponent of whitening: each principal component is divided by this "
        "power of its standard deviation (0.75 was chosen by looking at "
        "MiniVox); null: no whitening",
        low=0,
        high=1,
    )
    weighted: bool = setting(
        True,
        "true weights each centroid in Ward's tree by its number of "
        "utterances, false weights all alike as in the paper; on synthetic "
        "embeddings (results/benchmarks/clustering.json) true suits an "
        "n_clusters near the true number of speakers, false one well above "
        "it",
    )
    n_iterations: int = setting(
        25, "maximum number of k-means iterations", low=1
    )
    n_restarts: int = setting(
        1, "number of k-means runs, of which the best is kept", low=1
    )
    assignment: Literal["exact", "approximate"] = setting(
        "exact",
        "search for the nearest centroid: exact compares each utterance "
        "with every centroid, on --device; approximate searches an index on "
        "the CPU, which there is faster for many centroids",
    )

    n_clusters: int | Literal["auto"] = setting(
        "auto",
        "number of clusters (pseudo-speakers); auto estimates it from "
        "Ward's tree",
        low=2,
        group=_CLUSTERS,
    )
    criterion: Literal[
        "consensus", "agreement", "silhouette", "gap", "cosine"
    ] = setting(
        "consensus",
        "criterion of n_clusters=auto: agreement (of clusterings of two "
        "halves of the data), silhouette, consensus (of these two), gap "
        "(between the distances of merges) or cosine (between merged "
        "clusters)",
        group=_CLUSTERS,
    )
    n_clusters_range: list[int] | None = setting(
        None,
        "[smallest, largest] number of clusters that n_clusters=auto "
        "considers; null: 1 to 50 % of the vectors that Ward's method "
        "merges",
        low=2,
        group=_CLUSTERS,
    )
    cosine_threshold: float = setting(
        0.5,
        "lowest cosine at which criterion=cosine still merges two clusters",
        low=-1,
        high=1,
        group=_CLUSTERS,
    )

    min_cluster_size: int = setting(
        1,
        "smallest cluster that is kept, in utterances; those of smaller "
        "ones go to dropped.csv",
        low=1,
        group=_CLEANING,
    )
    min_margin: float | None = setting(
        None,
        "smallest margin of a kept utterance (its cosine to its own cluster "
        "minus that to the next); null: no limit",
        low=-2,
        high=2,
        group=_CLEANING,
    )
    max_cluster_size: int | None = setting(
        None,
        "largest number of utterances kept per cluster, those of the "
        "largest margins; null: no limit",
        low=1,
        group=_CLEANING,
    )

    oracle: str | None = setting(
        None,
        "oracle.csv with the true speakers, to report NMI, ARI and the "
        "like; labels never depend on it; null: no such report",
        path=True,
        group=_REPORT,
    )
    previous_labels: str | None = setting(
        None,
        "pseudo_labels.csv of the previous round, to report the share of "
        "utterances that changed cluster; null: not reported",
        path=True,
        group=_REPORT,
    )
    stability_seed: int | None = setting(
        None,
        "seed of a second clustering, to report how well the two agree; "
        "null: not done",
        low=0,
        high=2**32 - 1,
        group=_REPORT,
    )

    def check_together(self) -> None:
        """Raise InputError for numbers that contradict each other."""
        n_clusters, n_centroids = self.n_clusters, self.n_centroids
        if n_centroids is not None and n_clusters != "auto":
            if n_centroids < n_clusters:
                raise InputError(
                    f"n_centroids is {n_centroids}; it must be null or at "
                    f"least n_clusters, {n_clusters}; raise --n_centroids or "
                    "lower --n_clusters"
                )
        most = self.max_cluster_size
        if most is not None and most < self.min_cluster_size:
            raise InputError(
                f"max_cluster_size is {most}; it must be null or at least "
                f"min_cluster_size, {self.min_cluster_size}; raise "
                "--max_cluster_size or lower --min_cluster_size"
            )
        if self.stability_seed is not None and n_centroids is None:
            raise InputError(
                f"stability_seed is {self.stability_seed}; n_centroids is "
                "null and Ward's method alone draws nothing; leave out "
                "--stability_seed, or give --n_centroids"
            )
        limits = self.n_clusters_range
        if limits is not None and (
            len(limits) != 2 or not limits[0] < limits[1]
        ):
            raise InputError(
                f"n_clusters_range is {limits}; it must be null or two rising "
                "numbers; correct it, for example "
                "--n_clusters_range='[100, 500]'"
            )

    def check_numbers(self, n_utterances: int) -> None:
        """Raise InputError if there are too few utterances to cluster."""
        for key, most in (
            ("n_clusters", n_utterances - 1),
            ("n_centroids", n_utterances),
        ):
            value = getattr(self, key)
            if isinstance(value, int) and value > most:
                null = " or give null" if key == "n_centroids" else ""
                raise InputError(
                    f"{key} is {value}; {n_utterances} utterances allow {most} "
                    f"at most; lower --{key}{null}"
                )

    def inputs(self) -> dict[str, PathLike]:
        """Return the files that decide the result, by name."""
        folder = Path(self.embeddings_folder)
        files: dict[str, PathLike] = {
            "train_annotation": self.train_annotation,
            "embeddings": folder / "embeddings.npy",
            "embeddings_ids": folder / "embeddings.csv",
        }
        if self.joined_folder is not None:
            joined = Path(self.joined_folder)
            files["joined_embeddings"] = joined / "embeddings.npy"
            files["joined_embeddings_ids"] = joined / "embeddings.csv"
        for key in ("oracle", "previous_labels"):
            if getattr(self, key):
                files[key] = getattr(self, key)
        return files
