"""make_pseudo_labels: labels from embeddings, and from nothing else."""

import json
import os
import socket

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from recipes import make_pseudo_labels
from speechbrain_ext.clustering import assignment
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.dataio.shards import new_rows
from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.errors import InputError

LEAF = "hparams/make_pseudo_labels.yaml"
N_SPEAKERS, PER_SPEAKER = 8, 15


@pytest.fixture
def corpus(tmp_path):
    """Eight speakers; the embeddings lie in another order than train.csv."""
    generator = np.random.default_rng(0)
    speaker = np.repeat(np.arange(N_SPEAKERS), PER_SPEAKER)
    speaker = generator.permutation(speaker)
    ids = np.array([f"u{i:03d}.wav" for i in range(len(speaker))])
    rows = pd.DataFrame(
        {
            "ID": ids,
            "duration": 1.0,
            "wav": [f"$data_root/{name}" for name in ids],
            "start": 0,
            "stop": 16000,
        }
    )
    write_manifest(tmp_path / "train.csv", rows, "utterances")
    oracle = pd.DataFrame({"ID": ids, "spk_id": [f"s{i}" for i in speaker]})
    oracle.loc[len(oracle)] = ["a-test-file.wav", "s99"]
    write_manifest(tmp_path / "oracle.csv", oracle, "oracle")

    centres = generator.normal(size=(N_SPEAKERS, 16))
    x = centres[speaker] + 0.1 * generator.normal(size=(len(speaker), 16))
    x *= generator.uniform(1, 50, size=(len(speaker), 1))
    order = generator.permutation(len(speaker))
    save_embeddings(tmp_path, x[order], ids[order])
    return tmp_path


@pytest.fixture
def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def save_embeddings(corpus, x, ids):
    (corpus / "embeddings").mkdir(exist_ok=True)
    np.save(corpus / "embeddings" / "embeddings.npy", x.astype(np.float32))
    table = pd.DataFrame({"ID": ids, "row": np.arange(len(ids))})
    path = corpus / "embeddings" / "embeddings.csv"
    write_manifest(path, table, "embeddings")


def arguments(corpus, output="out", **others):
    options = {
        "embeddings_folder": corpus / "embeddings",
        "train_annotation": corpus / "train.csv",
        "output_folder": corpus / output,
        "n_centroids": 30,
        "n_clusters": N_SPEAKERS,
        **others,
    }
    return [LEAF] + [f"--{key}={value}" for key, value in options.items()]


def label(corpus, output="out", **others):
    make_pseudo_labels.main(arguments(corpus, output, **others))
    return read_manifest(corpus / output / "pseudo_labels.csv", "pseudo_labels")


def receipt(corpus, output="out"):
    return json.loads((corpus / output / "stage.json").read_text())


@pytest.mark.parametrize("n_centroids", [30, 120, "null"])
def test_the_length_of_embeddings_does_not_matter(corpus, n_centroids):
    labels = label(corpus, n_centroids=n_centroids)
    oracle = read_manifest(corpus / "oracle.csv", "oracle")
    truth = oracle.spk_id[oracle.rows_of(labels.ids)]
    assert adjusted_rand_score(truth, labels.spk_id) == 1.0


def test_rows_and_order_are_those_of_the_training_manifest(corpus):
    labels = label(corpus)
    train = read_manifest(corpus / "train.csv", "utterances")
    rest = labels.table.drop(columns=["spk_id", "margin"])
    pd.testing.assert_frame_equal(rest, train.table)
    assert labels.table.wav[0].startswith("$data_root/")


def test_clusters_are_named_by_falling_size(corpus):
    labels = label(corpus, n_clusters=20, n_centroids="null")
    sizes = labels.table.spk_id.value_counts()
    by_name = sizes.sort_index()
    assert list(by_name.index) == [f"pseudo{i:05d}" for i in range(20)]
    assert (np.diff(by_name) <= 0).all()
    tied = by_name[by_name == by_name.iloc[-1]].index
    firsts = [labels.table.index[labels.spk_id == name][0] for name in tied]
    assert len(tied) > 1
    assert firsts == sorted(firsts)


def test_labels_do_not_depend_on_the_oracle(corpus):
    label(corpus, "with", oracle=corpus / "oracle.csv")
    (corpus / "oracle.csv").unlink()
    label(corpus, "without")
    for name in ("pseudo_labels.csv", "dropped.csv"):
        one, other = corpus / "with" / name, corpus / "without" / name
        assert one.read_bytes() == other.read_bytes()


