"""Runs that start from given embeddings, or from a given embedder."""

import csv
import json
import re
import shutil

import pytest
import torch
from small_run import EMBEDDER, PLAN, TINY, call

from recipes import convert_embeddings, run_rounds
from speechbrain_ext.dataio.embedding_formats import read_vectors
from speechbrain_ext.experiment.lineage import read_lineage
from speechbrain_ext.experiment.model_card import lacking
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json
from speechbrain_ext.utils.provenance import describe_file

LABELS = "bootstrap/labels/pseudo_labels.csv"


def words(folder, *options):
    return [
        PLAN,
        f"--output_folder={folder}",
        f"--stages={json.dumps(TINY)}",
        f"--embedder={json.dumps(EMBEDDER)}",
        "--backends=raw",
        "--topline=False",
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
    done(folder, "--n_rounds=0", "--export=False")
    return folder


def beside(trained, folder):
    """A folder for another run, on the same corpus."""
    shutil.copytree(trained / "corpus", folder / "run" / "corpus")
    return folder / "run"


@pytest.fixture(scope="module")
def from_embedder(trained, tmp_path_factory):
    """A run from the embedder of the other to a model that can be shared."""
    folder = beside(trained, tmp_path_factory.mktemp("embedder"))
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
    beside(trained, folder)
    as_a_dict(trained / "bootstrap/train_embeddings", folder / "dino.pt")
    convert_embeddings.main(
        [
            "hparams/convert_embeddings.yaml",
            f"--embeddings={trained / 'bootstrap/test_embeddings'}",
            "--to_format=kaldi",
            f"--output_folder={folder / 'ark'}",
        ]
    )
    options = (
        f"--start_embeddings={folder / 'dino.pt'}",
        f"--start_test_embeddings={folder / 'ark' / 'embeddings.scp'}",
        "--bootstrap_name=their DINO",
        "--round_init=null",
        "--n_rounds=1",
        "--export=False",
    )
    done(folder / "run", *options)
    return folder / "run", options


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
    assert "(bootstrap/model)" not in text
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
    assert list(found) == ["given embedder", "round 1", "published model"]
    assert all("starts from a given embedder" in c for c in found.values())
    found = systems(from_embeddings[0])
    assert list(found) == ["their DINO", "round 1"]
    start = "starts from given embeddings (their DINO), whose training is not"
    assert all(start in caveat for caveat in found.values())


def test_the_card_says_that_the_start_is_of_unknown_origin(
    from_embedder, from_embeddings
):
    folder, _ = from_embedder
    card = (folder / "published/export/model/README.md").read_text()
    unknown = "the steps that led to embedder of bootstrap/train_embeddings"
    assert f"Not given at the export: {unknown}" in card
    assert "not all steps that led to the model are known" in card
    assert "| bootstrap/labels" in card
    folder, _ = from_embeddings
    weights = folder / "round1/model/embedder/embedding_model.ckpt"
    lineage = read_lineage(describe_file(weights), folder)
    unknown = "the steps that led to embeddings of bootstrap/train_embeddings"
    assert lacking(lineage).startswith(unknown)
    for run in (from_embedder[0], from_embeddings[0]):
        page = (run / "report.html").read_text()
        assert "from a start that it was given" in page


def test_a_run_starts_from_an_exported_model_and_may_end_with_it(
    trained, from_embedder, tmp_path
):
    """Without a round, its model is the given one, and nothing is trained."""
    exported = from_embedder[0] / "published" / "export" / "model"
    folder = beside(trained, tmp_path)
    start = f"--start_embedder={exported}"
    text = done(folder, start, "--n_rounds=0", "--scored=False")
    assert text.splitlines()[-1] == f"model:  {exported}"
    name = "train_embeddings/embeddings.npy"
    same = from_embedder[0] / "round1" / name
    assert (folder / "bootstrap" / name).read_bytes() == same.read_bytes()


def test_the_same_command_does_no_step_again(from_embeddings):
    folder, options = from_embeddings
    text = done(folder, *options, "--dry_run=True")
    assert text.count("  done") == int(text.split(" steps:")[0])
    assert re.search("bootstrap/train_embeddings .* convert_embeddings", text)


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
            beside(trained, tmp_path),
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
    """A given start is of the plan's corpus, and --debug has another one."""
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
    said = capsys.readouterr().out
    assert said.startswith("--debug: synthetic voices and tiny models; data_")
    assert "bootstrap/model" in said
