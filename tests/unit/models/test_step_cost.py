"""Cost of an embedder: what is measured, and what is counted."""

import json

import pytest
from tiny_wavlm import TINY

from speechbrain_ext.models.embedder import build_embedder
from speechbrain_ext.models.step_cost import (
    count_weights,
    measure_cost,
    random_like,
)

MHFA = "embedders/encoder_mhfa.yaml"
SMALL = {"n_heads": 2, "compression_size": 4, "embedding_size": 8}


def weights(embedder):
    return sum(p.numel() for p in embedder.parameters())


@pytest.fixture(scope="module")
def embedder():
    changes = {**SMALL, "encoder_source": None, "encoder_config": TINY}
    return build_embedder(MHFA, changes)


def test_frozen_weights_are_not_trained(embedder):
    cost = measure_cost(embedder, crop=0.6, batch_size=2, budget=0.2)
    assert cost.n_weights == weights(embedder)
    assert 0 < cost.n_trained < cost.n_weights
    assert cost.embedding_size == 8
    assert 0 < cost.embed_seconds < cost.train_seconds
    assert cost.train_bytes > 0


def test_bytes_kept_do_not_depend_on_the_batch(embedder):
    few, many = (
        measure_cost(embedder, crop=0.4, batch_size=size, budget=60)
        for size in (2, 8)
    )
    assert many.train_bytes == pytest.approx(few.train_bytes, rel=0.2)


def test_a_pre_trained_encoder_is_replaced_by_a_random_one(tmp_path, embedder):
    config = {"model_type": "wavlm", **TINY, "torch_dtype": "float32"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    changes = {**SMALL, "encoder_source": str(tmp_path)}
    found = random_like(MHFA, changes)
    assert found.is_random
    assert weights(found) == weights(embedder)
    counted = count_weights(MHFA, changes)
    assert counted == (weights(embedder), 8)
    first = count_weights(MHFA, {**changes, "n_layers": 1})
    assert first is not None and first.n_weights < counted.n_weights
