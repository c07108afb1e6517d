"""Settings of the recipe that clusters embeddings."""

from __future__ import annotations

import dataclasses
from typing import Literal

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings, setting

_CLUSTERS = "Their number"
_CLEANING = "Which utterances are kept"
_REPORT = "What is reported"


@dataclasses.dataclass(kw_only=True)
class MakePseudoLabels(Settings):
    """Settings of clustering: k-means, Ward's tree and where to cut it."""

    recipe = "make_pseudo_labels"

    embeddings_folder: str = setting(
        doc="holds embeddings.npy and embeddings.csv", path=True
    )
    train_annotation: str = setting(
        doc="train.csv, the utterances to label", path=True
    )
    n_centroids: int | None = setting(
        50000,
        "clusters of k-means, which Ward's method then joins; null: Ward's "
        "method joins the utterances themselves",
        low=2,
    )
    whiten: float | None = setting(
        None,
        "power of the deviation that each principal component is divided by "
        "(0.75 was chosen by looking at MiniVox); null: embeddings as they are",
        low=0,
        high=1,
    )
    weighted: bool = setting(
        True,
        "whether a centroid weighs as many as its utterances in Ward's tree; "
        "false is the paper's; by synthetic embeddings (results/benchmarks/"
        "clustering.json) true suits an n_clusters near the true number, "
        "false one that is well above",
    )
    n_iterations: int = setting(25, "iterations of k-means, at most", low=1)
    n_restarts: int = setting(
        1, "runs of k-means, of which the best is kept", low=1
    )
    assignment: Literal["exact", "approximate"] = setting(
        "exact",
        "exact compares each utterance with each centroid, on a GPU if there "
        "is one; approximate looks near by, for many centroids on a CPU",
    )

    n_clusters: int | Literal["auto"] = setting(
        "auto",
        "pseudo-speakers; auto: judged from Ward's tree",
        low=2,
        group=_CLUSTERS,
    )
    criterion: Literal[
        "consensus", "agreement", "silhouette", "gap", "cosine"
    ] = setting(
        "consensus",
        "what auto goes by: consensus (of the next two), agreement (of two "
        "halves of the data), silhouette, gap (between merges) or cosine "
        "(between what is merged)",
        group=_CLUSTERS,
    )
    n_clusters_range: list[int] | None = setting(
        None,
        "[least, most] that auto considers; null: 1 to 50 % of the vectors "
        "that Ward's method joins",
        low=2,
        group=_CLUSTERS,
    )
    cosine_threshold: float = setting(
        0.5,
        "for the criterion cosine: merges below it are not made",
        low=-1,
        high=1,
        group=_CLUSTERS,
    )

    min_cluster_size: int = setting(
        1,
        "utterances of smaller clusters go to dropped.csv",
        low=1,
        group=_CLEANING,
    )
    min_margin: float | None = setting(
        None,
        "so do utterances of a smaller margin (difference of cosines)",
        low=-2,
        high=2,
        group=_CLEANING,
    )
    max_cluster_size: int | None = setting(
        None,
        "so do utterances beyond it, those of least margin",
        low=1,
        group=_CLEANING,
    )

    oracle: str | None = setting(
        None,
        "oracle.csv, to report NMI, ARI and the like; labels never depend on "
        "it",
        path=True,
        group=_REPORT,
    )
    previous_labels: str | None = setting(
        None,
        "pseudo_labels.csv of the round before, to report how many "
        "utterances changed cluster",
        path=True,
        group=_REPORT,
    )
    stability_seed: int | None = setting(
        None,
        "cluster again with this seed and report the agreement",
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
