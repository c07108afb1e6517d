"""whiten_embedder: the new embedder gives whitened embeddings."""

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from tiny_wavlm import TINY as CONFIG

from recipes import whiten_embedder
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.inference.decision import Decision
from speechbrain_ext.inference.hub_folder import (
    read_hub_folder,
    write_hub_folder,
)
from speechbrain_ext.models.embedder import build_embedder, save_embedder
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.models.settings import MODEL
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.whitening import whitening

LEAF = "hparams/whiten_embedder.yaml"
ECAPA = {"width": 16, "width_last": 48, "embedding_size": 8}
TINY = {
    "encoder_source": None,
    "encoder_config": {
        **CONFIG,
        "conv_dim": [16, 16],
        "num_conv_pos_embeddings": 16,
    },
    "embedding_size": 8,
}
EMBEDDERS = {
    "ecapa": ECAPA,
    "encoder_mhfa": {**TINY, "n_heads": 4},
    "encoder_ecapa": {**TINY, "width": 16, "width_last": 48},
}


def arguments(folder, **others):
    options = {
        "embedder_folder": folder / "embedder",
        "embeddings_folder": folder,
        "output_folder": folder / "out",
        **others,
    }
    return [LEAF] + [f"--{key}={value}" for key, value in options.items()]


def save_embeddings(folder, dimension=8):
    x = np.random.default_rng(0).normal(size=(40, dimension)) + 2
    x = (x * np.exp(-np.arange(dimension))).astype(np.float32)
    np.save(folder / "embeddings.npy", x)
    ids = [f"u{row}" for row in range(40)]
    table = pd.DataFrame({"ID": ids, "row": np.arange(40)})
    write_manifest(folder / "embeddings.csv", table, "embeddings")
    return x


@pytest.mark.parametrize("name", sorted(EMBEDDERS))
def test_the_new_embedder_gives_whitened_embeddings(tmp_path, name):
    torch.manual_seed(0)
    embedder = build_embedder(f"hparams/embedders/{name}.yaml", EMBEDDERS[name])
    save_embedder(tmp_path / "embedder", embedder)
    x = save_embeddings(tmp_path)
    whiten_embedder.main(arguments(tmp_path, whiten=0.75))
    wavs = torch.randn(3, 8000)
    mean, matrix = whitening(x, 0.75)
    wanted = (embedder.embed(wavs).double().numpy() - mean) @ matrix
    found = load_embedder(tmp_path / "out" / "embedder").embed(wavs).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    assert not np.allclose(found, embedder.embed(wavs).numpy(), atol=0.1)
    # A second time it is skipped.
    path = tmp_path / "out" / "embedder" / "embedding_model.ckpt"
    before = path.stat().st_mtime_ns
    whiten_embedder.main(arguments(tmp_path, whiten=0.75))
    assert path.stat().st_mtime_ns == before


def test_half_precision_is_kept_until_it_is_published(tmp_path):
    """Weights are rounded before scoring: the published are the scored ones."""
    torch.manual_seed(0)
    embedder = build_embedder("hparams/embedders/ecapa.yaml", ECAPA)
    save_embedder(tmp_path / "embedder", embedder)
    save_embeddings(tmp_path)
    sizes = []
    for half in (False, True):
        out = tmp_path / f"out{half}"
        options = {"half_precision": half, "output_folder": out}
        whiten_embedder.main(arguments(tmp_path, **options))
        sizes.append((out / "embedder" / MODEL).stat().st_size)
    # The rest is the archive.
    assert sizes[1] < 0.7 * sizes[0]
    decision = Decision(10.0, -3.0, 0.5, "nothing")
    write_hub_folder(tmp_path / "hub", out / "embedder", decision, seed=1)
    stored = safetensors.torch.load_file(tmp_path / "hub" / "model.safetensors")
    kinds = {x.dtype for x in stored.values() if x.is_floating_point()}
    assert kinds == {torch.float16}
    wavs = torch.randn(2, 8000)
    scored = load_embedder(out / "embedder").embed(wavs)
    assert scored.dtype == torch.float32
    published, _ = read_hub_folder(tmp_path / "hub")
    assert torch.equal(published.embed(wavs), scored)


def test_a_weight_that_half_precision_cannot_hold_is_named(tmp_path):
    embedder = build_embedder("hparams/embedders/ecapa.yaml", ECAPA)
    with torch.no_grad():
        embedder.model.fc.conv.bias[0] = 7e4
    with pytest.raises(InputError, match="fc.conv.bias reaches 7e"):
        save_embedder(tmp_path / "embedder", embedder, half_precision=True)


@pytest.mark.parametrize(
    ("dimension", "options", "message"),
    [
        (7, {}, "linear layer of 7 outputs"),
        (8, {"whiten": 2}, "whiten is 2; .*from 0 to 1"),
        (8, {"embedder_folder": "nowhere"}, "nowhere is not an embedder"),
        (8, {"embeddings_folder": "nowhere"}, "nowhere"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, dimension, options, message):
    embedder = build_embedder("hparams/embedders/ecapa.yaml", ECAPA)
    save_embedder(tmp_path / "embedder", embedder)
    save_embeddings(tmp_path, dimension)
    with pytest.raises(InputError, match=message):
        whiten_embedder.main(arguments(tmp_path, **options))
    assert not (tmp_path / "out" / "embedder").exists()
