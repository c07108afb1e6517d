"""The comparison of levels reads a run's folders and its oracle."""

import json

from benchmarks import clustering, label_levels


def test_clustering_levels_and_results_of_each_system_are_written(tmp_path):
    embeddings = tmp_path / "run" / "round1" / "train_embeddings"
    embeddings.mkdir(parents=True)
    clustering.draw_corpus(embeddings, 600, 12, dimension=32)
    clustering.write_manifests(embeddings)
    corpus = tmp_path / "run" / "corpus"
    corpus.mkdir()
    for name in ("train.csv", "oracle.csv"):
        (embeddings / name).rename(corpus / name)
    output = tmp_path / "levels.json"
    options = ["--n_centroids=100", "--n_clusters", "20"]
    label_levels.main([str(tmp_path / "run"), f"--output={output}", *options])
    found = json.loads(output.read_text())["systems"]["round1"]
    assert found["n_speakers"] == 12
    for number in (12, 20):
        nmi = found[f"nmi, {number} clusters"]
        assert 0.3 < nmi["one level"] < nmi["ward alone"] <= 1
    assert found["nmi, whitened 0.5, 12 clusters"] > 0.3
    assert found["number, tree of utterances"]["gap"] >= 2
