"""A folder of audio embedded on the command line."""

import shutil

import numpy as np
import pytest
import soundfile

from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.inference import embed
from speechbrain_ext.utils.errors import InputError


def write_speech(folder, names):
    """Files of noise, each another; the first two of one length."""
    generator = np.random.default_rng(3)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        x = 0.1 * generator.normal(size=8000 + 800 * (number // 2))
        soundfile.write(folder / name, x, 16000)
    return folder


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_folder_is_embedded_on_the_command_line(
    published, verifier, tmp_path, capsys, num_workers
):
    names = ["a/3.wav", "b.flac", "c/1.wav", "d.wav"]
    speech = write_speech(tmp_path / "speech", names)
    out = tmp_path / "embeddings.npy"
    words = [str(published), str(speech), str(out), "--device=cpu"]
    embed.main([*words, f"--num_workers={num_workers}"])
    vectors, index = read_embeddings(tmp_path)
    assert list(index.ids) == names and list(index.row) == [0, 1, 2, 3]
    wanted = verifier.embed([speech / name for name in names])
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    assert len(np.unique(vectors[:, 0].round(6))) == 4
    found = capsys.readouterr().out
    assert "4 utterances, 8 values; 0 files were left out" in found
    embed.main(words)


def test_files_that_have_no_embedding_are_left_out_and_named(
    published, verifier, tmp_path, caplog, capsys
):
    speech = write_speech(tmp_path / "speech", ["good.wav", "bad.wav"])
    nan = np.full(8000, np.nan, dtype="float32")
    soundfile.write(speech / "bad.wav", nan, 16000, subtype="FLOAT")
    (speech / "broken.wav").write_bytes(b"RIFF")
    (speech / "phone.m4a").write_bytes(bytes(100))
    noise = np.random.default_rng(0).normal(size=32000) / 10
    soundfile.write(speech / "half.flac", noise, 16000)
    content = (speech / "half.flac").read_bytes()
    (speech / "half.flac").write_bytes(content[: len(content) // 2])
    out = tmp_path / "embeddings.npy"
    embed.main([str(published), str(speech), str(out), "--device=cpu"])
    vectors, index = read_embeddings(tmp_path)
    assert list(index.ids) == ["good.wav"]
    wanted = verifier.embed(speech / "good.wav")
    np.testing.assert_allclose(vectors[0], wanted, atol=1e-6)
    for name in ("bad.wav", "broken.wav", "phone.m4a", "half.flac"):
        assert f"{speech / name}" in caplog.text
    assert "; 4 files were left out" in capsys.readouterr().out
    for name in ("good.wav", "half.flac"):
        (speech / name).unlink()
    with pytest.raises(InputError, match="none of 3 audio files"):
        embed.main([str(published), str(speech), str(out), "--device=cpu"])


def test_a_table_of_another_kind_is_not_replaced(tmp_path):
    table = tmp_path / "test.csv"
    table.write_text("ID,duration,wav,start,stop\n")
    words = ["nowhere", "nowhere", str(tmp_path / "test.npy")]
    with pytest.raises(InputError, match="test.csv would be replaced"):
        embed.main(words)
    assert table.read_text() == "ID,duration,wav,start,stop\n"


@pytest.mark.parametrize(
    ("output", "files", "message"),
    [
        ("out.txt", True, "name it .npy"),
        ("out.npy", False, "none of 1 audio files"),
    ],
)
def test_a_wrong_output_name_or_no_readable_file_is_one_clear_error(
    published, tmp_path, output, files, message
):
    (tmp_path / "a.wav").write_bytes(b"")
    if files:
        shutil.copy(published / "example1.wav", tmp_path / "b.wav")
    words = [str(published), str(tmp_path), str(tmp_path / output)]
    with pytest.raises(InputError, match=message):
        embed.main(words)
    assert not (tmp_path / output).exists()


@pytest.mark.parametrize("table", [None, "ID,row\na,0\n"])
def test_an_array_of_somebody_else_is_not_overwritten(tmp_path, table):
    out = tmp_path / "features.npy"
    np.save(out, np.zeros((5, 2)))
    if table is not None:
        out.with_suffix(".csv").write_text(table)
    before = out.read_bytes()
    with pytest.raises(InputError, match="features.npy would be replaced"):
        embed.main(["nowhere", str(tmp_path), str(out)])
    assert out.read_bytes() == before
    # One that this command wrote is.
    rows = "".join(f"{name},{row}\n" for row, name in enumerate("abcde"))
    out.with_suffix(".csv").write_text(f"ID,row\n{rows}")
    assert embed.checked_output(out) == out
