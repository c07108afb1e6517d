"""Other tools' formats on the command line, and SpeechBrain's own trainer."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tones import without_speakers, write_tones

from recipes import convert_embeddings, convert_labels
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.utils.errors import InputError

ROOT = Path(__file__).parents[2]
CHECKOUT = "SPEECHBRAIN_CHECKOUT"


def words(leaf, **options):
    pairs = [f"--{key}={json.dumps(str(v))}" for key, v in options.items()]
    return [f"hparams/{leaf}.yaml", *pairs]


@pytest.fixture
def corpus(tmp_path):
    rows = write_tones(tmp_path, lengths=(40000, 50000))
    write_manifest(tmp_path / "labels.csv", rows, "pseudo_labels")
    write_manifest(tmp_path / "train.csv", without_speakers(rows), "utterances")
    return tmp_path


def convert(folder, **options):
    convert_labels.main(
        words(
            "convert_labels", train_annotation=folder / "train.csv", **options
        )
    )


@pytest.mark.parametrize("name", ["list", "kaldi", "wespeaker"])
def test_labels_converted_and_back_are_the_same_file(corpus, name):
    convert(
        corpus,
        labels=corpus / "labels.csv",
        to_format=name,
        data_folder=corpus,
        output_folder=corpus / "there",
    )
    convert(
        corpus,
        labels=corpus / "there",
        from_format=name,
        to_format="speechbrain",
        output_folder=corpus / "back",
    )
    back = (corpus / "back" / "pseudo_labels.csv").read_bytes()
    assert back == (corpus / "labels.csv").read_bytes()


def test_the_written_paths_exist(corpus):
    convert(
        corpus,
        labels=corpus / "labels.csv",
        to_format="wespeaker",
        data_folder=corpus,
        output_folder=corpus / "there",
    )
    lines = (corpus / "there" / "raw.list").read_text().splitlines()
    assert len(lines) == 16
    assert all(Path(json.loads(line)["wav"]).is_file() for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to_format": "csv"}, "to_format is 'csv'; .*speechbrain or list"),
        ({"to_format": "kaldi"}, "give --data_folder"),
        (
            {"to_format": "list", "from_format": "x"},
            "from_format is 'x'; .*speechbrain or list",
        ),
        ({"to_format": "list", "labels": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_bad_input_is_one_clear_error(corpus, options, message):
    given = {"labels": corpus / "labels.csv", **options}
    with pytest.raises(InputError, match=message):
        convert(corpus, output_folder=corpus / "out", **given)
    assert not (corpus / "out").exists()


@pytest.mark.parametrize("name", ["pt", "kaldi"])
def test_embeddings_converted_and_back_are_the_same_files(tmp_path, name):
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.save(tmp_path / "embeddings.npy", x)
    table = [{"ID": f"a/{row}", "row": row} for row in range(4)]
    write_manifest(tmp_path / "embeddings.csv", table, "embeddings")
    for source, target, output in (
        ("npy", name, "there"),
        (name, "npy", "back"),
    ):
        given = tmp_path if source == "npy" else tmp_path / "there"
        convert_embeddings.main(
            words(
                "convert_embeddings",
                embeddings=given,
                from_format=source,
                to_format=target,
                output_folder=tmp_path / output,
            )
        )
    for file in ("embeddings.npy", "embeddings.csv"):
        back = (tmp_path / "back" / file).read_bytes()
        assert back == (tmp_path / file).read_bytes()


def test_an_array_is_converted_anew_when_its_names_change(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(2, dtype=np.float32))
    command = words(
        "convert_embeddings",
        embeddings=tmp_path / "x.npy",
        to_format="npy",
        output_folder=tmp_path / "out",
    )
    (tmp_path / "x.csv").write_text("ID,row\na,0\nb,1\n")
    convert_embeddings.main(command)
    (tmp_path / "x.csv").write_text("ID,row\na,1\nb,0\n")
    with pytest.raises(InputError, match="made by another request: .*names"):
        convert_embeddings.main(command)


def test_embeddings_of_an_unknown_format_are_one_clear_error(tmp_path):
    options = {"embeddings": tmp_path, "output_folder": tmp_path / "out"}
    with pytest.raises(InputError, match="to_format is 'h5'; .*npy or pt"):
        convert_embeddings.main(
            words("convert_embeddings", to_format="h5", **options)
        )
    with pytest.raises(InputError, match="no embeddings are known"):
        convert_embeddings.main(
            words("convert_embeddings", to_format="pt", **options)
        )


def readme_command():
    """Options of the command that the docs give for that recipe."""
    text = (ROOT / "docs" / "other_tools.md").read_text("utf-8")
    (line,) = re.findall(r"^.*train_speaker_embeddings\.py.*$", text, re.M)
    words = [w for w in shlex.split(line) if w.startswith("--")]
    return dict(word[2:].split("=", 1) for word in words)


@pytest.mark.skipif(CHECKOUT not in os.environ, reason=f"no {CHECKOUT}")
def test_speechbrains_own_recipe_trains_on_our_labels(corpus):
    """The command of the docs, on a small network."""
    recipe = Path(os.environ[CHECKOUT]) / "recipes/VoxCeleb/SpeakerRec"
    for kind, n_speakers in (("noise", 1), ("rir", 1)):
        (corpus / "sounds" / kind).mkdir(parents=True)
        write_tones(corpus / "sounds" / kind, n_speakers)
    # What it would download is copied when it is a path.
    none = corpus / "none"
    none.touch()
    places = {
        "data_folder": corpus,
        "output_folder": corpus / "out",
        "train_annotation": corpus / "labels.csv",
        "valid_annotation": corpus / "labels.csv",
        "verification_file": none,
        "out_n_neurons": 4,
    }
    assert places.keys() < readme_command().keys()
    small = {
        "data_folder_noise": corpus / "sounds" / "noise",
        "data_folder_rir": corpus / "sounds" / "rir",
        "NOISE_DATASET_URL": none,
        "RIR_DATASET_URL": none,
        "embedding_model": "{channels: [16, 16, 16, 16, 48]}",
        "batch_size": 4,
        "num_workers": 0,
        "device": "cpu",
    }
    options = {**readme_command(), **places, **small}
    done = subprocess.run(
        [
            sys.executable,
            "train_speaker_embeddings.py",
            "hparams/train_ecapa_tdnn.yaml",
            *(f"--{key}={value}" for key, value in options.items()),
            "--debug",
            "--noprogressbar",
        ],
        cwd=recipe,
        env={**os.environ, "PYTHONPATH": str(recipe.parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    log = (corpus / "out" / "train_log.txt").read_text().splitlines()
    assert len(log) == 2
