"""Pairs of crops: where they lie, what is embedded, what they must not tell."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tiny_whisper import TINY

from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.models.crop_pairs import (
    CropPairs,
    embed_crop_pairs,
    rows_with_pairs,
)
from speechbrain_ext.models.embedder import WaveEmbedder
from speechbrain_ext.models.layer_means import RawStatistics
from speechbrain_ext.models.speech_encoder import RawWaveform, SpeechEncoder
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.keyed_random import crop_keys
from speechbrain_ext.utils.whitening import whiten_together
from speechbrain_ext.verification.pair_eer import pair_eer

N_FRAMES = 3200


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Noise of many lengths, in which there is no speaker."""
    folder = tmp_path_factory.mktemp("wavs")
    generator = np.random.default_rng(0)
    rows = []
    for number, length in enumerate(generator.integers(4800, 15000, 60)):
        wav = 0.1 * generator.normal(size=100 + length)
        path = str(folder / f"{number}.wav")
        soundfile.write(path, wav, 16000)
        place = {"start": 100, "stop": 100 + int(length)}
        seconds = length / 16000
        rows.append(
            {"ID": f"u{number}", "duration": seconds, "wav": path, **place}
        )
    return Manifest(pd.DataFrame(rows), "utterances", str(folder))


class Ends(torch.nn.Module):
    """First and last sample: they show where a crop was cut."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x[:, [0, -1]]


def unchanged(wavs, keys):
    return wavs


def test_only_utterances_as_long_as_two_crops_are_drawn(manifest):
    lengths = manifest.stop - manifest.start
    rows = rows_with_pairs(manifest, N_FRAMES, 1000, seed=1)
    assert set(rows) == set(np.flatnonzero(lengths >= 2 * N_FRAMES))
    assert 0 < len(rows) < len(manifest)
    few = rows_with_pairs(manifest, N_FRAMES, 5, seed=1)
    assert few.tolist() == rows[:5].tolist()
    assert rows_with_pairs(manifest, N_FRAMES, 5, 2).tolist() != few.tolist()


def test_crops_of_an_utterance_do_not_overlap_and_lie_within_it(manifest):
    rows = rows_with_pairs(manifest, N_FRAMES, 1000, seed=1)
    pairs = CropPairs(manifest, rows.tolist(), N_FRAMES, seed=1)
    for index, row in enumerate(rows):
        name, crops = pairs[index]
        entry = manifest[name]
        assert name == manifest.ids[row]
        whole = read_crop(entry["wav"]).numpy()
        begins = []
        for crop in crops.numpy():
            windows = np.lib.stride_tricks.sliding_window_view(whole, N_FRAMES)
            (begin,) = np.flatnonzero((windows == crop).all(axis=1))
            begins.append(int(begin))
        assert entry["start"] <= begins[0]
        assert begins[0] + N_FRAMES <= begins[1]
        assert begins[1] + N_FRAMES <= entry["stop"]


@pytest.mark.parametrize("seconds", [0.5, 100])
def test_each_crop_is_embedded_clean_and_augmented_by_its_key(
    manifest, seconds
):
    rows = rows_with_pairs(manifest, N_FRAMES, 7, seed=1)
    pairs = CropPairs(manifest, rows.tolist(), N_FRAMES, seed=1)
    ends = WaveEmbedder(RawWaveform(), RawWaveform(), Ends())

    def louder(wavs, keys):
        return wavs * torch.from_numpy(1 + keys % 7).float()[:, None]

    found = embed_crop_pairs(ends, pairs, louder, seconds, quiet=True)
    for index, row in enumerate(rows):
        keys = crop_keys(1, 0, [manifest.ids[row]], 2)[0]
        for view, crop in enumerate(pairs[index][1]):
            wanted = crop[[0, -1]].numpy()
            factor = np.float32(1 + keys[view] % 7)
            for name, times in (("clean", 1), ("augmented", factor)):
                np.testing.assert_allclose(
                    found[name][view, index], wanted * times, rtol=1e-6
                )


def test_an_embedding_that_is_not_finite_names_its_utterance(manifest):
    pairs = CropPairs(manifest, [3, 5], 2400, seed=1)
    ends = WaveEmbedder(RawWaveform(), RawWaveform(), Ends())
    with pytest.raises(InputError, match="u3: its embedding is not finite; "):
        embed_crop_pairs(
            ends, pairs, lambda wavs, keys: wavs * torch.inf, quiet=True
        )


def test_halves_tell_an_utterance_by_its_length_and_equal_crops_do_not(
    manifest,
):
    """Whisper adds positions, of which the average is a function of length."""
    torch.manual_seed(0)
    model = RawStatistics(SpeechEncoder(config=TINY).eval(), [0])
    embedder = WaveEmbedder(RawWaveform(), RawWaveform(), model)
    halves = []
    for name in manifest.ids:
        entry = manifest[name]
        half = (entry["stop"] - entry["start"]) // 2
        starts = entry["start"], entry["start"] + half
        wavs = [read_crop(entry["wav"], start, half) for start in starts]
        halves.append(embedder.embed(torch.stack(wavs))[:, 1:].numpy())
    found = whiten_together(np.swapaxes(halves, 0, 1), 0.5)
    assert pair_eer(*found) < 0.25
    rows = rows_with_pairs(manifest, 2400, 1000, seed=1)
    pairs = CropPairs(manifest, rows.tolist(), 2400, seed=1)
    vectors = embed_crop_pairs(embedder, pairs, unchanged, quiet=True)
    found = whiten_together(vectors["clean"][..., 1:], 0.5)
    assert pair_eer(*found) > 0.35
