"""make_oracle_labels: true speakers, and a stage record that says so."""

import json

import pandas as pd
import pytest

from recipes import make_oracle_labels
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.utils.errors import InputError

LEAF = "hparams/make_oracle_labels.yaml"


@pytest.fixture
def corpus(tmp_path):
    ids = [f"u{i}.wav" for i in range(6)]
    rows = pd.DataFrame(
        {
            "ID": ids,
            "duration": 1.0,
            "wav": [f"$data_root/{name}" for name in ids],
            "start": 0,
            "stop": 16000,
        }
    )
    write_manifest(tmp_path / "train.csv", rows, "utterances")
    write_oracle(tmp_path, ids, "ann bob ann cat ann bob".split())
    return tmp_path


def write_oracle(folder, ids, speakers):
    table = pd.DataFrame({"ID": ids, "spk_id": speakers})
    write_manifest(folder / "oracle.csv", table[::-1], "oracle")


def label(corpus):
    options = {
        "train_annotation": corpus / "train.csv",
        "oracle": corpus / "oracle.csv",
        "output_folder": corpus / "out",
    }
    make_oracle_labels.main(
        [LEAF] + [f"--{key}={value}" for key, value in options.items()]
    )
    return read_manifest(corpus / "out" / "pseudo_labels.csv", "pseudo_labels")


def test_labels_are_the_true_speakers_in_manifest_order(corpus):
    labels = label(corpus)
    assert labels.spk_id.tolist() == "ann bob ann cat ann bob".split()
    train = read_manifest(corpus / "train.csv", "utterances")
    rest = labels.table.drop(columns="spk_id")
    pd.testing.assert_frame_equal(rest, train.table)


def test_the_stage_record_says_that_the_labels_are_true(corpus):
    label(corpus)
    receipt = json.loads((corpus / "out" / "stage.json").read_text())
    assert receipt["true_labels"] is True
    assert receipt["n_clusters"] == 3
    assert receipt["n_utterances"] == 6


def test_a_finished_folder_is_skipped(corpus):
    label(corpus)
    path = corpus / "out" / "pseudo_labels.csv"
    before = path.stat().st_mtime_ns
    label(corpus)
    assert path.stat().st_mtime_ns == before


def test_one_speaker_is_refused(corpus):
    write_oracle(corpus, [f"u{i}.wav" for i in range(6)], ["ann"] * 6)
    with pytest.raises(InputError, match="one speaker, 'ann'"):
        label(corpus)
    assert not (corpus / "out").exists()


def test_an_oracle_of_another_corpus_is_refused(corpus):
    write_oracle(corpus, ["u0.wav", "other.wav"], ["ann", "bob"])
    with pytest.raises(InputError, match="lacks 5 of 6 utterances"):
        label(corpus)


def test_an_oracle_is_required(corpus):
    argv = [
        LEAF,
        f"--train_annotation={corpus / 'train.csv'}",
        f"--output_folder={corpus / 'out'}",
    ]
    with pytest.raises(InputError, match="oracle"):
        make_oracle_labels.main(argv)
