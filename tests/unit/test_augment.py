"""Augmentation: what is added, how loud, to which crop, from which seed."""

import logging

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.augment import (
    Augment,
    Bank,
    add_at_snr,
    fast_length,
    from_folder,
    read_folder,
    reverberate,
    stack_impulse_responses,
    step_generator,
)
from speechbrain_ext.files import InputError

ONLY = {
    name: [float(name == other) for other in Augment.KINDS]
    for name in Augment.KINDS
}
RANGES = {"music": (5, 15), "babble": (13, 20), "noise": (0, 15)}


def write_recordings(folder, seed, n_files=6):
    """Bursts of noise of several lengths and levels."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for number in range(n_files):
        wav = generator.normal(size=int(generator.integers(900, 9000)))
        wav *= 0.02 * 1.5**number
        soundfile.write(folder / f"{number}.wav", wav, 16000, subtype="FLOAT")


def write_rooms(folder, n_files=6):
    """Impulse responses: silence, a direct path, a tail."""
    folder.mkdir()
    generator = np.random.default_rng(9)
    for number in range(n_files):
        rir = generator.normal(size=600) * np.exp(-np.arange(600) / 100) / 5
        rir = np.concatenate([np.zeros(30 * number), [1.0], rir])
        soundfile.write(folder / f"{number}.wav", rir, 16000, subtype="FLOAT")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("augment")
    for seed, kind in enumerate(("noise", "music", "speech")):
        write_recordings(folder / kind, seed)
    write_rooms(folder / "rir")
    return folder


def crops(n_crops, n_frames=4000):
    """Noise at levels from -60 to 0 dB."""
    generator = torch.Generator().manual_seed(0)
    wavs = torch.randn(n_crops, n_frames, generator=generator)
    return wavs * torch.logspace(-3, 0, n_crops)[:, None]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def decibels(signal, noise):
    ratio = signal.double().square().mean(1) / noise.double().square().mean(1)
    return 10 * ratio.log10()


# --- reverberation ----------------------------------------------------------


def test_reverberation_is_convolution_at_equal_energy():
    wavs, rirs = crops(3, 500), torch.randn(3, 70)
    wet = reverberate(wavs, rirs)
    for dry, rir, found in zip(
        wavs.numpy(), rirs.numpy(), wet.numpy(), strict=True
    ):
        expected = np.convolve(dry, rir)[: len(dry)]
        expected *= np.sqrt(np.sum(dry**2) / np.sum(expected**2))
        np.testing.assert_allclose(
            found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max()
        )


def test_a_response_longer_than_the_crop_does_not_wrap_around():
    wavs, rirs = torch.zeros(1, 50), torch.zeros(1, 300)
    wavs[0, 10] = rirs[0, 0] = rirs[0, 45] = rirs[0, 299] = 1.0
    wet = reverberate(wavs, rirs)[0]
    assert wet[10] == pytest.approx(1, abs=1e-5)
    assert wet[:10].abs().max() < 1e-5 and wet[11:].abs().max() < 1e-5


def test_responses_start_at_their_direct_path_with_unit_energy():
    late = torch.zeros(200)
    late[120], late[150], late[100] = -0.8, 0.4, 0.1
    stack = stack_impulse_responses([late, torch.ones(1)])
    assert stack.shape == (2, 80)
    torch.testing.assert_close(stack.square().sum(1), torch.ones(2))
    assert stack[0, 0] == stack[0].abs().max() * -1
    assert stack[0, 30] == pytest.approx(-stack[0, 0].item() / 2)


def test_a_tail_ends_after_a_second():
    assert stack_impulse_responses([torch.ones(40000)]).shape == (1, 16000)


def test_a_delayed_impulse_changes_nothing(tmp_path, folder):
    for kind in ("noise", "music", "speech"):
        (tmp_path / kind).symlink_to(folder / kind)
    (tmp_path / "rir").mkdir()
    impulse = np.zeros(500)
    impulse[321] = 0.25
    soundfile.write(tmp_path / "rir" / "a.wav", impulse, 16000)
    wavs = crops(4)
    out = Augment(tmp_path, ONLY["rir"])(wavs, seeded())
    torch.testing.assert_close(out, wavs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 7, 16, 17, 97, 4097, 48000])
def test_transforms_have_the_least_good_length(length):
    good = {2**p * odd for p in range(17) for odd in (1, 3, 5)}
    assert fast_length(length) == min(n for n in good if n >= length)


# --- additive noise ---------------------------------------------------------


@pytest.mark.parametrize("kind", RANGES)
def test_the_ratio_of_what_was_added_is_in_its_range(folder, kind):
    low, high = RANGES[kind]
    wavs = crops(150)
    out = Augment(folder, ONLY[kind])(wavs, seeded())
    found = decibels(wavs, out - wavs)
    assert low - 0.1 < found.min() < low + 1
    assert high - 1 < found.max() < high + 0.1


def test_ranges_can_be_set(folder):
    augment = Augment(folder, ONLY["noise"], noise_snr=(30, 30))
    wavs = crops(20)
    found = decibels(wavs, augment(wavs, seeded()) - wavs)
    torch.testing.assert_close(
        found, torch.full_like(found, 30), rtol=0, atol=0.1
    )


def test_noise_is_added_to_reverberated_speech(folder, tmp_path):
    for kind in ("noise", "music", "speech"):
        (tmp_path / kind).symlink_to(folder / kind)
    write_rooms(tmp_path / "rir", n_files=1)
    augment = Augment(tmp_path, ONLY["noise"], reverb_too=1.0)
    wavs = crops(50)
    wet = reverberate(wavs, augment.rirs.expand(50, -1))
    assert decibels(wavs, wet - wavs).max() < 10
    found = decibels(wet, augment(wavs, seeded()) - wet)
    assert -0.1 < found.min() and found.max() < 15.1


def test_silence_stays_silent_and_finite(folder):
    for kind in ("rir", "music", "babble", "noise"):
        out = Augment(folder, ONLY[kind])(torch.zeros(3, 1000), seeded())
        assert torch.equal(out, torch.zeros(3, 1000)), kind
    noisy = add_at_snr(torch.ones(1, 5), torch.zeros(1, 5), torch.zeros(1))
    assert torch.equal(noisy, torch.ones(1, 5))


def test_a_babble_has_three_to_eight_talkers(folder, monkeypatch):
    augment = Augment(folder, ONLY["babble"])
    cut, talkers = augment.speech.cut, []

    def counted(which, offset, n_frames):
        talkers.append(len(which))
        return cut(which, offset, n_frames)

    monkeypatch.setattr(augment.speech, "cut", counted)
    generator = seeded()
    for _ in range(80):
        augment(crops(1, 100), generator)
    assert set(talkers) == {3, 4, 5, 6, 7, 8}


def test_talkers_of_a_babble_stay_with_their_crop(folder, monkeypatch):
    augment = Augment(folder, ONLY["babble"])
    made = []
    cut = augment.speech.cut

    def kept(which, offset, n_frames):
        made.append(cut(which, offset, n_frames))
        return made[-1]

    monkeypatch.setattr(augment.speech, "cut", kept)
    wavs = crops(2, 300)
    added = augment(wavs, seeded()) - wavs
    added = added / added.norm(dim=1, keepdim=True)
    (talkers,) = made
    fits = []
    for n_first in range(1, len(talkers)):
        pair = talkers[:n_first].sum(0), talkers[n_first:].sum(0)
        sums = torch.nn.functional.normalize(torch.stack(pair), dim=1)
        fits.append((sums * added).sum(1).min())
    assert max(fits) > 0.999
    assert sorted(fits)[-2] < 0.99


# --- what is drawn ----------------------------------------------------------


def test_clean_crops_are_the_input(folder):
    wavs = crops(5)
    out = Augment(folder, ONLY["clean"])(wavs, seeded())
    assert torch.equal(out, wavs)
    assert out.data_ptr() != wavs.data_ptr()


def test_the_input_is_left_alone(folder):
    wavs = crops(30)
    before = wavs.clone()
    assert not torch.equal(Augment(folder)(wavs, seeded()), before)
    assert torch.equal(wavs, before)


@pytest.mark.parametrize("kind", ["rir", "music", "babble", "noise"])
def test_crops_of_one_call_are_drawn_for_on_their_own(folder, kind):
    wavs = crops(1).expand(12, -1)
    added = Augment(folder, ONLY[kind])(wavs, seeded()) - wavs
    added = added / added.norm(dim=1, keepdim=True)
    alike = (added @ added.T).triu(1).abs() > 0.99
    if kind == "rir":  # six rooms for twelve crops
        n_distinct = 12 - int(alike.any(0).sum())
        assert 4 <= n_distinct <= 6
    else:
        assert not alike.any()


def test_kinds_come_as_often_as_they_weigh(folder):
    wavs = crops(400, 200)
    out = Augment(folder, [3, 0, 0, 0, 1])(wavs, seeded())
    n_clean = int((out == wavs).all(dim=1).sum())
    assert 270 < n_clean < 330


def test_the_same_seed_gives_the_same_crops(folder):
    augment, wavs = Augment(folder, reverb_too=0.5), crops(20)
    first = augment(wavs, seeded(1))
    assert torch.equal(Augment(folder, reverb_too=0.5)(wavs, seeded(1)), first)
    assert not torch.equal(augment(wavs, seeded(2)), first)


def test_global_randomness_is_neither_used_nor_moved(folder):
    augment, wavs = Augment(folder, reverb_too=0.5), crops(20)
    torch.manual_seed(3)
    first = augment(wavs, seeded(1))
    state = torch.get_rng_state()
    augment(wavs, seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    assert torch.equal(augment(wavs, seeded(1)), first)


def test_no_crop_leaks_into_another(folder):
    augment, wavs = Augment(folder, reverb_too=0.5), crops(20)
    others = 100 * torch.randn(wavs.shape, generator=seeded(5))
    out = augment(wavs, seeded(1))
    for kept in (0, 7, 19):
        mixed = others.clone()
        mixed[kept] = wavs[kept]
        found = augment(mixed, seeded(1))[kept]
        torch.testing.assert_close(found, out[kept], rtol=1e-6, atol=1e-6)


def test_nothing_of_it_is_trained_or_differentiated(folder):
    augment = Augment(folder)
    wavs = crops(10).requires_grad_()
    assert not augment(wavs, seeded()).requires_grad
    assert not list(augment.parameters())


def test_steps_and_processes_draw_differently_and_again_the_same():
    keys = [(1, 7, 0), (2, 7, 0), (1, 8, 0), (1, 7, 1)]
    drawn = [torch.rand(4, generator=step_generator(*key)) for key in keys]
    again = [torch.rand(4, generator=step_generator(*key)) for key in keys]
    for a in range(4):
        assert torch.equal(drawn[a], again[a])
        for b in range(a):
            assert not torch.equal(drawn[a], drawn[b])


# --- recordings -------------------------------------------------------------


def test_a_recording_shorter_than_the_crop_starts_again():
    loud, soft = torch.tensor([0.5, -0.25, 1.0]), torch.tensor([0.02, -0.01])
    bank = Bank([loud, soft])
    cut = bank.cut(torch.tensor([0, 1, 1]), torch.tensor([2, 0, 5]), 7)
    expected = [
        torch.stack([loud[(2 + i) % 3] for i in range(7)]),
        torch.stack([soft[i % 2] for i in range(7)]),
        torch.stack([soft[(5 + i) % 2] for i in range(7)]),
    ]
    for found, wav, whole in zip(
        cut, expected, (loud, soft, soft), strict=True
    ):
        unit = wav / whole.square().mean().sqrt()
        torch.testing.assert_close(found, unit, rtol=1e-3, atol=1e-3)


def test_recordings_have_unit_level_at_sixteen_bits():
    generator = seeded()
    wavs = [
        gain * torch.randn(2000, generator=generator)
        for gain in (1.0, 0.1, 1e-3)
    ]
    bank = Bank(wavs)
    assert bank.samples.dtype == torch.int16
    assert len(bank) == 3
    cut = bank.cut(torch.arange(3), torch.zeros(3, dtype=torch.long), 2000)
    level = cut.square().mean(1).sqrt()
    torch.testing.assert_close(level, torch.ones(3), rtol=1e-3, atol=0)


def test_recordings_are_found_at_any_depth(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("x.wav", "a/y.flac", "a/b/z.WAV"):
        soundfile.write(tmp_path / name, np.full(100, 0.5), 16000)
    (tmp_path / "a" / "notes.txt").write_text("not audio")
    assert len(read_folder(tmp_path, 1.0)) == 3


def test_silent_recordings_are_left_out(tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(100), 16000)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "sound.wav", np.full(100, 0.5), 16000)
    assert len(read_folder(tmp_path, 1.0)) == 1


def test_no_more_hours_are_held_than_asked_for(tmp_path, caplog):
    for number in range(5):
        wav = np.full(16000, (number + 1) / 8)
        soundfile.write(tmp_path / f"{number}.wav", wav, 16000)
    with caplog.at_level(logging.WARNING):
        some = read_folder(tmp_path, 1.5 / 3600)
    assert len(some) == 2
    assert "only 2 of 5 recordings are used" in caplog.text
    again = read_folder(tmp_path, 1.5 / 3600)
    assert [w[0] for w in again] == [w[0] for w in some]
    caplog.clear()
    assert len(read_folder(tmp_path, 1.0)) == 5
    assert not caplog.text


@pytest.mark.parametrize("silent", [False, True])
def test_a_folder_without_sound_is_refused(tmp_path, silent):
    if silent:
        soundfile.write(tmp_path / "silent.wav", np.zeros(100), 16000)
    with pytest.raises(InputError) as caught:
        read_folder(tmp_path, 1.0)
    assert str(tmp_path) in str(caught.value)
    assert "--augment_folder=null" in str(caught.value)


@pytest.mark.parametrize("missing", ["noise", "music", "speech", "rir"])
def test_a_missing_kind_is_named(folder, tmp_path, missing):
    for kind in {"noise", "music", "speech", "rir"} - {missing}:
        (tmp_path / kind).symlink_to(folder / kind)
    with pytest.raises(InputError, match=missing):
        Augment(tmp_path)


@pytest.mark.parametrize(
    "weights",
    [[1, 1, 1, 1], [1, 1, 1, 1, -1], [0, 0, 0, 0, 0], [1, 1, 1, 1, np.nan]],
)
def test_bad_probabilities_are_refused(folder, weights):
    with pytest.raises(InputError) as caught:
        Augment(folder, weights)
    assert str(weights) in str(caught.value)


def test_without_a_folder_there_is_no_augmentation(folder, caplog):
    with caplog.at_level(logging.WARNING):
        assert from_folder(Augment, None) is None
    assert "training without augmentation" in caplog.text
    assert isinstance(from_folder(Augment, folder), Augment)
