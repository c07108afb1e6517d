"""The benchmark of groups: what it draws, and what it says of it."""

import json

import pandas as pd
import pytest
from published import save
from shared_model import DECISION
from tones import without_speakers, write_tones

from benchmarks import grouping
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.inference.hub_folder import write_hub_folder
from speechbrain_ext.utils.errors import InputError


@pytest.fixture
def corpus(tmp_path):
    """Tones as a prepared corpus, and a model of random weights."""
    rows = write_tones(tmp_path, n_utterances=6)
    speakers = {row["ID"]: row["spk_id"] for row in rows}
    write_manifest(tmp_path / "test.csv", without_speakers(rows), "utterances")
    oracle = pd.DataFrame(speakers.items(), columns=["ID", "spk_id"])
    write_manifest(tmp_path / "oracle.csv", oracle, "oracle")
    facts = json.dumps({"data_root": str(tmp_path)})
    (tmp_path / "stage.json").write_text(facts)
    save(tmp_path / "embedder")
    write_hub_folder(tmp_path / "m", tmp_path / "embedder", DECISION, seed=0)
    return tmp_path, pd.Series(speakers)


def test_folders_are_drawn_and_their_groups_rated(corpus):
    folder, speakers = corpus
    n_voices = speakers.nunique()
    words = [str(folder / "m"), str(folder), "--n_files=6", "--n_folders=2"]
    output = f"--output={folder / 'found.json'}"
    if n_voices * 6 < 20:
        pytest.fail("too few tones to estimate their number")
    grouping.main([*words, f"--n_voices={n_voices}", output])
    given, estimated = json.loads((folder / "found.json").read_text())["rows"]
    assert given["number_of_speakers"] == "given"
    assert given["n_found"] == n_voices and -1 <= given["ari"] <= 1
    assert estimated["n_found"] >= 2 and 0 <= estimated["nmi"] <= 1
    with pytest.raises(InputError, match=f"n_voices is 99; {n_voices} speak"):
        grouping.main([*words, "--n_voices=99", output])
