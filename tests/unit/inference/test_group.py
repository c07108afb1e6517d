"""Who is who in a folder, on the command line: a table and a page."""

import os
import re
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import soundfile

from speechbrain_ext.inference import group
from speechbrain_ext.utils.errors import InputError


@pytest.fixture
def speech(tmp_path):
    """Eight files, with names that HTML and addresses must escape."""
    folder = tmp_path / "who & who"
    folder.mkdir()
    generator = np.random.default_rng(3)
    for number in range(8):
        x = 0.1 * generator.normal(size=8000 + 800 * (number % 3))
        soundfile.write(folder / f"a <{number}>#?.wav", x, 16000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


def test_a_folder_is_grouped(published, verifier, speech, tmp_path, capsys):
    out = tmp_path / "out"
    words = [str(published), str(speech), str(out), "--device=cpu"]
    group.main([*words, "--n_speakers=3"])
    table = pd.read_csv(out / "groups.csv")
    assert sorted(table.ID) == [f"a <{number}>#?.wav" for number in range(8)]
    assert list(table.group) == sorted(table.group)
    assert table.group.nunique() == 3
    files, groups = verifier.group(
        [speech / name for name in table.ID], n_speakers=3
    )
    named = [f"speaker{k + 1}" for k in groups.labels]
    assert named == list(table.group) and not files.bad
    page = (out / "groups.html").read_text("utf-8")
    assert "Who is who in who &amp; who" in page and "<0>" not in page
    sources = re.findall(r'src="([^"]+)"', page)
    # The page plays the files themselves, from wherever they lie.
    assert len(sources) == 8
    assert all((out / unquote(source)).is_file() for source in sources)
    assert "1 files were left out" in page and "broken.wav" in page
    assert "3 speakers in 8 files" in capsys.readouterr().out
    # The same command again replaces its own output; with too few files to
    # estimate the number of speakers, it says so.
    group.main([*words, "--n_speakers=2"])
    assert pd.read_csv(out / "groups.csv").group.nunique() == 2
    with pytest.raises(InputError, match="8 utterances cannot be grouped"):
        group.main(words)


def test_another_table_is_not_replaced(published, speech, tmp_path):
    (tmp_path / "groups.csv").write_text("name,age\n")
    words = [str(published), str(speech)]
    with pytest.raises(InputError, match="is another table"):
        group.main([*words, str(tmp_path)])
    with pytest.raises(InputError, match="is a file"):
        group.main([*words, str(tmp_path / "groups.csv")])


def test_a_name_that_is_not_utf8_is_grouped_and_escaped(
    published, speech, tmp_path
):
    latin = os.path.join(os.fsencode(speech), b"caf\xe9.wav")
    (speech / "a <1>#?.wav").rename(os.fsdecode(latin))
    words = [str(published), str(speech), str(tmp_path / "out")]
    group.main([*words, "--device=cpu", "--n_speakers=3"])
    table = pd.read_csv(tmp_path / "out" / "groups.csv")
    assert "caf\\udce9.wav" in set(table.ID)
    assert "caf%E9.wav" in (tmp_path / "out" / "groups.html").read_text("utf-8")
