"""Augmentation: what is added, how loud, to which crop, from which seed."""

import inspect
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml

from speechbrain_ext.augment import augmenter
from speechbrain_ext.augment.augmenter import (
    Augment,
    add_at_snr,
    fast_length,
    from_folder,
    reverberate,
)
from speechbrain_ext.utils.devices import moved_together
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.keyed_random import crop_keys

ONLY = {
    name: [float(name == other) for other in Augment.KINDS]
    for name in Augment.KINDS
}
RANGES = {"music": (5, 15), "babble": (13, 20), "noise": (0, 15)}
MINIVOX = Path(__file__).parents[4] / "shared" / "data" / "minivox" / "augment"


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


@pytest.fixture(scope="module")
def minirooms(tmp_path_factory):
    """Many short rooms and noises."""
    folder = tmp_path_factory.mktemp("minirooms")
    for seed, kind in enumerate(("noise", "music", "speech")):
        write_recordings(folder / kind, seed, n_files=6)
    write_rooms(folder / "rir", n_files=40)
    return folder


def crops(n_crops, n_frames=4000):
    """Noise at levels from -60 to 0 dB."""
    generator = torch.Generator().manual_seed(0)
    wavs = torch.randn(n_crops, n_frames, generator=generator)
    return wavs * torch.logspace(-3, 0, n_crops)[:, None]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def keys_of(n_crops):
    """Keys as poor as a counter."""
    return np.arange(n_crops, dtype=np.uint64)


def close(found, expected, tolerance=1e-6):
    """Equal, to the level of each crop."""
    gap = (found - expected).abs().amax(dim=1)
    return bool((gap <= tolerance * expected.abs().amax(dim=1)).all())


def even(values, n_bins):
    """Whether 0..n_bins-1, rounded down, come equally often."""
    counts = np.bincount(np.floor(values).astype(int), minlength=n_bins)
    expected = len(values) / n_bins
    # Six standard deviations of a count.
    gap = np.abs(counts - expected).max()
    return len(counts) == n_bins and gap < 6 * np.sqrt(expected)


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
def test_fft_lengths_are_the_smallest_fast_ones(length):
    good = {2**p * odd for p in range(17) for odd in (1, 3, 5)}
    assert fast_length(length) == min(n for n in good if n >= length)


# --- additive noise ---------------------------------------------------------


@pytest.mark.parametrize("kind", RANGES)
def test_signal_to_noise_ratios_are_in_their_range(folder, kind):
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
    augment = Augment(tmp_path, ONLY["noise"], reverb_prob=1.0)
    wavs = crops(50)
    rir = augment.rirs.whole(torch.zeros(50, dtype=torch.int64))
    wet = reverberate(wavs, rir)
    assert decibels(wavs, wet - wavs).max() < 10
    found = decibels(wet, augment(wavs, seeded()) - wet)
    assert -0.1 < found.min() and found.max() < 15.1


def test_silence_stays_silent_and_finite(folder):
    for kind in ("rir", "music", "babble", "noise"):
        out = Augment(folder, ONLY[kind])(torch.zeros(3, 1000), seeded())
        assert torch.equal(out, torch.zeros(3, 1000)), kind
    noisy = add_at_snr(torch.ones(1, 5), torch.zeros(1, 5), torch.zeros(1))
    assert torch.equal(noisy, torch.ones(1, 5))


def test_a_babble_is_the_sum_of_its_own_talkers(folder):
    augment, wavs = Augment(folder, ONLY["babble"]), crops(8, 300)
    keys = keys_of(8)
    added = augment.by_keys(wavs, keys) - wavs
    draws = augment.draw(keys)
    assert len(set(draws.n_sounds)) > 2
    for row in range(8):
        n_talkers = draws.n_sounds[row]
        assert 3 <= n_talkers <= 8
        expected = torch.zeros(300)
        for sound, begin in zip(
            draws.sound[row, :n_talkers],
            draws.begin[row, :n_talkers],
            strict=True,
        ):
            expected += augment.speech.cut(
                torch.tensor([sound]), torch.tensor([begin]), 300
            )[0]
        fit = torch.nn.functional.cosine_similarity(added[row], expected, 0)
        assert fit > 0.999