def test_only_statistics_against_the_truth_need_the_oracle(corpus):
    label(corpus, "with", oracle=corpus / "oracle.csv")
    label(corpus, "without")
    told, untold = receipt(corpus, "with"), receipt(corpus, "without")
    assert told["nmi"] == told["ari"] == told["purity"] == 1
    assert told["n_speakers"] == N_SPEAKERS
    assert not {"nmi", "ari", "purity", "n_speakers"} & untold.keys()
    assert told["true_labels"] is untold["true_labels"] is False
    for name in ("n_clusters", "size_median", "cohesion", "margin"):
        assert told[name] == untold[name]
    assert told["n_clusters"] == N_SPEAKERS
    assert told["size_median"] == PER_SPEAKER


def test_the_summary_and_the_plot_are_written(corpus):
    label(corpus)
    summary = json.loads((corpus / "out" / "clusters.json").read_text())
    assert summary["sizes"] == [PER_SPEAKER] * N_SPEAKERS
    assert summary["parameters"]["n_centroids"] == 30
    assert summary["statistics"]["n_singletons"] == 0
    picture = (corpus / "out" / "cluster_sizes.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_small_clusters_are_dropped_and_listed(corpus):
    every = label(corpus, "all", n_clusters=20, n_centroids="null")
    sizes = every.table.spk_id.value_counts()
    kept = label(corpus, n_clusters=20, n_centroids="null", min_cluster_size=5)
    dropped = pd.read_csv(corpus / "out" / "dropped.csv")
    assert 0 < len(dropped) == sizes[sizes < 5].sum()
    assert set(dropped.ID) | set(kept.ids) == set(every.ids)
    assert not set(dropped.ID) & set(kept.ids)
    assert dropped.cluster_size.max() < 5
    assert kept.table.spk_id.value_counts().min() >= 5
    assert receipt(corpus)["n_dropped"] == len(dropped)
    names = sorted(set(kept.spk_id))
    assert names == [f"pseudo{i:05d}" for i in range(len(names))]


EMPTY = "ID,cluster_size,margin,reason\n"


def test_with_nothing_dropped_the_list_is_empty_and_there(corpus):
    label(corpus)
    assert (corpus / "out" / "dropped.csv").read_text() == EMPTY


def noisy(corpus):
    train = read_manifest(corpus / "train.csv", "utterances")
    x = np.random.default_rng(5).normal(size=(len(train), 16)) + 1
    save_embeddings(corpus, x, train.ids)


@pytest.mark.parametrize(
    "change",
    [{"seed": 7}, {"weighted": False}, {"whiten": 0}, {"whiten": 0.75}],
)
def test_another_seed_weighting_or_whitening_gives_other_labels(corpus, change):
    noisy(corpus)
    plain = label(corpus, "plain")
    again = label(corpus, "again")
    other = label(corpus, "other", **change)
    assert (plain.spk_id == again.spk_id).all()
    assert (plain.spk_id != other.spk_id).any()


def test_approximate_assignment_is_used_when_asked_for(corpus, monkeypatch):
    noisy(corpus)
    monkeypatch.setattr(assignment, "_N_PROBES", 1)
    exact = label(corpus, "exact")
    near = label(corpus, "near", assignment="approximate")
    assert (exact.spk_id != near.spk_id).any()


def work(rank, folder, port):
    """One of the two processes of torchrun."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ.update({**address, **ranks})
    options = {"distributed_backend": "gloo", "device": "cpu"}
    label(folder, "two", stability_seed=3, **options)
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_labels_of_one(corpus, free_port):
    noisy(corpus)
    alone = label(corpus, "one", stability_seed=3)
    torch.multiprocessing.start_processes(
        work, (corpus, free_port), nprocs=2, start_method="fork"
    )
    path = corpus / "two" / "pseudo_labels.csv"
    both = read_manifest(path, "pseudo_labels")
    assert both.ids.tolist() == alone.ids.tolist()
    assert (both.spk_id == alone.spk_id).all()
    one, two = (receipt(corpus, output) for output in ("one", "two"))
    assert two["stability_ari"] == one["stability_ari"] < 1


def test_restarts_and_iterations_lower_the_cost(corpus):
    noisy(corpus)
    label(corpus, "short", n_iterations=1, n_centroids=8)
    label(corpus, "long", n_iterations=50, n_restarts=20, n_centroids=8)
    cohesion = [receipt(corpus, o)["cohesion"] for o in ("short", "long")]
    assert cohesion[0] < cohesion[1]


def test_embeddings_of_further_utterances_are_ignored(corpus):
    label(corpus, "all")
    train = pd.read_csv(corpus / "train.csv").iloc[:60]
    write_manifest(corpus / "train.csv", train, "utterances")
    assert label(corpus, "some").ids.tolist() == train.ID.tolist()


def test_a_finished_folder_is_skipped(corpus):
    label(corpus)
    path = corpus / "out" / "pseudo_labels.csv"
    before = path.stat().st_mtime_ns
    label(corpus)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("assignment", ["exact", "approximate"])
def test_a_killed_run_starts_again_and_ends_with_the_same_labels(
    corpus, monkeypatch, assignment
):
    noisy(corpus)
    label(corpus, "whole", assignment=assignment)

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(make_pseudo_labels, "cut_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            label(corpus, assignment=assignment)
    assert not (corpus / "out" / "stage.json").exists()
    label(corpus, assignment=assignment)
    whole = (corpus / "whole" / "pseudo_labels.csv").read_bytes()
    assert (corpus / "out" / "pseudo_labels.csv").read_bytes() == whole


# --- their number -----------------------------------------------------------


@pytest.mark.parametrize("n_centroids", [60, "null"])
@pytest.mark.parametrize("criterion", ["consensus", "gap", "silhouette"])
def test_the_number_of_speakers_is_found(corpus, criterion, n_centroids):
    options = {"n_clusters": "auto", "criterion": criterion}
    labels = label(corpus, n_centroids=n_centroids, **options)
    assert len(set(labels.spk_id)) == N_SPEAKERS
    summary = json.loads((corpus / "out" / "clusters.json").read_text())
    choice = summary["choice"]
    assert choice["n_clusters"] == N_SPEAKERS and choice["certain"]
    for curve in choice["curves"].values():
        assert len(curve) == len(choice["numbers"])
    picture = (corpus / "out" / "cluster_number.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_a_cosine_threshold_sets_the_number(corpus):
    noisy(corpus)
    options = {"n_clusters": "auto", "criterion": "cosine"}
    sizes = []
    for threshold in (0.5, 0.65):
        name = f"t{threshold}"
        label(
            corpus,
            name,
            n_centroids="null",
            cosine_threshold=threshold,
            **options,
        )
        sizes.append(receipt(corpus, name)["n_clusters"])
    assert 2 < sizes[0] < sizes[1] < 60


def test_the_number_chosen_on_noise_is_called_a_guess(corpus, capsys):
    noisy(corpus)
    label(corpus, n_clusters="auto", n_centroids="null")
    summary = json.loads((corpus / "out" / "clusters.json").read_text())
    assert summary["choice"]["certain"] is False
    text = "".join(capsys.readouterr())
    assert "is a guess" in text and "--n_clusters" in text


# --- how good they are ------------------------------------------------------


def test_every_utterance_has_its_margin(corpus):
    noisy(corpus)
    labels = label(corpus)
    receipted = receipt(corpus)
    assert labels.margin.mean() == pytest.approx(receipted["margin"], abs=2e-6)
    wrong = (labels.margin < 0).mean()
    assert wrong == pytest.approx(receipted["misplaced"], abs=1e-6)
    assert labels.margin.min() < labels.margin.max()


def test_the_truth_tells_split_and_merged_speakers(corpus):
    label(corpus, oracle=corpus / "oracle.csv", n_clusters=9)
    figures = receipt(corpus)
    assert (figures["n_split"], figures["n_merged"]) == (1, 0)
    assert figures["homogeneity"] == 1 > figures["completeness"]


def test_stability_is_that_of_another_seed_at_the_same_number(corpus):
    label(corpus, "sure", stability_seed=5)
    assert receipt(corpus, "sure")["stability_ari"] == 1
    noisy(corpus)
    first = label(corpus, "first", stability_seed=5)
    other = label(corpus, "other", seed=5)
    expected = adjusted_rand_score(first.spk_id, other.spk_id)
    found = receipt(corpus, "first")["stability_ari"]
    assert found == pytest.approx(expected, abs=1e-6)
    assert found < 1


def test_churn_is_reported_against_the_round_before(corpus):
    label(corpus, "before")
    path = corpus / "before" / "pseudo_labels.csv"
    label(corpus, "same", previous_labels=path)
    assert receipt(corpus, "same")["churn"] == 0
    assert receipt(corpus, "same")["n_compared"] == 120
    label(corpus, "finer", previous_labels=path, n_clusters=9)
    assert 0 < receipt(corpus, "finer")["churn"] < 0.07
    assert "churn" not in receipt(corpus, "before")


def test_churn_compares_what_the_round_before_kept(corpus):
    options = {"n_clusters": 20, "n_centroids": "null", "min_cluster_size": 5}
    kept = label(corpus, "before", **options)
    path = corpus / "before" / "pseudo_labels.csv"
    label(corpus, previous_labels=path)
    assert receipt(corpus)["n_compared"] == len(kept) < 120


# --- cleaning ---------------------------------------------------------------


def test_each_cleaning_rule_drops_for_its_reason(corpus):
    noisy(corpus)
    every = label(corpus, "all", n_centroids="null")
    rules = {"min_cluster_size": 6, "min_margin": 0.02, "max_cluster_size": 12}
    kept = label(corpus, n_centroids="null", **rules)
    dropped = pd.read_csv(corpus / "out" / "dropped.csv")
    figures = receipt(corpus)
    counted = dropped.reason.value_counts()
    assert counted["low margin"] == figures["n_low_margin"] > 0
    assert counted["over the cap"] == figures["n_over_cap"] > 0
    assert len(dropped) == figures["n_dropped"] == 120 - len(kept)
    margin = dict(zip(every.ids, every.margin, strict=True))
    assert all(margin[name] >= 0.02 for name in kept.ids)
    assert kept.table.spk_id.value_counts().between(6, 12).all()
    assert (dropped.margin == [margin[name] for name in dropped.ID]).all()
    names = sorted(set(kept.spk_id))
    assert names == [f"pseudo{i:05d}" for i in range(len(names))]
    sizes = kept.table.spk_id.value_counts().sort_index()
    assert (np.diff(sizes) <= 0).all()


# --- bad input --------------------------------------------------------------


def break_nan(corpus):
    path = corpus / "embeddings" / "embeddings.npy"
    x = np.load(path)
    x[7] = np.nan
    np.save(path, x)


def break_equal(corpus):
    path = corpus / "embeddings" / "embeddings.npy"
    np.save(path, np.ones_like(np.load(path)))


def break_short(corpus):
    path = corpus / "embeddings" / "embeddings.npy"
    np.save(path, np.load(path)[:-1])


def break_no_array(corpus):
    (corpus / "embeddings" / "embeddings.npy").write_text("not an array")


def break_missing(corpus):
    (corpus / "embeddings" / "embeddings.csv").unlink()


def break_other_corpus(corpus):
    path = corpus / "train.csv"
    path.write_text(path.read_text().replace("u01", "v01"))


def break_oracle(corpus):
    path = corpus / "oracle.csv"
    path.write_text(path.read_text().replace("u003", "x003"))


def break_speaker_column(corpus):
    table = pd.read_csv(corpus / "train.csv").assign(spk_id="s")
    table.to_csv(corpus / "train.csv", index=False)


def nothing(corpus):
    """The files are right; an option is wrong."""


BAD = [
    (break_nan, {}, "embedding row 7, of 'u[0-9]+.wav', has length nan"),
    (break_equal, {}, "vectors are equal"),
    (break_short, {}, r"shape \[119, 16\] and embeddings.csv names 120"),
    (break_no_array, {}, "embeddings.npy cannot be read"),
    (break_missing, {}, "embeddings.csv: no such manifest"),
    (break_other_corpus, {}, "lacks 10 of 120 utterances.*v010"),
    (break_oracle, {"oracle": "oracle.csv"}, "lacks 1 of 120.*u003"),
    (break_speaker_column, {}, "has a column spk_id"),
    (nothing, {"oracle": "no.csv"}, "no.csv: no such manifest"),
    (
        nothing,
        {"n_centroids": 121},
        "n_centroids is 121; .* 120 at most; .*null",
    ),
    (
        nothing,
        {"n_clusters": 120, "n_centroids": "null"},
        "n_clusters is 120; .* allow 119 at most; lower --n_clusters",
    ),
    (nothing, {"n_clusters": "auto", "n_centroids": 19}, "it takes 20"),
    (
        nothing,
        {"n_clusters": "auto", "n_clusters_range": "[9, 61]"},
        r"n_clusters_range is \[9, 61\].* from 2 to 15",
    ),
    (nothing, {"n_clusters": "auto", "n_clusters_range": 9}, "range is 9"),
    (
        nothing,
        {"n_clusters": "auto", "criterion": "eye"},
        "'eye'; .* or gap or",
    ),
    (
        nothing,
        {"n_clusters": "auto", "cosine_threshold": 2},
        "cosine_threshold is 2; .* from -1 to 1",
    ),
    (
        nothing,
        {"min_cluster_size": 5, "max_cluster_size": 4},
        "max_cluster_size is 4.*min_cluster_size, 5",
    ),
    (nothing, {"min_margin": "high"}, "min_margin is 'high'"),
    (
        nothing,
        {"stability_seed": 2, "n_centroids": "null"},
        "stability_seed is 2; n_centroids is null",
    ),
    (nothing, {"previous_labels": "no.csv"}, "no.csv: no such manifest"),
    (nothing, {"n_centroids": 7}, "n_centroids is 7.*at least n_clusters, 8"),
    (nothing, {"n_clusters": 1}, "n_clusters is 1; .* 2 or more or auto"),
    (nothing, {"n_clusters": "many"}, "n_clusters is 'many'"),
    (nothing, {"n_restarts": 0}, "n_restarts is 0"),
    (nothing, {"assignment": "near"}, "'near'; .*exact or approximate"),
    (
        nothing,
        {"whiten": 2},
        "whiten is 2; .* from 0 to 1 or null; correct --whiten",
    ),
    (nothing, {"n_cluster": 3}, "n_cluster is 3; .* did you mean --n_clusters"),
]


@pytest.mark.parametrize(("damage", "options", "message"), BAD)
def test_bad_input_is_one_clear_error_before_any_work(
    corpus, damage, options, message
):
    damage(corpus)
    if "oracle" in options:
        options = {"oracle": corpus / options["oracle"]}
    options.setdefault("n_clusters", N_SPEAKERS)
    with pytest.raises(InputError, match=message):
        label(corpus, **options)
    assert not (corpus / "out").exists()


@pytest.mark.parametrize("damage", [break_nan, break_other_corpus])
def test_earlier_labels_survive_bad_input_even_with_overwrite(corpus, damage):
    label(corpus)
    before = (corpus / "out" / "pseudo_labels.csv").read_bytes()
    damage(corpus)
    for overwrite in (False, True):
        with pytest.raises(InputError):
            label(corpus, overwrite=overwrite)
    assert (corpus / "out" / "pseudo_labels.csv").read_bytes() == before
    assert receipt(corpus)["n_clusters"] == N_SPEAKERS


def test_dropping_all_but_one_cluster_is_refused(corpus):
    with pytest.raises(
        InputError, match="min_cluster_size 16 .* leave 0 cluster"
    ):
        label(corpus, min_cluster_size=PER_SPEAKER + 1)
    assert not (corpus / "out" / "pseudo_labels.csv").exists()


def test_embeddings_of_two_models_are_joined_by_utterance(corpus):
    """Each model confuses two speakers, not the same two; their rows are in
    another order, and of another length."""
    ids = [f"u{i:03d}.wav" for i in range(N_SPEAKERS * PER_SPEAKER)]
    oracle = read_manifest(corpus / "oracle.csv", "oracle")
    pairs = zip(oracle.ID, oracle.spk_id, strict=True)
    number = {name: int(speaker[1:]) for name, speaker in pairs}
    speaker = np.array([number[name] for name in ids])
    generator = np.random.default_rng(5)
    for folder, (one, other) in {"a": (0, 1), "b": (2, 3)}.items():
        centres = generator.normal(size=(N_SPEAKERS, 16))
        centres[one] = centres[other]
        x = centres[speaker] + 0.1 * generator.normal(size=(len(ids), 16))
        x *= 10 if folder == "b" else 1
        order = generator.permutation(len(ids))
        save_embeddings(corpus, x[order], np.array(ids)[order])
        (corpus / "embeddings").rename(corpus / folder)
    scores = {}
    for name, joined in {"alone": "null", "joined": corpus / "b"}.items():
        change = {"embeddings_folder": corpus / "a", "joined_folder": joined}
        found = label(corpus, name, n_centroids="null", **change)
        given = [number[i] for i in found.ID]
        scores[name] = adjusted_rand_score(given, found.spk_id)
    assert scores["joined"] == 1.0 > scores["alone"] + 0.05


def test_joined_embeddings_of_other_utterances_are_refused(corpus):
    (corpus / "embeddings").rename(corpus / "a")
    save_embeddings(corpus, np.eye(3), ["x", "y", "z"])
    with pytest.raises(InputError, match="embeddings"):
        label(
            corpus,
            embeddings_folder=corpus / "a",
            joined_folder=corpus / "embeddings",
        )


def test_a_cluster_that_has_most_utterances_is_warned_of(corpus):
    label(corpus, n_centroids="null")
    assert "the largest of" not in (corpus / "out" / "log.txt").read_text()
    vectors = np.load(corpus / "embeddings" / "embeddings.npy")
    # All but twenty are of one voice.
    noise = np.random.default_rng(0).normal(size=vectors.shape)
    x = np.where(np.arange(len(vectors))[:, None] < 20, vectors, 9 + noise)
    table = pd.read_csv(corpus / "embeddings" / "embeddings.csv")
    save_embeddings(corpus, x, table.sort_values("row")["ID"].to_numpy())
    label(corpus, "again", n_centroids="null")
    log = (corpus / "again" / "log.txt").read_text()
    assert "the largest of 8 clusters has 100 of 120 utterances" in log


def test_parts_give_the_labels_of_single_files(corpus, monkeypatch):
    label(corpus)
    whole = corpus / "embeddings"
    vectors = np.load(whole / "embeddings.npy")
    (corpus / "parts").mkdir()
    index = read_manifest(whole / "embeddings.csv", "embeddings")
    path = corpus / "parts" / "embeddings.csv"
    write_manifest(path, index, "embeddings", 50)
    with new_rows(path.with_suffix(".npy"), vectors.shape, 32) as rows:
        rows[:] = vectors
    train = read_manifest(corpus / "train.csv", "utterances")
    write_manifest(corpus / "train", train, "utterances", 45)
    options = {
        "embeddings_folder": corpus / "parts",
        "train_annotation": corpus / "train",
        "previous_labels": corpus / "out" / "pseudo_labels.csv",
    }
    label(corpus, "again", **options)
    first, second = (
        (corpus / name / "pseudo_labels.csv").read_bytes()
        for name in ("out", "again")
    )
    assert first == second
    assert receipt(corpus, "again")["churn"] == 0
    # A finished stage on parts is skipped, and one on others is not.
    monkeypatch.setattr(make_pseudo_labels, "cluster", None)
    label(corpus, "again", **options)
    part = corpus / "parts" / "embeddings.npy" / "000001.npy"
    np.save(part, np.load(part) + 1)
    with pytest.raises(InputError, match="inputs.embeddings.sha256 was"):
        label(corpus, "again", **options)


def outputs(folder):
    names = ["pseudo_labels.csv", "dropped.csv"]
    found = {name: (folder / name).read_bytes() for name in names}
    statistics = json.loads((folder / "clusters.json").read_text())
    return {**found, "clusters": statistics["statistics"]}


@pytest.mark.parametrize("assignment", ["exact", "approximate"])
def test_arrays_in_files_give_the_labels_of_arrays_in_memory(
    corpus, monkeypatch, assignment
):
    options = {
        "assignment": assignment,
        "n_centroids": 119,  # one is empty at first: it takes a far row
        "min_cluster_size": 12,
        "max_cluster_size": 14,
    }
    label(corpus, "before", **options)
    options["previous_labels"] = corpus / "before" / "pseudo_labels.csv"
    label(corpus, "memory", **options)
    made = []

    def mapped(*arguments, **others):
        made.append(numpy_memmap(*arguments, **others))
        return made[-1]

    numpy_memmap = np.memmap
    monkeypatch.setattr(vectors, "LARGE", 1)
    monkeypatch.setattr(vectors, "_BLOCK", 64)
    monkeypatch.setattr(np, "memmap", mapped)
    label(corpus, "files", **options)
    assert len(made) > 10
    assert outputs(corpus / "files") == outputs(corpus / "memory")
    assert not list(corpus.rglob(".rows*"))
