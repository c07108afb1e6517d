"""Audio at any rate becomes 16 kHz mono; crops depend on the seed alone."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from odd_audio import silent, with_nan

from speechbrain_ext.dataio.audio import (
    RandomCrop,
    check_audio,
    check_crop,
    read_crop,
    read_crops,
    read_speech,
)
from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.utils.errors import InputError


def _tone(hertz, rate, seconds=1.0):
    at = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * hertz * at)


def _ramp(path, n=16000):
    """Sample i has the value i / 2**15, exactly."""
    soundfile.write(path, np.arange(n, dtype="int16"), 16000)
    return path


def test_a_crop_has_the_samples_between_its_start_and_stop(tmp_path):
    wav = read_crop(_ramp(tmp_path / "a.wav"), start=100, n_frames=50)
    assert wav.dtype == torch.float32
    assert torch.equal(wav * 2**15, torch.arange(100.0, 150.0))


def test_without_a_length_the_file_is_read_to_its_end(tmp_path):
    wav = read_crop(_ramp(tmp_path / "a.wav"), start=15990)
    assert torch.equal(wav * 2**15, torch.arange(15990.0, 16000.0))


def test_channels_are_averaged(tmp_path):
    stereo = np.stack([_tone(300, 16000), -_tone(300, 16000) / 2], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 16000, subtype="FLOAT")
    expected = stereo.astype("float32").mean(axis=1)
    np.testing.assert_array_equal(read_crop(tmp_path / "a.wav"), expected)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_other_rates_are_resampled_to_the_same_tone(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", _tone(440, rate), rate)
    wav = read_crop(tmp_path / "a.wav", 0, 16000).numpy()
    middle = slice(1000, -1000)
    expected = _tone(440, 16000)
    assert np.abs(wav[middle] - expected[middle]).max() < 5e-3


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_resampled_crop_equals_that_part_of_the_resampled_file(
    tmp_path, rate
):
    soundfile.write(tmp_path / "a.wav", _tone(440, rate), rate)
    whole = read_crop(tmp_path / "a.wav").numpy()
    crop = read_crop(tmp_path / "a.wav", 4000, 8000).numpy()
    middle = slice(500, -500)
    # Up to one sample early: a start is rounded to the file's own frames.
    gap = np.abs(crop[middle] - whole[4000:12000][middle]).max()
    assert gap < 0.5 * 2 * np.pi * 440 / 16000 * (16000 / rate)


def test_a_resampled_file_gives_every_frame_its_header_promises(tmp_path):
    for frames in (44100, 44101, 44163):
        soundfile.write(tmp_path / "a.wav", np.zeros(frames), 44100)
        stop = frames * 16000 // 44100
        assert len(read_crop(tmp_path / "a.wav", stop - 999, 999)) == 999


def test_a_file_that_ends_early_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="ends at frame 16000 .*16010 asked"):
        read_crop(_ramp(tmp_path / "a.wav"), start=15990, n_frames=20)


def test_an_unreadable_file_is_an_input_error(tmp_path):
    (tmp_path / "a.wav").write_text("text")
    with pytest.raises(InputError, match="a.wav: unreadable: Format"):
        read_crop(tmp_path / "a.wav")


SPANS = [(9000, 500), (100, 3000), (9000, 700), (15000, 1000), (2000, 1500)]


@pytest.mark.parametrize("spans", [SPANS, SPANS[::-1], SPANS[:1], []])
def test_parts_of_a_file_equal_those_read_one_by_one(tmp_path, spans):
    path = _ramp(tmp_path / "a.wav")
    found = read_crops(path, spans)
    for (start, n_frames), wav in zip(spans, found, strict=True):
        assert torch.equal(wav, read_crop(path, start, n_frames))


@pytest.mark.parametrize("rate", [8000, 44100])
def test_parts_are_resampled_in_their_places(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", _tone(440, rate), rate)
    whole = read_crop(tmp_path / "a.wav").numpy()
    spans = [(4000, 8000), (3001, 4000), (13333, 2000)]
    for (start, n_frames), wav in zip(
        spans, read_crops(tmp_path / "a.wav", spans), strict=True
    ):
        gap = np.abs(wav.numpy() - whole[start : start + n_frames])
        bound = 0.5 * 2 * np.pi * 440 / 16000 * (16000 / rate)
        assert len(wav) == n_frames and gap[500:-500].max() < bound


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_parts_of_a_compressed_file_are_those_of_the_whole(tmp_path, subtype):
    # A second seek in an open Vorbis file gives wrong samples.
    noise = np.random.default_rng(0).normal(size=128_000) / 10
    path = tmp_path / "a.ogg"
    soundfile.write(path, noise, 16000, format="OGG", subtype=subtype)
    whole = read_crop(path)
    crop = RandomCrop([32000, 32000, 16000, 16000], seed=1)
    for number in range(30):
        places = crop.positions(str(number), 128_000)
        wavs = crop(str(number), path, 0, 128_000)
        for start, wav in zip(places, wavs, strict=True):
            gap = (wav - whole[start : start + len(wav)]).abs().max()
            assert gap < 1e-3


def test_one_part_beyond_the_end_is_an_input_error(tmp_path):
    path = _ramp(tmp_path / "a.wav")
    with pytest.raises(InputError, match="ends at frame 16000 .*16010 asked"):
        read_crops(path, [(15990, 20), (5, 5)])


def test_no_frame_is_decoded_twice(tmp_path, monkeypatch):
    path = _ramp(tmp_path / "a.wav")
    read = []

    class Counted(soundfile.SoundFile):
        def read(self, *args, **options):
            start = self.tell()
            samples = super().read(*args, **options)
            read.extend(range(start, start + len(samples)))
            return samples

    monkeypatch.setattr(soundfile, "SoundFile", Counted)
    crop = RandomCrop([4000, 400, 4000, 200, 200], seed=1)
    crop("a", path, 0, 16000)
    places = zip(crop.positions("a", 16000), crop.n_frames, strict=True)
    wanted = {i for start, n in places for i in range(start, start + n)}
    assert read == sorted(wanted)
    assert len(read) < sum(crop.n_frames)


def _crops(path, epoch, seed=1, name="a"):
    crop = RandomCrop([400, 200], seed=seed)
    crop.epoch = epoch
    return torch.cat(crop(name, path, 0, 16000))


def test_crops_depend_on_seed_epoch_and_utterance(tmp_path):
    path = _ramp(tmp_path / "a.wav")
    once = _crops(path, epoch=3)
    assert torch.equal(once, _crops(path, epoch=3))
    for other in (
        _crops(path, epoch=4),
        _crops(path, epoch=3, seed=2),
        _crops(path, epoch=3, name="b"),
    ):
        assert not torch.equal(once, other)


def test_crops_do_not_depend_on_global_generators(tmp_path):
    path = _ramp(tmp_path / "a.wav")
    np.random.seed(0)
    torch.manual_seed(0)
    once = _crops(path, epoch=1)
    np.random.seed(7)
    torch.manual_seed(7)
    assert torch.equal(once, _crops(path, epoch=1))


def test_crop_positions_fill_the_whole_range_evenly():
    crop = RandomCrop([100], seed=5)
    places = [crop.positions(f"u{i}", 110)[0] for i in range(2200)]
    counts = np.bincount(places, minlength=11)
    assert len(counts) == 11 and counts.min() > 120 and counts.max() < 290


def test_crops_stay_between_start_and_stop(tmp_path):
    path = _ramp(tmp_path / "a.wav")
    crop = RandomCrop([50] * 20, seed=1)
    values = torch.cat(crop("a", path, 1000, 1100)) * 2**15
    assert values.min() >= 1000 and values.max() < 1100


def test_a_short_utterance_is_repeated_to_fill_the_crop(tmp_path):
    path = _ramp(tmp_path / "a.wav")
    (wav,) = RandomCrop([25], seed=1)("a", path, 10, 20)
    once = torch.arange(10.0, 20.0)
    assert torch.equal(wav * 2**15, torch.cat([once, once, once])[:25])


def _manifest(durations):
    rows = [
        {
            "ID": str(i),
            "duration": seconds,
            "wav": "w",
            "start": 0,
            "stop": int(seconds * 16000),
        }
        for i, seconds in enumerate(durations)
    ]
    return Manifest(pd.DataFrame(rows), "utterances")


def test_check_crop_gives_frames():
    assert check_crop(_manifest([1.0, 3.0]), 3.0, "crop") == 48000


@pytest.mark.parametrize("seconds", [3.1, 0, -1])
def test_check_crop_refuses_an_impossible_length(seconds):
    with pytest.raises(InputError, match=r"crop is .* 3\.00 s; .*--crop="):
        check_crop(_manifest([1.0, 3.0]), seconds, "crop")


def test_a_wrong_data_folder_is_named_before_any_work(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(
        "ID,duration,wav,start,stop\na,1.0,$data_root/a.wav,0,16000\n"
    )
    wrong = read_manifest(path, "utterances", tmp_path / "elsewhere")
    rule = "a: .*elsewhere/a.wav is not a file; data_folder is .*elsewhere"
    with pytest.raises(InputError, match=rule):
        check_audio(wrong)
    (tmp_path / "a.wav").touch()
    check_audio(read_manifest(path, "utterances", tmp_path))


def test_a_random_crop_names_a_file_that_is_not_finite(tmp_path):
    # Its loss was once NaN, and --lr blamed.
    crop = RandomCrop([16000, 8000], seed=1)
    path = with_nan(tmp_path / "a.wav")
    with pytest.raises(InputError, match="a.wav: not finite: .*; delete its"):
        for epoch in range(1, 20):
            crop.epoch = epoch
            crop("a", path, 0, 32000)


def test_a_crop_may_be_silent_and_an_utterance_may_not(tmp_path):
    path = silent(tmp_path / "a.wav")
    assert not read_crop(path, 0, 8000).any()
    with pytest.raises(InputError, match="a.wav: silent: .* of 0; delete its"):
        read_speech(path, 0, 8000)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_stop_beyond_the_end_is_found_before_any_work(tmp_path, rate):
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(2 * rate), rate)
    rows = [
        f"{name},2.0,$data_root/{name}.wav,0,32000\n" for name in ("a", "b")
    ]
    path = tmp_path / "train.csv"
    header = "ID,duration,wav,start,stop\n"
    path.write_text(header + "".join(rows))
    check_audio(read_manifest(path, "utterances", tmp_path))
    rows.append("c,1.0,$data_root/c.wav,17000,33000\n")
    path.write_text(header + "".join(rows))
    with pytest.raises(InputError, match="c: stop is 33000, .* sample 32000"):
        check_audio(read_manifest(path, "utterances", tmp_path))