# --- what is drawn ----------------------------------------------------------


def test_clean_crops_are_the_input(folder):
    wavs = crops(5)
    out = Augment(folder, ONLY["clean"])(wavs, seeded())
    assert torch.equal(out, wavs)
    assert out.data_ptr() != wavs.data_ptr()


def test_the_input_is_not_changed(folder):
    wavs = crops(30)
    before = wavs.clone()
    assert not torch.equal(Augment(folder)(wavs, seeded()), before)
    assert torch.equal(wavs, before)


@pytest.mark.parametrize("kind", ["rir", "music", "babble", "noise"])
def test_crops_of_one_call_are_drawn_independently(folder, kind):
    wavs = crops(1).expand(12, -1)
    added = Augment(folder, ONLY[kind])(wavs, seeded()) - wavs
    added = added / added.norm(dim=1, keepdim=True)
    alike = (added @ added.T).triu(1).abs() > 0.99
    if kind == "rir":  # six rooms for twelve crops
        n_distinct = 12 - int(alike.any(0).sum())
        assert 4 <= n_distinct <= 6
    else:
        assert not alike.any()


def test_kinds_are_as_frequent_as_their_weights(folder):
    wavs = crops(400, 200)
    out = Augment(folder, [3, 0, 0, 0, 1])(wavs, seeded())
    n_clean = int((out == wavs).all(dim=1).sum())
    assert 270 < n_clean < 330


def test_the_same_seed_gives_the_same_crops(folder):
    augment, wavs = Augment(folder, reverb_prob=0.5), crops(20)
    first = augment(wavs, seeded(1))
    assert torch.equal(Augment(folder, reverb_prob=0.5)(wavs, seeded(1)), first)
    assert not torch.equal(augment(wavs, seeded(2)), first)


