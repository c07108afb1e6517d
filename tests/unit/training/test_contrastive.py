"""The networks of a contrastive training, by its method and positives."""

import numpy as np
import pandas as pd
import pytest
import torch
import training_leaf

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.training.contrastive import (
    ContrastiveNet,
    build_contrastive,
)
from speechbrain_ext.utils.errors import InputError

SMALL = {"n_mels": 20, "width": 16, "width_last": 24, "embedding_size": 8}
MOCO = {"method": "moco", "batch_size": 4, "n_keys": 8}
MANIFEST = Manifest(
    pd.DataFrame({"ID": [f"u{number}" for number in range(20)]}), "utterances"
)


def build(manifest=MANIFEST, **changes):
    leaf = training_leaf.read(
        "train_contrastive_ecapa", embedder=SMALL, **changes
    )
    return build_contrastive(leaf.settings, leaf.objects(), manifest)


def test_a_teacher_comes_with_moco_and_positives_with_ssps():
    names = {"student", "loss", "diagnostics"}
    assert build().modules.keys() == names
    assert build(**MOCO).modules.keys() == {*names, "teacher"}
    ssps = {"positives": "ssps", "n_ssps_epochs": 1, "ssps_clusters": 6}
    assert build(**ssps).modules.keys() == {*names, "positives"}


def test_the_students_embedder_is_trained_and_kept():
    networks = build(**MOCO)
    modules = networks.modules
    assert networks.trained is networks.kept is modules["student"].embedder
    assert not any(p.requires_grad for p in modules["teacher"].parameters())


def test_a_queue_that_meets_its_own_utterances_is_refused():
    with pytest.raises(InputError, match="n_keys is 40"):
        build(**{**MOCO, "n_keys": 40})


def test_true_speakers_give_positives_of_the_same_speaker(tmp_path):
    rows = [f"u{number},s{number % 2}" for number in range(20)]
    oracle = tmp_path / "oracle.csv"
    oracle.write_text("\n".join(["ID,spk_id", *rows]))
    positives = build(positives="oracle", oracle=str(oracle)).modules[
        "positives"
    ]
    positives.draw(None, 1)
    drawn = positives.rows.numpy()
    assert (drawn % 2 == np.arange(20) % 2).all()
    assert (drawn != np.arange(20)).all()


def test_all_views_go_through_the_embedder_as_one_batch():
    torch.manual_seed(0)
    net = ContrastiveNet(torch.nn.Linear(5, 3), torch.nn.Linear(3, 2))
    views = torch.randn(2, 4, 5)
    found = net(views)
    assert found.embeddings.shape == (2, 4, 3)
    torch.testing.assert_close(found.embeddings[1], net.embedder(views[1]))
    expected = net.projection(found.embeddings)
    torch.testing.assert_close(found.projections, expected)
