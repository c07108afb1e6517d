"""Recordings in memory: which are read, how they are stored and cut."""

import logging

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.augment.sound_bank import (
    SoundBank,
    read_folder,
    trim_response,
)
from speechbrain_ext.utils.errors import InputError

# --- cuts -------------------------------------------------------------------


def test_a_recording_shorter_than_the_cut_wraps_around():
    loud, soft = torch.tensor([0.5, -0.25, 1.0]), torch.tensor([0.02, -0.01])
    bank = SoundBank([loud, soft])
    cut = bank.cut(torch.tensor([0, 1, 1]), torch.tensor([0.7, 0.0, 0.99]), 7)
    expected = [
        torch.stack([loud[(2 + i) % 3] for i in range(7)]),
        torch.stack([soft[i % 2] for i in range(7)]),
        torch.stack([soft[(1 + i) % 2] for i in range(7)]),
    ]
    for found, wav, whole in zip(
        cut, expected, (loud, soft, soft), strict=True
    ):
        unit = wav / whole.square().mean().sqrt()
        torch.testing.assert_close(found, unit, rtol=1e-3, atol=1e-3)


def test_every_frame_of_a_recording_may_begin_a_cut():
    bank = SoundBank([torch.ones(5), torch.arange(1.0, 8.0) / 7])
    begin = (torch.arange(700).double() + 0.5) / 700
    cut = bank.cut(torch.ones(700, dtype=torch.int64), begin, 1)
    found, counts = cut.unique(return_counts=True)
    assert len(found) == 7 and (counts == 100).all()


def test_recordings_have_unit_level_at_sixteen_bits():
    generator = torch.Generator().manual_seed(0)
    wavs = [
        gain * torch.randn(2000, generator=generator)
        for gain in (1.0, 0.1, 1e-3)
    ]
    bank = SoundBank(wavs)
    assert bank.samples.dtype == torch.int16
    assert len(bank) == 3
    level = (
        bank.cut(torch.arange(3), torch.zeros(3), 2000).square().mean(1).sqrt()
    )
    torch.testing.assert_close(level, torch.ones(3), rtol=1e-3, atol=0)


def test_whole_recordings_end_in_zeros():
    wavs = [torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.25, -0.5, 0.5])]
    bank = SoundBank([*wavs, torch.ones(1)])
    assert bank.samples.numel() == 7  # ragged, nothing is padded
    found = bank.whole(torch.tensor([2, 0, 0]))
    expected = [[1.0, 0, 0, 0], [1.0, -1.0, 0, 0], [1.0, -1.0, 0, 0]]
    assert torch.equal(found, torch.tensor(expected))
    (last,) = bank.whole(torch.tensor([1]))
    unit = wavs[1] / wavs[1].square().mean().sqrt()
    torch.testing.assert_close(last, unit, rtol=1e-4, atol=1e-4)


def test_sounds_are_not_in_the_state_dict():
    assert not SoundBank([torch.ones(3)]).state_dict()


# --- impulse responses ------------------------------------------------------


def test_responses_start_at_their_direct_path():
    late = torch.zeros(200)
    late[120], late[150], late[100] = -0.8, 0.4, 0.1
    found = trim_response(late)
    assert len(found) == 31
    assert torch.equal(found, late[120:151])


@pytest.mark.parametrize("decay", [20.0, 40.0, 60.0])
def test_a_response_ends_where_its_energy_has_decayed(decay):
    # The energy left after n of exp(-t) is exp(-n).
    rir = torch.exp(-torch.arange(4000) / 200)
    found = len(trim_response(rir, decay=decay))
    assert found == pytest.approx(decay / 10 * np.log(10) * 100, abs=1)
    rir = torch.cat([torch.zeros(30), rir])
    assert len(trim_response(rir, decay=decay)) == found


def test_a_response_lasts_half_a_second_at_most():
    assert len(trim_response(torch.ones(40000))) == 8000
    assert len(trim_response(torch.ones(40000), seconds=1.0)) == 16000


def test_trimming_keeps_the_energy():
    generator = torch.Generator().manual_seed(1)
    rir = torch.randn(9000, generator=generator)
    rir *= torch.exp(-torch.arange(9000) / 500)
    rir[0] = 5.0
    kept = trim_response(rir).square().sum() / rir.square().sum()
    assert 0.9998 < kept < 1


# --- folders ----------------------------------------------------------------


def test_recordings_are_found_at_any_depth(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("x.wav", "a/y.flac", "a/b/z.WAV"):
        soundfile.write(tmp_path / name, np.full(100, 0.5), 16000)
    (tmp_path / "a" / "notes.txt").write_text("not audio")
    assert len(list(read_folder(tmp_path, 1.0))) == 3


def test_silent_recordings_are_left_out_and_named(tmp_path, caplog):
    soundfile.write(tmp_path / "silent.wav", np.zeros(100), 16000)
    soundfile.write(tmp_path / "sound.wav", np.full(100, 0.5), 16000)
    with caplog.at_level(logging.WARNING):
        assert len(list(read_folder(tmp_path, 1.0))) == 1
    assert "1 silent recordings are left out, such as" in caplog.text
    assert "silent.wav" in caplog.text


def _empty(path):
    soundfile.write(path, np.zeros(0), 16000)


def _text(path):
    path.write_text("text" * 99)


def _nan(path):
    soundfile.write(path, np.full(100, np.nan), 16000, subtype="FLOAT")


@pytest.mark.parametrize("write", [_empty, _text, _nan])
def test_a_file_that_is_no_recording_is_named(tmp_path, write):
    soundfile.write(tmp_path / "sound.wav", np.full(100, 0.5), 16000)
    write(tmp_path / "junk.wav")
    # Advice to prepare a corpus, as for speech, would not help here.
    with pytest.raises(InputError, match=r"junk\.wav: .*; delete it or unp"):
        list(read_folder(tmp_path, 1.0))


def write_seconds(folder):
    for number in range(5):
        wav = np.full(16000, (number + 1) / 8)
        soundfile.write(folder / f"{number}.wav", wav, 16000)


def test_max_hours_bounds_the_recordings(tmp_path, caplog):
    write_seconds(tmp_path)
    with caplog.at_level(logging.WARNING):
        some = list(read_folder(tmp_path, 1.5 / 3600))
    assert len(some) == 2
    assert "only 2 of 5 recordings are used" in caplog.text
    again = list(read_folder(tmp_path, 1.5 / 3600))
    assert [w[0] for w in again] == [w[0] for w in some]
    caplog.clear()
    assert len(list(read_folder(tmp_path, 1.0))) == 5
    assert not caplog.text


def test_only_trimmed_recordings_count_for_max_hours(tmp_path):
    write_seconds(tmp_path)
    found = list(read_folder(tmp_path, 1.5 / 3600, lambda wav: wav[:4000]))
    assert [len(wav) for wav in found] == [4000] * 5


@pytest.mark.parametrize("silent", [False, True])
def test_a_folder_without_sound_is_refused(tmp_path, silent):
    if silent:
        soundfile.write(tmp_path / "silent.wav", np.zeros(100), 16000)
    with pytest.raises(InputError) as caught:
        list(read_folder(tmp_path, 1.0))
    assert str(tmp_path) in str(caught.value)
    assert "--augment_folder=null" in str(caught.value)
