"""k-means: partitions, guarantees and refusals."""

import faiss
import numpy as np
import pytest
import torch
from grouped_rows import (
    assert_same_partition,
    groups,
    near_speakers,
    random_rows,
)
from sklearn.metrics import adjusted_rand_score

from speechbrain_ext.clustering import assignment as assignment_module
from speechbrain_ext.clustering.assignment import ASSIGNMENTS
from speechbrain_ext.clustering.k_means import kmeans
from speechbrain_ext.clustering.ward import cut_tree, ward_tree
from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.distributed import gathered_rows, own_rows
from speechbrain_ext.utils.errors import InputError


@pytest.mark.parametrize("use", [lambda x: kmeans(x, 2, 0), ward_tree])
def test_vectors_that_cannot_be_clustered_are_refused(use):
    x, _ = groups(2, 5)
    broken = x.copy()
    broken[3, 1] = np.nan
    with pytest.raises(InputError, match="1 of 10 vectors hold NaN.*row 3"):
        use(broken)
    with pytest.raises(InputError, match="all 10 vectors are equal"):
        use(np.ones_like(x))
    with pytest.raises(InputError, match=r"shape \(1, 8\)"):
        use(x[:1])


def test_kmeans_finds_separated_groups():
    x, truth = groups(6, 30)
    result = kmeans(x, 6, seed=1, n_restarts=10)
    assert_same_partition(result.labels, truth)


def test_kmeans_labels_are_nearest_means_and_inertia_their_squared_distance():
    x, _ = groups(10, 20, spread=0.8)
    result = kmeans(x, 7, seed=3, n_iterations=200)
    square = ((x[:, None] - result.centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(square.argmin(axis=1), result.labels)
    for label in range(7):
        np.testing.assert_allclose(
            x[result.labels == label].mean(axis=0),
            result.centroids[label],
            atol=1e-6,
        )
    assert result.inertia == pytest.approx(square.min(axis=1).sum(), 1e-5)


def test_kmeans_is_decided_by_its_seed():
    x, _ = groups(10, 20, spread=1.0)
    first, again = kmeans(x, 8, seed=5), kmeans(x, 8, seed=5)
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.centroids, again.centroids)
    assert (kmeans(x, 8, seed=6).labels != first.labels).any()


def test_more_restarts_never_raise_the_inertia():
    x, _ = groups(20, 10, spread=0.3)
    costs = [kmeans(x, 20, seed=2, n_restarts=n).inertia for n in (1, 5, 10)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


@pytest.mark.parametrize("n_clusters", [1, 2, 7, 12])
def test_no_cluster_is_empty_among_many_equal_vectors(n_clusters):
    distinct, _ = groups(12, 1)
    x = np.concatenate([np.repeat(distinct[:1], 500, axis=0), distinct[1:]])
    for seed in range(5):
        labels = kmeans(x, n_clusters, seed=seed).labels
        assert len(np.unique(labels)) == n_clusters
        assert labels.max() == n_clusters - 1


def test_inertia_is_zero_with_a_cluster_for_each_distinct_vector():
    distinct, _ = groups(12, 1)
    x = np.repeat(distinct, 4, axis=0)
    assert kmeans(x, 12, seed=0, n_iterations=50).inertia == 0


def test_kmeans_refuses_fewer_vectors_than_clusters():
    x, _ = groups(3, 2)
    with pytest.raises(InputError, match="fewer utterances than clusters"):
        kmeans(x, 7, seed=0)
    with pytest.raises(InputError, match="0 clusters"):
        kmeans(x, 0, seed=0)


def test_kmeans_refuses_fewer_distinct_vectors_than_clusters():
    x = np.repeat(groups(3, 1)[0], 10, axis=0)
    with pytest.raises(InputError, match="only 3 of the 30 .* distinct"):
        kmeans(x, 4, seed=0)


def test_unknown_assignment_is_refused():
    with pytest.raises(InputError, match="'near'; .* exact or approximate"):
        kmeans(groups(3, 4)[0], 2, seed=0, assignment="near")


@pytest.mark.parametrize("make", [near_speakers, lambda: random_rows(4000)])
def test_approximate_assignment_costs_within_one_per_cent(make):
    x = make()
    exact = kmeans(x, 900, seed=1)
    near = kmeans(x, 900, seed=1, assignment="approximate")
    assert len(np.unique(near.labels)) == 900
    assert near.inertia == pytest.approx(exact.inertia, rel=0.01)
    assert (near.labels != exact.labels).any()


@pytest.mark.parametrize("assignment", ["exact", "approximate"])
def test_labels_do_not_depend_on_the_number_of_threads(assignment):
    x = near_speakers()[::2]
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    labels = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            faiss.omp_set_num_threads(n_threads)
            first = kmeans(x, 200, 0, n_iterations=5, assignment=assignment)
            tree = ward_tree(first.centroids, np.bincount(first.labels))
            labels.append(cut_tree(tree, 60)[first.labels])
    finally:
        torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])
    assert adjusted_rand_score(*labels) > 0.999


