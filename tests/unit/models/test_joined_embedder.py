"""Joined embedders: the mean of the parts' cosines, and one folder."""

import numpy as np
import pytest
import torch
from tiny_wavlm import TINY

from speechbrain_ext.models.embedder import build_embedder, save_embedder
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.models.joined_embedder import (
    JoinedEmbedder,
    join_embedders,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.whitening import Whitening, fold_whitening_

ECAPA = {"width": 16, "width_last": 48, "embedding_size": 8}
MEAN = {"encoder_source": None, "encoder_config": TINY, "layers": [1]}


@pytest.fixture
def parts():
    torch.manual_seed(0)
    return [
        build_embedder("embedders/ecapa.yaml", ECAPA),
        build_embedder("embedders/encoder_mean.yaml", MEAN),
    ]


def test_the_cosine_is_the_mean_of_the_parts_cosines(parts):
    wavs = torch.randn(2, 8000)
    one, other = join_embedders(parts).embed(wavs)
    pairs = [part.embed(wavs) for part in parts]
    cosines = [torch.cosine_similarity(a, b, dim=0) for a, b in pairs]
    assert float(one.norm()) == pytest.approx(1, abs=1e-6)
    mean = float(sum(cosines)) / 2
    assert float(one @ other) == pytest.approx(mean, abs=1e-6)


def test_it_is_one_folder_that_needs_no_other(parts, tmp_path):
    joined = join_embedders(parts)
    save_embedder(tmp_path, joined)
    wavs = torch.randn(2, 8000)
    loaded = load_embedder(tmp_path)
    assert torch.equal(loaded.embed(wavs), joined.embed(wavs))
    # A part may be joined itself, whitened as any other.
    size = loaded.embedding_size
    found = Whitening(np.ones(size), 2 * np.eye(size))
    before = loaded.embed(wavs)
    fold_whitening_(loaded.model, found)
    assert torch.allclose(loaded.embed(wavs), 2 * (before - 1), atol=1e-5)
    assert join_embedders([loaded, parts[0]]).embedding_size == size + 8


def test_padding_is_cut(parts):
    model = join_embedders(parts).eval().model
    wavs = torch.randn(2, 8000)
    padded = torch.cat([wavs, 7 * torch.ones(2, 800)], dim=1)
    with torch.no_grad():
        found = model(padded, torch.full((2,), 8000 / 8800))
        assert torch.allclose(found, model(wavs), atol=1e-6)


def test_one_embedder_is_not_joined(parts):
    with pytest.raises(InputError, match="1 embedders; two or more"):
        JoinedEmbedder(parts[:1], 8)


def test_a_random_encoder_in_a_part_is_known(parts):
    assert join_embedders(parts).is_random
    assert not join_embedders([parts[0], parts[0]]).is_random
