"""join_embedders: whitened parts side by side, in one folder."""

import numpy as np
import pandas as pd
import pytest
import torch

from recipes import join_embedders
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.inference.decision import Decision
from speechbrain_ext.inference.hub_folder import (
    read_hub_folder,
    write_hub_folder,
)
from speechbrain_ext.models.embedder import build_embedder, save_embedder
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.whitening import whitening

LEAF = "hparams/join_embedders.yaml"
ECAPA = {"width": 16, "width_last": 48, "embedding_size": 8}


@pytest.fixture
def folders(tmp_path):
    """Two embedders, and embeddings of their training utterances."""
    made = []
    for number in range(2):
        torch.manual_seed(number)
        folder = tmp_path / f"part{number}"
        embedder = build_embedder("embedders/ecapa.yaml", ECAPA)
        save_embedder(folder / "embedder", embedder)
        x = np.random.default_rng(number).normal(size=(40, 8))
        np.save(folder / "embeddings.npy", x.astype(np.float32))
        ids = [f"u{row}" for row in range(40)]
        table = pd.DataFrame({"ID": ids, "row": np.arange(40)})
        write_manifest(folder / "embeddings.csv", table, "embeddings")
        made.append(folder)
    return made


def arguments(folders, out, **others):
    models = ",".join(str(folder / "embedder") for folder in folders)
    options = {
        "embedder_folders": f"[{models}]",
        "output_folder": out,
        **others,
    }
    return [LEAF] + [f"--{key}={value}" for key, value in options.items()]


def test_whitened_parts_side_by_side(folders, tmp_path):
    given = f"[{','.join(map(str, folders))}]"
    options = {"embeddings_folders": given, "whiten": 0.5}
    command = arguments(folders, tmp_path / "out", **options)
    join_embedders.main(command)
    wavs = torch.randn(3, 8000)
    units = []
    for folder in folders:
        e = load_embedder(folder / "embedder").embed(wavs).double().numpy()
        mean, matrix = whitening(np.load(folder / "embeddings.npy"), 0.5)
        turned = (e - mean) @ matrix
        units.append(turned / np.linalg.norm(turned, axis=1, keepdims=True))
    found = load_embedder(tmp_path / "out" / "embedder").embed(wavs).numpy()
    wanted = np.hstack(units) / 2**0.5
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    # A second time it is skipped.
    path = tmp_path / "out" / "embedder" / "embedding_model.ckpt"
    before = path.stat().st_mtime_ns
    join_embedders.main(command)
    assert path.stat().st_mtime_ns == before


def test_the_published_model_is_the_joined_one(folders, tmp_path):
    """Half precision too: it is rounded once, before it is scored."""
    join_embedders.main(
        arguments(folders, tmp_path / "out", half_precision=True)
    )
    folder = tmp_path / "out" / "embedder"
    decision = Decision(10.0, -3.0, 0.5, "nothing")
    write_hub_folder(tmp_path / "hub", folder, decision, seed=1)
    published, _ = read_hub_folder(tmp_path / "hub")
    wavs = torch.randn(2, 8000)
    assert torch.equal(published.embed(wavs), load_embedder(folder).embed(wavs))


def test_bad_input_is_one_clear_error(folders, tmp_path):
    out = tmp_path / "out"
    for given, others, message in (
        (folders[:1], {}, "two or more are joined"),
        (folders, {"whiten": 0.5}, "embeddings_folders has 0 folders"),
        (folders, {"whiten": 2}, "whiten is 2; .*from 0 to 1"),
        ([*folders, tmp_path], {}, "is not an embedder folder"),
    ):
        with pytest.raises(InputError, match=message):
            join_embedders.main(arguments(given, out, **others))
    assert not (out / "embedder").exists()