def test_labels_do_not_depend_on_the_size_of_blocks(monkeypatch):
    x = near_speakers()[:1000]
    for assignment in ASSIGNMENTS:
        whole = kmeans(x, 30, seed=0, assignment=assignment)
        with monkeypatch.context() as patch:
            patch.setattr(assignment_module, "_SEARCHED", 130)
            patch.setattr(vectors, "_BLOCK", 2400)
            parts = kmeans(x, 30, seed=0, assignment=assignment)
        np.testing.assert_array_equal(parts.labels, whole.labels)


def test_the_cost_is_that_of_faiss_from_the_same_rows():
    x = near_speakers()
    ours = kmeans(x, 300, seed=1, n_iterations=20, device="cpu")
    chosen = np.random.default_rng(1).choice(len(x), 300, replace=False)
    theirs = faiss.Kmeans(x.shape[1], 300, niter=20, verbose=False)
    theirs.cp.min_points_per_centroid = 1
    theirs.train(x, init_centroids=x[chosen])
    cost = float(theirs.index.search(x, 1)[0].sum())
    assert ours.inertia == pytest.approx(cost, rel=1e-3)


def work(rank, n_processes, folder):
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet-{n_processes}",
        rank=rank,
        world_size=n_processes,
    )
    own = own_rows(1000)
    few = np.repeat(groups(9, 1)[0], 30, axis=0)
    found = {
        "many": kmeans(near_speakers()[:1000][own], 90, 4, shared=True),
        # Nine rows are distinct: most of the starting rows are copies.
        "copies": kmeans(few[own_rows(len(few))], 8, 0, shared=True),
    }
    rows = {
        name: {**result._asdict(), "labels": gathered_rows(result.labels)}
        for name, result in found.items()
    }
    torch.save(rows, f"{folder}/{n_processes}-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_find_the_clusters_of_one(tmp_path):
    for n in (2, 3):
        torch.multiprocessing.start_processes(
            work, (n, tmp_path), nprocs=n, start_method="fork"
        )
    read = [
        torch.load(tmp_path / name, weights_only=False)
        for name in ("2-0.pt", "2-1.pt", "3-0.pt", "3-2.pt")
    ]
    alone = {
        "many": kmeans(near_speakers()[:1000], 90, 4),
        "copies": kmeans(np.repeat(groups(9, 1)[0], 30, axis=0), 8, 0),
    }
    for name, expected in alone.items():
        assert len(np.unique(expected.labels)) == len(expected.centroids)
        for found in read:
            for key in ("labels", "centroids"):
                np.testing.assert_array_equal(
                    found[name][key], getattr(expected, key)
                )
            assert found[name]["inertia"] == pytest.approx(expected.inertia)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_finds_the_clusters_of_the_cpu():
    x = near_speakers()
    there = kmeans(x, 300, seed=1, device="cuda")
    here = kmeans(x, 300, seed=1, device="cpu")
    assert there.inertia == pytest.approx(here.inertia, rel=1e-3)
    assert adjusted_rand_score(there.labels, here.labels) > 0.99