def test_the_global_random_state_is_neither_used_nor_changed(folder):
    augment, wavs = Augment(folder, reverb_prob=0.5), crops(20)
    torch.manual_seed(3)
    first = augment(wavs, seeded(1))
    state = torch.get_rng_state()
    augment(wavs, seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    assert torch.equal(augment(wavs, seeded(1)), first)


def test_no_crop_leaks_into_another(folder):
    augment, wavs = Augment(folder, reverb_prob=0.5), crops(20)
    others = 100 * torch.randn(wavs.shape, generator=seeded(5))
    out = augment(wavs, seeded(1))
    for kept in (0, 7, 19):
        mixed = others.clone()
        mixed[kept] = wavs[kept]
        found = augment(mixed, seeded(1))[kept]
        torch.testing.assert_close(found, out[kept], rtol=1e-6, atol=1e-6)


def test_augmentation_has_no_parameters_and_no_gradient(folder):
    augment = Augment(folder)
    wavs = crops(10).requires_grad_()
    assert not augment(wavs, seeded()).requires_grad
    assert not list(augment.parameters())


# --- keys -------------------------------------------------------------------


def test_two_crops_of_an_utterance_get_different_rooms_and_noises(minirooms):
    names = [f"u{number}" for number in range(200)]
    keys = crop_keys(1986, 1, names, 2)
    wet = Augment(minirooms, ONLY["rir"])
    first, second = (wet.draw(keys[:, view]).rir for view in (0, 1))
    # 40 rooms: one in forty pairs is alike by chance.
    assert (first == second).mean() < 0.08
    noisy = Augment(minirooms, ONLY["noise"], reverb_prob=1.0)
    wav = crops(1).expand(2, -1)
    heard = [noisy.by_keys(wav, pair) for pair in keys[:20]]
    for one, other in heard:
        assert (one - other).norm() > 0.02 * one.norm()
    sounds = [noisy.draw(keys[:, view]) for view in (0, 1)]
    alike = sounds[0].sound[:, 0] == sounds[1].sound[:, 0]
    alike &= sounds[0].begin[:, 0] == sounds[1].begin[:, 0]
    assert not alike.any()


def test_a_response_is_applied_last_with_filter_prob(folder):
    keys = keys_of(400)
    plain, often = Augment(folder), Augment(folder, filter_prob=0.25)
    wavs = crops(400)[:, :2000]
    same = (often.by_keys(wavs, keys) == plain.by_keys(wavs, keys)).all(1)
    assert 0.7 < same.float().mean() < 0.8
    filtered = often.draw(keys).filtered
    assert (~same.numpy() == filtered).all()
    # Without it nothing else is drawn otherwise.
    for one, other in zip(often.draw(keys), plain.draw(keys), strict=True):
        if one.dtype != bool:
            assert (one == other).all()


def test_the_response_of_a_crop_does_not_depend_on_the_batch(folder):
    augment, wavs = Augment(folder, ONLY["clean"], filter_prob=1.0), crops(20)
    keys = keys_of(20)
    whole = augment.by_keys(wavs, keys)
    assert (whole != wavs).any(1).all()
    alone = augment.by_keys(wavs[7:8], keys[7:8])
    torch.testing.assert_close(alone[0], whole[7], rtol=0, atol=1e-6)


def test_a_crop_is_augmented_the_same_in_any_batch(folder):
    augment, wavs = Augment(folder, reverb_prob=0.5), crops(40)
    keys = keys_of(40)
    whole = augment.by_keys(wavs, keys)
    order = np.random.default_rng(0).permutation(40)
    shuffled = augment.by_keys(wavs[order], keys[order])
    assert close(shuffled, whole[order])
    for size in (1, 3, 17):
        parts = [
            augment.by_keys(wavs[i : i + size], keys[i : i + size])
            for i in range(0, 40, size)
        ]
        assert close(torch.cat(parts), whole)


def test_a_subset_of_keys_gives_the_same_draws(folder):
    augment, keys = Augment(folder, reverb_prob=0.5), keys_of(500)
    rows = np.array([3, 499, 0])
    few, all_ = augment.draw(keys[rows]), augment.draw(keys)
    for name, found, expected in zip(
        few._fields, few, all_.of(rows), strict=True
    ):
        assert np.array_equal(found, expected), name


def test_decisions_have_the_distributions_asked_for(folder):
    augment = Augment(folder, [2, 1, 3, 2, 2], reverb_prob=0.25)
    draws = augment.draw(keys_of(20000))
    shares = np.bincount(draws.kind, minlength=5) / 20000
    assert np.abs(shares - np.array([0.2, 0.1, 0.3, 0.2, 0.2])).max() < 0.012
    wet = draws.rir >= 0
    assert not wet[draws.kind == 0].any() and wet[draws.kind == 1].all()
    assert wet[draws.kind > 1].mean() == pytest.approx(0.25, abs=0.015)
    assert even(draws.rir[wet], 6)
    talkers = draws.n_sounds[draws.kind == 3]
    assert talkers.min() == 3 and talkers.max() == 8
    assert even(talkers - 3, 6)
    assert (draws.n_sounds[draws.kind < 2] == 0).all()
    assert (draws.n_sounds[(draws.kind == 2) | (draws.kind == 4)] == 1).all()
    for kind in (2, 3, 4):
        rows = draws.of(np.flatnonzero(draws.kind == kind))
        low, high = augment.snr[kind]
        assert even((rows.snr - low) * 10 / (high - low), 10)
        for slot in (0, -1):
            assert even(rows.sound[:, slot], 6)
            assert even(rows.begin[:, slot] * 10, 10)


def test_decisions_of_a_crop_are_independent(folder):
    draws = Augment(folder, ONLY["babble"]).draw(keys_of(20000))
    columns = np.column_stack(
        [draws.snr, draws.n_sounds, draws.sound, draws.begin]
    )
    between = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(between).max() < 0.035


def test_a_kind_without_weight_is_never_drawn(folder):
    kinds = {}
    for name, weights in ONLY.items():
        draws = Augment(folder, weights).draw(keys_of(3000))
        kinds[name] = set(draws.kind)
    assert kinds == {name: {i} for i, name in enumerate(Augment.KINDS)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_and_cpu_agree(folder):
    augment, wavs = Augment(folder, reverb_prob=0.5), crops(40)
    expected = augment.by_keys(wavs, keys_of(40))
    found = augment.by_keys(wavs.cuda(), keys_of(40))
    assert found.is_cuda and close(found.cpu(), expected, 1e-4)


# --- folders ----------------------------------------------------------------


def test_corpora_are_read_as_they_are_downloaded(tmp_path):
    musan, rooms = tmp_path / "musan", tmp_path / "RIRS_NOISES/simulated_rirs"
    for part, seed in (
        ("noise/free-sound", 0),
        ("noise/sound-bible", 1),
        ("music/fma", 2),
        ("speech/us-gov", 3),
    ):
        (musan / part).parent.mkdir(parents=True, exist_ok=True)
        write_recordings(musan / part, seed, n_files=2)
        (musan / part / "ANNOTATIONS").write_text("no sound")
    for room in ("smallroom/Room001", "largeroom/Room200"):
        (rooms / room).parent.mkdir(parents=True)
        write_rooms(rooms / room, n_files=3)
    augment = Augment(musan, rir_folder=rooms)
    banks = augment.music, augment.speech, augment.noise, augment.rirs
    assert [len(bank) for bank in banks] == [2, 2, 4, 6]
    assert augment.by_keys(crops(9), keys_of(9)).isfinite().all()
    with pytest.raises(InputError, match="musan/rir holds no .*rir_folder"):
        Augment(musan)


@pytest.mark.skipif(not MINIVOX.exists(), reason="needs MiniVox")
def test_minivox_sounds_augment_speech():
    augment, wavs = Augment(MINIVOX, reverb_prob=0.5), crops(20)
    out = augment.by_keys(wavs, keys_of(20))
    assert out.isfinite().all()
    clean = torch.from_numpy(augment.draw(keys_of(20)).kind == 0)
    assert torch.equal((out == wavs).all(dim=1), clean)


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


def test_another_class_need_not_know_a_folder_of_responses():
    assert from_folder(lambda folder: [folder], "sounds") == ["sounds"]
    assert from_folder(
        lambda folder, rir_folder: [folder, rir_folder], "sounds", "rooms"
    ) == ["sounds", "rooms"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in ("noise_snr", "music_snr", "babble_snr", "n_talkers")
        for value in (5, [5], [1, 2, 3], [9, 3], "15", [1, "x"], [1, math.nan])
    ]
    + [("n_talkers", [0, 3]), ("n_talkers", [1.5, 3]), ("noise_snr", None)]
    + [("max_hours", hours) for hours in (0, -1, "8", None, True, math.inf)]
    + [("reverb_prob", "x"), ("filter_prob", 1.5)],
)
def test_arguments_that_cannot_be_are_refused_in_a_line(folder, name, value):
    with pytest.raises(
        InputError, match=f"^{name} is .*must be.*--augment"
    ) as e:
        Augment(folder, **{name: value})
    assert "\n" not in str(e.value)


def test_the_defaults_are_those_of_the_recipe():
    """Snyder et al. 2018, and the paper: noise 0-15, music 5-15, 13-20 dB."""
    defaults = inspect.signature(Augment).parameters
    ranges = {n: tuple(defaults[f"{n}_snr"].default) for n in RANGES}
    assert ranges == RANGES
    assert defaults["max_hours"].default == 8.0


def test_bank_and_ranges_are_set_in_yaml(folder, caplog):
    """By a leaf or on the command line, as any object of a YAML."""
    text = """
augment: !name:speechbrain_ext.augment.Augment
    noise_snr: [1, 2]
    music_snr: [3, 4]
    babble_snr: [5.5, 6]
    max_hours: 0.0001
"""
    augment = from_folder(load_hyperpyyaml(text)["augment"], folder)
    assert augment.snr[2:].tolist() == [[3, 4], [5.5, 6], [1, 2]]
    assert len(augment.noise) < 6
    assert "max_hours=0.0001" in caplog.text


def test_the_draws_of_a_batch_reach_the_device_in_one_transfer(
    folder, monkeypatch
):
    calls = []

    def counted(arrays, device):
        calls.append(len(arrays))
        return moved_together(arrays, device)

    monkeypatch.setattr(augmenter, "moved_together", counted)
    wavs = crops(60)
    Augment(folder, reverb_prob=0.5, filter_prob=0.5)(wavs, seeded())
    assert len(calls) == 1 and calls[0] > 30
