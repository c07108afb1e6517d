"""True speakers of a corpus: written, read, and what is refused."""

import pandas as pd
import pytest

from speechbrain_ext.dataio.manifest import Manifest, read_manifest
from speechbrain_ext.dataio.oracle import true_speakers, write_oracle
from speechbrain_ext.utils.errors import InputError


def test_the_first_folder_of_an_id_is_its_speaker(tmp_path):
    ids = ["s1/x/1.wav", "s1/y/1.wav", "s2/x/1.wav"]
    assert write_oracle(tmp_path / "oracle.csv", ids) == 2
    oracle = read_manifest(tmp_path / "oracle.csv", "oracle")
    assert list(oracle.spk_id) == ["s1", "s1", "s2"]


def test_true_speakers_follow_the_manifest_and_may_be_a_subset(tmp_path):
    path = tmp_path / "oracle.csv"
    path.write_text("ID,spk_id\na,ann\nb,bob\nc,cat\n")
    wanted = Manifest(pd.DataFrame({"ID": ["c", "a"]}), "utterances")
    assert true_speakers(path, wanted).tolist() == ["cat", "ann"]


def test_an_oracle_that_lacks_an_utterance_is_refused(tmp_path):
    path = tmp_path / "oracle.csv"
    path.write_text("ID,spk_id\na,ann\n")
    wanted = Manifest(pd.DataFrame({"ID": ["a", "x", "y"]}), "utterances")
    with pytest.raises(InputError, match="lacks 2 of 3 .* first is 'x'"):
        true_speakers(path, wanted)
