"""Runs that start from given embeddings, or from a given embedder."""

import csv
import json

import numpy as np
import pytest
import torch
from small_run import EMBEDDER, PLAN, TINY, call

from recipes import convert_embeddings, run_rounds
from speechbrain_ext.dataio.embedding_formats import read_vectors
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json

LABELS = "bootstrap/labels/pseudo_labels.csv"


def words(folder, *options):
    return [
        PLAN,
        f"--output_folder={folder}",
        f"--stages={json.dumps(TINY)}",
        f"--embedder={json.dumps(EMBEDDER)}",
        "--backends=raw",
        "--noprogressbar",
        *options,
    ]


def done(*options):
    ended = call(*words(*options))
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that trained its bootstrap, and no more."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    done(folder, "--n_rounds=0", "--topline=False", "--export=False")
    return folder


@pytest.fixture(scope="module")
def from_embedder(trained, tmp_path_factory):
    """A whole run from the embedder of the other, with what it said."""
    folder = tmp_path_factory.mktemp("embedder") / "run"
    embedder = trained / "bootstrap" / "model" / "embedder"
    return folder, done(folder, f"--start_embedder={embedder}", "--n_rounds=1")


def as_a_dict(folder, target):
    """Embeddings as the paper's authors keep them, with one more utterance."""
    ids, vectors = read_vectors(folder, "npy")
    rows = dict(zip(ids, torch.from_numpy(vectors), strict=True))
    torch.save({**rows, "another.wav": torch.ones(vectors.shape[1])}, target)
    return ids


@pytest.fixture(scope="module")
def from_embeddings(trained, tmp_path_factory):
    """A run from the embeddings of the other, test utterances too."""
    folder = tmp_path_factory.mktemp("embeddings")
    as_a_dict(trained / "bootstrap/train_embeddings", folder / "dino.pt")
    convert_embeddings.main(
        [
            "hparams/convert_embeddings.yaml",
            f"--embeddings={trained / 'bootstrap/test_embeddings'}",
            "--to_format=kaldi",
            f"--output_folder={folder / 'ark'}",
        ]
    )
    text = done(
        folder / "run",
        f"--start_embeddings={folder / 'dino.pt'}",
        f"--start_test_embeddings={folder / 'ark' / 'embeddings.scp'}",
        "--bootstrap_name=their DINO",
        "--round_init=null",
        "--n_rounds=1",
    )
    return folder / "run", text


def systems(folder):
    """Name and caveat of each row of results."""
    scores = (folder / "results/runs/quickstart/scores").glob("*_raw.json")
    found = [read_json(path)["system"] for path in sorted(scores)]
    return {system["name"]: system["caveat"] for system in found}


def results_of_the_start(folder):
    found = read_json(folder / "bootstrap/scores/result_toy_raw.json")
    return found["eer"], found["min_dcf"]


def test_a_given_embedder_leads_to_the_labels_of_the_run_that_trained_it(
    trained, from_embedder
):
    folder, text = from_embedder
    assert (folder / LABELS).read_bytes() == (trained / LABELS).read_bytes()
    assert results_of_the_start(folder) == results_of_the_start(trained)
    assert "bootstrap/model" not in text
    assert not (folder / "bootstrap" / "model").exists()


def test_given_embeddings_lead_to_the_labels_of_their_model(
    trained, from_embeddings
):
    folder, _ = from_embeddings
    assert (folder / LABELS).read_bytes() == (trained / LABELS).read_bytes()
    assert results_of_the_start(folder) == results_of_the_start(trained)
    record = read_json(folder / "bootstrap/train_embeddings/stage.json")
    assert (record["n_utterances"], record["n_left_out"]) == (24, 1)


def test_rounds_begin_with_the_weights_of_a_given_embedder(
    trained, from_embedder
):
    folder, _ = from_embedder
    given = read_json(folder / "round1/model/stage.json")["inputs"]["init_from"]
    made = read_json(trained / "bootstrap/model/stage.json")["outputs"]
    weights = made["embedder/embedding_model.ckpt"]
    assert given["sha256"] == weights["sha256"]


def test_every_row_says_what_the_run_started_from(
    from_embedder, from_embeddings
):
    found = systems(from_embedder[0])
    names = ["round 1", "topline (true labels)"]
    assert list(found)[:3] == ["given embedder", *names]
    assert all("starts from a given embedder" in c for c in found.values())
    found = systems(from_embeddings[0])
    assert list(found)[:3] == ["their DINO", *names]
    start = "starts from given embeddings (their DINO), whose training is not"
    # The topline has true labels and weights of its own: no start helps it.
    without = found.pop("topline (true labels)")
    assert "start" not in without
    assert all(start in caveat for caveat in found.values())


