"""Views: the crops of an utterance, and the teacher's of a positive."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import training_leaf

from speechbrain_ext.dataio.audio import RandomCrop
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.training.views import ViewData, augment_views, crop_lengths


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Three utterances, each of one value throughout."""
    folder = tmp_path_factory.mktemp("wavs")
    rows = []
    for number in range(3):
        wav = np.full(4000, (number + 1) / 8)
        soundfile.write(folder / f"{number}.wav", wav, 16000)
        rows.append(
            {
                "ID": f"u{number}",
                "duration": 0.25,
                "wav": f"$data_root/{number}.wav",
                "start": 0,
                "stop": 4000,
            }
        )
    return Manifest(pd.DataFrame(rows), "utterances", str(folder))


def test_crops_are_the_utterances_own(manifest):
    data = ViewData(manifest, RandomCrop([800, 800, 400], seed=0), 2)
    item = data[1]
    assert item.keys() == {"id", "global_crops", "local_crops"}
    assert item["id"] == "u1"
    assert item["global_crops"].shape == (2, 800)
    assert item["local_crops"].shape == (1, 400)
    assert item["global_crops"].unique().tolist() == [0.25]


def test_without_local_crops_there_are_none(manifest):
    item = ViewData(manifest, RandomCrop([800, 800], seed=0), 2)[0]
    assert item.keys() == {"id", "global_crops"}


def test_crops_of_a_positive_differ_from_those_of_its_own_batch(
    manifest, monkeypatch
):
    crop = RandomCrop([800, 800, 400], seed=0)
    data = ViewData(manifest, crop, 2)
    data.use_positives(np.array([2, 0, 2]))
    items = [data[row] for row in range(3)]
    values = [item["positive_crops"].unique().tolist() for item in items]
    assert values == [[0.375], [0.125], [0.375]]
    assert items[0]["positive_crops"].shape == (2, 800)
    assert items[0]["global_crops"].unique().tolist() == [0.125]
    places = []
    monkeypatch.setattr(
        RandomCrop,
        "positions",
        lambda self, name, length: (
            places.append(name) or [0, 0, 0][: len(self.n_frames)]
        ),
    )
    data[2]
    assert len(set(places)) == 2


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, [3200, 3200, 1600]),
        ({"n_local": 0, "local_crop": 9.0}, [3200, 3200]),
        ({"n_global": 1}, [3200, 1600]),
    ],
)
def test_lengths_are_in_samples_global_ones_first(manifest, changes, found):
    crops = {"n_local": 1, "global_crop": 0.2, "local_crop": 0.1}
    leaf = training_leaf.read("train_dino_ecapa", **{**crops, **changes})
    assert crop_lengths(leaf.settings, manifest) == found


def test_views_are_the_same_with_and_without_loader_workers(manifest):
    data = ViewData(manifest, RandomCrop([800, 400], seed=3), 1)
    data.use_positives(np.array([1, 2, 0]))
    alone = [data[row]["positive_crops"] for row in range(3)]
    loader = torch.utils.data.DataLoader(data, batch_size=3, num_workers=2)
    batch = next(iter(loader))["positive_crops"]
    assert torch.equal(batch, torch.stack(alone))


def test_each_crop_is_augmented_by_its_own_key():
    views = {"global": torch.zeros(2, 3, 5), "local": torch.zeros(4, 3, 2)}
    keys = np.arange(3 * 6).reshape(3, 6)

    def marked(wavs, keys):
        return wavs + torch.from_numpy(keys)[:, None]

    found = augment_views(views, marked, keys)
    for name, first in (("global", 0), ("local", 2)):
        assert found[name].shape == views[name].shape
        for view, crops in enumerate(found[name]):
            for utterance, crop in enumerate(crops):
                assert crop.unique().item() == keys[utterance, first + view]
