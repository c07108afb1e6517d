"""Clusters to browse: whole table, examples worth hearing."""

import numpy as np
import pandas as pd
import soundfile

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.report.clips import ClipCutter
from speechbrain_ext.report.clusters import (
    Clusters,
    cluster_blocks,
    cluster_table,
    examples,
)

# Cluster p0 is the largest and mixed, p1 unsure; speaker x lies in both.
LABELS = ["p0"] * 4 + ["p1"] * 3 + ["p2"]
SPEAKERS = ["x", "x", "y", "z", "x", "w", "w", "v"]
MARGIN = [0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.3, 0.5]


def clusters(folder, known=True):
    soundfile.write(folder / "a.wav", np.zeros(16000), 16000)
    n = len(LABELS)
    table = pd.DataFrame(
        {
            "ID": [f"u{k}" for k in range(n)],
            "duration": 1.0,
            "wav": "$data_root/a.wav",
            "start": 0,
            "stop": 16000,
            "spk_id": LABELS,
            "margin": MARGIN,
        }
    )
    manifest = Manifest(table, "pseudo_labels", str(folder))
    speakers = np.array(SPEAKERS) if known else None
    cohesion = {"p0": 0.5, "p1": 0.25}
    return Clusters(manifest, np.array(MARGIN), cohesion, speakers)


def test_a_row_has_size_cohesion_margin_and_purity_where_known(tmp_path):
    first, second, last = cluster_table(clusters(tmp_path)).rows
    assert first == {
        "cluster": "p0",
        "utterances": "4",
        "cohesion": "0.50",
        "margin": "0.75",
        "purity": "0.50",
        "speakers": "3",
    }
    assert second["margin"] == "0.20" and last["cohesion"] == "–"
    unknown = cluster_table(clusters(tmp_path, known=False)).rows
    assert "purity" not in unknown[0]


def test_of_many_clusters_the_largest_and_the_least_sure_are_shown(tmp_path):
    n = 900
    table = pd.DataFrame({"ID": [f"u{k}" for k in range(n)]})
    # The first 300 clusters have two utterances, the last is the least sure.
    names = [f"p{k:03d}" for k in [*range(300), *range(600)]]
    table["spk_id"] = names
    margin = np.linspace(1, 0, n)
    found = cluster_table(
        Clusters(Manifest(table, "pseudo_labels"), margin, {}, None)
    )
    shown = [row["cluster"] for row in found.rows]
    assert len(shown) == 200 == len(set(shown))
    assert shown[0] == "p000" and "p599" in shown and "p300" not in shown
    assert "least sure of 600" in found.caption


def test_what_is_heard_is_the_largest_the_least_sure_the_mixed_the_split(
    tmp_path,
):
    found = dict(examples(clusters(tmp_path)))
    assert found == {
        "Largest cluster: p0, 4 utterances": [0, 2, 3],
        "Least sure cluster: p1, mean margin 0.20": [6, 5, 4],
        "Cluster that merges most voices: p0, 3 speakers": [0, 2, 3],
        "Speaker split most: x, in 2 clusters": [0, 4],
    }
    assert len(examples(clusters(tmp_path, known=False))) == 2


def test_clips_say_what_they_are(tmp_path):
    heard, browser = cluster_blocks(clusters(tmp_path), ClipCutter(tmp_path))
    clip = heard.groups[0][1][0]
    assert clip.words == "u0: margin 0.90, speaker x, in p0"
    assert (tmp_path / clip.path).is_file()
    assert browser.blocks[0].rows


def test_clusters_without_margins_have_a_table_and_a_largest(tmp_path):
    found = clusters(tmp_path)._replace(
        margin=np.full(8, np.nan), speakers=None
    )
    assert [words for words, _ in examples(found)] == [
        "Largest cluster: p0, 4 utterances"
    ]
    assert cluster_table(found).rows[0]["margin"] == "–"