def test_the_card_says_that_the_start_is_of_unknown_origin(
    from_embedder, from_embeddings
):
    for folder, unknown in (
        (from_embedder[0], "the steps that led to embedder of bootstrap/train"),
        (from_embeddings[0], "the steps that led to embeddings of bootstrap/"),
    ):
        card = (folder / "published/export/model/README.md").read_text()
        assert f"Not given at the export: {unknown}" in card
        assert "not all steps that led to the model are known" in card
        assert "bootstrap/labels" in card
        page = (folder / "report.html").read_text()
        assert "from a start that it was given" in page


def test_a_run_starts_from_an_exported_model_and_may_end_with_it(
    from_embedder, tmp_path
):
    """Without a round, what is tried and exported is the given model."""
    exported = from_embedder[0] / "published" / "export" / "model"
    folder = tmp_path / "run"
    start = f"--start_embedder={exported}"
    done(folder, start, "--n_rounds=0", "--topline=False")
    found = systems(folder)
    assert "whose training is not known" in found["given embedder"]
    again = folder / "published" / "export" / "model"
    wav = next((folder / "corpus" / "test").rglob("*.wav"))
    one, other = (
        SpeakerVerifier.from_pretrained(model, "cpu").embed([wav])
        for model in (exported, again)
    )
    np.testing.assert_array_equal(one, other)


def test_the_same_command_does_no_step_again(from_embeddings):
    folder, _ = from_embeddings
    source = read_json(folder / "bootstrap/train_embeddings/request.json")
    given = source["inputs"]["embeddings"]["path"]
    text = done(
        folder,
        f"--start_embeddings={given}",
        f"--start_test_embeddings={folder.parent / 'ark'}",
        "--bootstrap_name=their DINO",
        "--round_init=null",
        "--n_rounds=1",
        "--dry_run=True",
    )
    assert text.count("  done") == text.count("\n") - 1
    assert "bootstrap/train_embeddings     convert_embeddings" in text


def test_utterances_without_an_embedding_stop_the_run_before_any_training(
    trained, tmp_path
):
    """They are counted, and the first is named beside a given name."""
    ids = as_a_dict(trained / "bootstrap/train_embeddings", tmp_path / "x.pt")
    given = torch.load(tmp_path / "x.pt")
    for name in ids[3:5]:
        del given[name]
    torch.save(given, tmp_path / "x.pt")
    ended = call(
        *words(
            tmp_path / "run",
            f"--start_embeddings={tmp_path / 'x.pt'}",
            "--round_init=null",
        )
    )
    assert ended.returncode == 2
    said = ended.stdout + ended.stderr
    assert "2 of 24 utterances have no embedding, the first is " in said
    with open(tmp_path / "run/corpus/train.csv", encoding="utf-8") as stream:
        order = [row["ID"] for row in csv.DictReader(stream)]
    first = next(name for name in order if name in set(ids[3:5]))
    assert f"the first is '{first}'" in said
    assert "step bootstrap/train_embeddings ended with status 2" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "round1").exists()


WRONG = [
    ("--start_embedder=a --start_embeddings=b", "a run has one start"),
    ("--start_embeddings=b", "round_init is 'bootstrap'; .*--round_init=null"),
    ("--start_embeddings=b --round_init=null --n_rounds=0", "be no model"),
    ("--start_test_embeddings=b", "give --start_embeddings too"),
    (
        "--start_embeddings=b --round_init=null --protocol=crops "
        "--start_test_embeddings=c",
        "give --protocol=full",
    ),
    ("--start_embedder=nowhere", "it lacks .*folder named embedder"),
    (
        "--start_embeddings=nowhere.pt --round_init=null",
        "start_embeddings is 'nowhere.pt'; nowhere.pt is missing; correct",
    ),
    (
        "--start_embeddings=nowhere --round_init=null",
        "nowhere: no embeddings are known by that name",
    ),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_start_stops_before_any_work(tmp_path, options, message):
    folder = tmp_path / "run"
    with pytest.raises(InputError, match=message):
        run_rounds.main([PLAN, f"--output_folder={folder}", *options.split()])
    assert not folder.exists()


def test_debug_trains_a_small_bootstrap_in_place_of_a_given_start(
    tmp_path, capsys
):
    """What is given belongs to the corpus, and --debug has another."""
    run_rounds.main(
        [
            PLAN,
            "--debug",
            "--dry_run=True",
            "--start_embeddings=mine.pt",
            "--round_init=null",
            f"--output_folder={tmp_path}/exp",
        ]
    )
    assert "bootstrap/model" in capsys.readouterr().out
