"""Lengths come from headers, and copies are 16 kHz mono PCM16."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from fake_ffmpeg import FakeFfmpeg, hide_ffmpeg, write_m4a
from odd_audio import cut, write

from speechbrain_ext.dataio import audio_files
from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.audio_files import (
    convert,
    decode_aac,
    ffmpeg_version,
    length_of,
    write_wav,
)
from speechbrain_ext.utils.errors import InputError

_FORMATS = {
    "a.wav": {},
    "a.flac": {},
    "a.ogg": {},
    "a.mp3": {},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
}


@pytest.mark.parametrize("name", _FORMATS)
def test_every_format_has_its_length_in_its_header(tmp_path, name):
    noise = np.random.default_rng(0).standard_normal(48000) * 0.1
    soundfile.write(tmp_path / name, noise, 48000, **_FORMATS[name])
    assert length_of(str(tmp_path / name)) == (16000, "")
    assert len(read_crop(tmp_path / name, 0, 16000)) == 16000


@pytest.mark.parametrize(("frames", "stop"), [(44100, 16000), (44103, 16001)])
def test_length_is_rounded_down_to_whole_samples(tmp_path, frames, stop):
    soundfile.write(tmp_path / "a.wav", np.zeros(frames), 44100)
    assert length_of(str(tmp_path / "a.wav")) == (stop, "")


def _reason(tmp_path, content):
    (tmp_path / "a.ogg").write_bytes(content)
    return length_of(str(tmp_path / "a.ogg"))


def test_empty_damaged_and_cut_files_have_different_reasons(tmp_path):
    assert _reason(tmp_path, b"") == (0, "no samples: the file is empty")
    assert _reason(tmp_path, b"text" * 99)[1].startswith("unreadable: ")
    path = tmp_path / "b.ogg"
    noise = np.random.default_rng(0).standard_normal(48000) * 0.1
    soundfile.write(path, noise, 16000)
    half = path.read_bytes()[:6000]
    assert _reason(tmp_path, half) == (0, "no samples: the file is cut short")


def test_a_name_that_is_not_utf8_is_rejected():
    assert length_of("a\udcff.wav") == (0, "the file name is not UTF-8")


def test_a_copy_is_16_khz_mono_pcm16_of_the_same_sound(tmp_path):
    at = np.arange(8000) / 8000
    tone = 0.5 * np.sin(2 * np.pi * 440 * at)
    soundfile.write(tmp_path / "a.flac", np.stack([tone, tone], 1), 8000)
    target = tmp_path / "out" / "a.wav"
    assert convert((str(tmp_path / "a.flac"), str(target))) == (16000, "")
    header = soundfile.info(target)
    assert (header.samplerate, header.channels) == (16000, 1)
    assert header.subtype == "PCM_16"
    source, copy = read_crop(tmp_path / "a.flac"), read_crop(target)
    assert (source - copy).abs().max() <= 0.5 / 32768 + 1e-7


def test_a_pcm16_copy_keeps_every_bit(tmp_path):
    samples = np.arange(-32768, 32768, dtype="int16")
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    target = str(tmp_path / "b.wav")
    convert((str(tmp_path / "a.wav"), target))
    np.testing.assert_array_equal(
        soundfile.read(target, dtype="int16")[0], samples
    )


def test_a_good_copy_is_kept(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(900), 16000)
    write_wav(tmp_path / "b.wav", np.ones(900) / 2)
    before = (tmp_path / "b.wav").stat().st_mtime_ns
    job = (str(tmp_path / "a.wav"), str(tmp_path / "b.wav"))
    assert convert(job) == (900, "")
    assert (tmp_path / "b.wav").stat().st_mtime_ns == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_numbers_are_found(tmp_path, value):
    wav = np.zeros(900)
    wav[7] = value
    soundfile.write(tmp_path / "a.wav", wav, 16000, subtype="FLOAT")
    target = tmp_path / "b.wav"
    frames, reason = convert((str(tmp_path / "a.wav"), str(target)))
    assert frames == 0 and reason.startswith("not finite")
    assert not target.exists()


def test_damage_behind_a_good_header_is_found(tmp_path):
    noise = np.random.default_rng(0).standard_normal(44100) * 0.1
    soundfile.write(tmp_path / "a.flac", noise, 44100)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    source, target = str(tmp_path / "a.flac"), tmp_path / "b.wav"
    assert length_of(source)[1] == ""
    frames, reason = convert((source, str(target)))
    assert frames == 0 and "damaged" in reason
    assert not target.exists()


def test_a_damaged_copy_is_made_again(tmp_path):
    # Left as it is, "prepare again" would lead back to it.
    source, target = write(tmp_path / "a.flac"), tmp_path / "b.wav"
    job = (str(source), str(target))
    assert convert(job) == (32000, "")
    whole = target.read_bytes()
    cut(target)
    assert convert(job) == (32000, "")
    assert target.read_bytes() == whole


# --- AAC --------------------------------------------------------------------


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    return FakeFfmpeg(tmp_path / "bin", monkeypatch)


def test_an_m4a_is_decoded_once(tmp_path, ffmpeg):
    source, target = tmp_path / "a b.m4a", tmp_path / "out" / "a b.m4a.wav"
    write_m4a(source, 12345)
    for _ in range(2):
        assert convert((str(source), str(target))) == (12345, "")
    assert ffmpeg.decoded == ["a b.m4a"]
    samples, rate = soundfile.read(target, dtype="int16")
    assert rate == 16000 and set(samples) == {0x0201, -0x0201}
    assert source.read_text() == "12345\n"


def test_a_file_without_a_copy_is_only_measured(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(900), 16000)
    job = (str(tmp_path / "a.wav"), None)
    assert convert(job)[1].startswith("silent: ")
    assert convert(job, check_samples=False) == (900, "")


def test_a_damaged_m4a_has_the_reason_of_ffmpeg_in_one_line(tmp_path, ffmpeg):
    write_m4a(tmp_path / "a.m4a", "damaged")
    target = tmp_path / "a.wav"
    found = convert((str(tmp_path / "a.m4a"), str(target)))
    assert found == (0, "unreadable: ffmpeg: moov atom not found")
    assert not target.exists()


def test_m4a_without_samples_are_rejected(tmp_path, ffmpeg):
    write_m4a(tmp_path / "a.m4a", 0)
    (tmp_path / "empty.m4a").touch()
    for name, why in (
        ("a", "the file is cut short"),
        ("empty", "the file is empty"),
        ("gone", "No such file"),
    ):
        frames, reason = convert((str(tmp_path / f"{name}.m4a"), "copy.wav"))
        assert frames == 0 and why in reason
    # An empty or missing file is seen without ffmpeg.
    assert ffmpeg.decoded == ["a.m4a"]


def test_a_missing_ffmpeg_is_no_fault_of_the_file(tmp_path, monkeypatch):
    hide_ffmpeg(monkeypatch, tmp_path / "none")
    write_m4a(tmp_path / "a.m4a", 900)
    with pytest.raises(InputError, match=r"ffmpeg cannot be started.*install"):
        decode_aac(str(tmp_path / "a.m4a"))
    assert ffmpeg_version() is None


@pytest.mark.parametrize("status", [-9, -15, 255])
def test_a_stopped_ffmpeg_is_no_fault_of_the_file(monkeypatch, status):
    # A corpus of a million files must not end as a million rejects.
    done = subprocess.CompletedProcess([], status, b"", b"Exiting normally")
    monkeypatch.setattr(
        audio_files.subprocess, "run", lambda *words, **options: done
    )
    with pytest.raises(InputError, match=f"stopped \\(status {status}\\)"):
        decode_aac("a.m4a")


def test_a_copy_that_is_cut_off_while_written_does_not_count(
    tmp_path, ffmpeg, monkeypatch
):
    def half(path, samples, *options, **more):
        write(path, samples[: len(samples) // 2], *options, **more)
        raise KeyboardInterrupt

    write_m4a(tmp_path / "a.m4a", 900)
    job = (str(tmp_path / "a.m4a"), str(tmp_path / "copies" / "a.wav"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        write = soundfile.write
        patch.setattr(soundfile, "write", half)
        convert(job)
    assert not list((tmp_path / "copies").iterdir())
    assert convert(job) == (900, "")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_ffmpeg_itself_decodes_and_says_what_is_wrong(tmp_path):
    at = np.arange(32000) / 32000
    tone = 0.5 * np.sin(2 * np.pi * 440 * at)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, tone], 1), 32000)
    source = tmp_path / "a: b.m4a"
    words = ["ffmpeg", "-loglevel", "error", "-i", str(tmp_path / "a.wav")]
    subprocess.run([*words, "-c:a", "aac", f"file:{source}"], check=True)
    samples, reason = decode_aac(str(source))
    assert reason == "" and abs(len(samples) - 16000) < 2000
    spectrum = np.abs(np.fft.rfft(samples[4000:12000]))
    assert spectrum.argmax() == 220 and np.abs(samples).max() < 0.6
    whole = source.read_bytes()
    (tmp_path / "half.m4a").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 3
    noise = np.random.default_rng(0).bytes(len(whole) // 3)
    noisy = whole[:middle] + noise + whole[middle + len(noise) :]
    (tmp_path / "noisy.m4a").write_bytes(noisy)
    for name in ("half.m4a", "noisy.m4a"):
        samples, reason = decode_aac(str(tmp_path / name))
        assert len(samples) == 0 and "\n" not in reason
        assert reason.startswith("unreadable: ffmpeg: ") and "@" not in reason
    assert "ffmpeg version" in ffmpeg_version()
