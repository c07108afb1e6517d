"""The shared folder: loads anywhere, says what was measured, runs nothing."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import warm
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from published import CASES, arguments, corpus, publish, save, score, words
from speechbrain.inference.classifiers import EncoderClassifier
from speechbrain.inference.speaker import SpeakerRecognition

from recipes import export_model, whiten_embedder
from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.inference.settings import ExportModel
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json, write_json
from speechbrain_ext.utils.provenance import describe_file
from speechbrain_ext.verification.results import read_results

ROOT = Path(__file__).parents[2]
STOCK = [SpeakerRecognition, EncoderClassifier]


@pytest.fixture(scope="module", params=CASES)
def model(request, tmp_path_factory):
    return publish(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def ecapa(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("ecapa"))


@pytest.fixture
def copied(ecapa, tmp_path):
    """All that the export reads, to be spoilt."""
    shutil.copytree(ecapa.parents[1], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "export")
    return tmp_path / "run"


def scored(model):
    """IDs and embeddings, as they were scored."""
    vectors, index = read_embeddings(model.parents[1] / "embeddings")
    return index.ids, np.asarray(vectors[index.row])


def trained(folder, **facts):
    """A receipt of the training that made the embedder in a folder."""
    name = "embedder/embedding_model.ckpt"
    write_json(
        folder / "stage.json",
        {
            "recipe": "train_speaker",
            "inputs": {"train_annotation": {"path": "l.csv", "sha256": "l"}},
            "outputs": {name: describe_file(folder / name)},
            "versions": {},
            **facts,
        },
    )


def rescored(folder, **changes):
    """Other scores of a copied model."""
    shutil.rmtree(folder / "scores")
    score(folder, folder / "data", **changes)


def files(model):
    data = model.parents[1] / "data"
    return [str(data / name) for name in scored(model)[0]]


def test_the_folder_holds_files_of_both_loaders_and_a_card(model):
    assert {path.name for path in model.iterdir()} == {
        "hyperparams.yaml",
        "embedding_model.ckpt",
        "config.json",
        "model.safetensors",
        "README.md",
        "example1.wav",
        "example2.wav",
    }
    config = read_json(model / "config.json")
    assert config["speechbrain_interface"] == "SpeakerRecognition"
    for name in re.findall(r"speechbrain_ext[\w.]+", json.dumps(config)):
        # A room path: a file of the package may move, a folder still loads.
        _, room, kind = name.split(".")
        assert (
            kind in importlib.import_module(f"speechbrain_ext.{room}").__all__
        )
    for name in ("hyperparams.yaml", "embedding_model.ckpt"):
        source = model.parents[1] / "embedder" / name
        assert (model / name).read_bytes() == source.read_bytes()


def test_no_file_names_a_local_folder(model):
    for path in model.iterdir():
        content = path.read_bytes()
        assert str(model.parents[1]).encode() not in content, path.name
        assert b"tmp" not in content, path.name


def test_the_verifier_gives_the_embeddings_that_were_scored(model):
    found = SpeakerVerifier.from_pretrained(model, "cpu").embed(files(model))
    np.testing.assert_allclose(found, scored(model)[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", STOCK)
def test_speechbrain_gives_the_embeddings_that_were_scored(model, kind):
    stock = kind.from_hparams(
        source=str(model), savedir=str(model.parents[1] / kind.__name__)
    )
    for path, wanted in zip(files(model)[:4], scored(model)[1], strict=False):
        found = stock.encode_batch(stock.load_audio(path)[None])
        np.testing.assert_allclose(found[0, 0].cpu(), wanted, atol=1e-6, rtol=0)


def test_verifying_gives_the_scores_and_the_calibration_that_were_scored(model):
    scores = model.parents[1] / "scores"
    rows = (model.parents[1] / "data" / "tones.txt").read_text().splitlines()
    _, enrol, test = zip(*(row.split() for row in rows), strict=True)
    data = model.parents[1] / "data"
    verifier = SpeakerVerifier.from_pretrained(model, "cpu")
    found = verifier.verify(
        [data / name for name in enrol], [data / name for name in test]
    )
    raw = np.load(scores / "scores_tones_raw.npy")
    llr = np.load(scores / "scores_tones_raw+linear.npy")
    np.testing.assert_allclose(found.score, raw, atol=1e-6)
    np.testing.assert_allclose(
        np.log(found.probability / (1 - found.probability)), llr, atol=1e-3
    )
    assert (found.same == (llr >= 0)).mean() > 0.99
    assert 0 < found.same.mean() < 1


def test_the_card_is_read_by_the_hubs_own_tools_with_the_results_numbers(model):
    card = ModelCard.load(model / "README.md")
    assert card.data.library_name == "speechbrain"
    assert card.data.license == "apache-2.0"
    assert card.data.datasets is None
    (result,) = [
        r
        for r in read_results(model.parents[1] / "scores")
        if r.system.backend == "raw"
    ]
    index = card.data.to_dict()["model-index"]
    name, found = model_index_to_eval_results(index)
    assert name == card.data.model_name
    assert {
        (e.metric_type, (e.metric_args or {}).get("p_target")): e.metric_value
        for e in found
    } == {
        ("eer", None): result.eer.value,
        ("min_dcf", 0.01): result.min_dcf.value,
        ("min_dcf", 0.05): result.min_dcf_05.value,
    }
    assert {e.dataset_config for e in found} == {"tones"}


def test_the_card_tells_threshold_caveats_and_counts(model):
    text = (model / "README.md").read_text()
    stored = read_json(model / "config.json")["speechbrain_ext"]["decision"]
    assert f"cosine of {stored['threshold']:.4f}" in text
    assert "- toy tones" in text
    (result,) = [
        r
        for r in read_results(model.parents[1] / "scores")
        if r.system.backend == "raw"
    ]
    counts = result.trials
    assert f"{counts.n_target} targets, {counts.n_nontarget}" in text
    rows = [line for line in text.splitlines() if "| raw |" in line]
    assert rows and all(f"| {result.eer.value:.2f} [" in row for row in rows)


def test_the_cards_code_runs_as_printed(model):
    blocks = re.findall(
        r"^```python\n(.*?)^```",
        (model / "README.md").read_text(),
        re.M | re.S,
    )
    assert len(blocks) == 2
    for code in blocks:
        done = warm.run(
            [sys.executable, "-c", code],
            cwd=model,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr


def test_the_folder_loads_without_network_and_without_other_files(
    model, tmp_path
):
    """Another folder, empty home, sockets that refuse."""
    shutil.copytree(model, tmp_path / "model")
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "from speechbrain.inference.speaker import SpeakerRecognition\n"
        "from speechbrain_ext.inference.verifier import SpeakerVerifier\n"
        "one = SpeakerVerifier.from_pretrained('model')\n"
        "two = SpeakerRecognition.from_hparams('model', savedir='s')\n"
        "wav = two.load_audio('model/example1.wav')\n"
        "gap = one.embed('model/example1.wav') - "
        "two.encode_batch(wav[None])[0, 0].cpu()\n"
        "assert gap.abs().max() < 1e-6, gap\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_HOME": str(tmp_path / "empty"),
        },
        check=True,
    )


def test_a_second_export_tells_the_whole_history_too(copied):
    trained(copied, random_encoder=True)
    export_model.main(arguments(copied))
    card = copied / "export" / "model" / "README.md"
    first = card.read_text()
    assert "| . | train_speaker |" in first
    assert "random weights" in first
    export_model.main(arguments(copied, overwrite=True))
    assert (copied / "export.old1").is_dir()
    assert card.read_text() == first


def test_the_card_says_that_its_history_is_incomplete(copied, capsys):
    """Labels that lie elsewhere may be of true speakers."""
    labels = copied / "labels" / "pseudo_labels.csv"
    labels.parent.mkdir()
    labels.write_text("true speakers")
    entry = describe_file(labels)
    write_json(
        labels.parent / "stage.json",
        {
            "recipe": "make_oracle_labels",
            "inputs": {},
            "outputs": {labels.name: entry},
            "true_labels": True,
        },
    )
    (copied / "model").mkdir()
    (copied / "embedder").rename(copied / "model" / "embedder")
    trained(copied / "model", inputs={"train_annotation": entry})
    own = {"embedder_folder": str(copied / "model" / "embedder")}
    export_model.main(arguments(copied, **own, run_folder=None))
    card = copied / "export" / "model" / "README.md"
    said = "the steps that led to train_annotation of . (train_speaker)"
    assert f"Not given at the export: {said}" in card.read_text()
    assert f"the card will lack {said}" in capsys.readouterr().out
    export_model.main(arguments(copied, **own, overwrite=True))
    assert "- true speaker labels were used" in card.read_text()
    assert "Not given" not in card.read_text()
    assert "the card will lack" not in capsys.readouterr().out


def test_an_edited_card_is_kept_until_it_is_moved_aside(copied, capsys):
    export_model.main(arguments(copied))
    model = copied / "export" / "model"
    made = (model / "README.md").read_text()
    (model / "README.md").write_text(f"{made}\nTwo words of mine.\n")
    size = (model / "README.md").stat().st_size
    export_model.main(arguments(copied, push="me/model", dry_run=True))
    assert "Two words of mine" in (model / "README.md").read_text()
    assert f"{size:,} bytes  README.md" in capsys.readouterr().out
    # Nor are the words lost where another file has to be made again.
    (model / "config.json").unlink()
    export_model.main(arguments(copied))
    assert "Two words of mine" in (model / "README.md").read_text()
    export_model.main(arguments(copied, overwrite=True))
    assert (model / "README.md").read_text() == made
    aside = copied / "export.old1" / "model" / "README.md"
    assert "Two words of mine" in aside.read_text()


def test_a_card_that_was_deleted_is_made_again(copied):
    export_model.main(arguments(copied))
    card = copied / "export" / "model" / "README.md"
    made = card.read_text()
    card.unlink()
    export_model.main(arguments(copied))
    assert card.read_text() == made


def test_the_same_command_again_is_skipped(ecapa):
    before = (ecapa / "config.json").stat().st_mtime_ns
    export_model.main(arguments(ecapa.parents[1]))
    assert (ecapa / "config.json").stat().st_mtime_ns == before


def refused(folder, message, **options):
    with pytest.raises(InputError, match=message):
        export_model.main(arguments(folder, **options))
    assert not (folder / "export" / "model").exists()


def test_a_model_without_a_result_is_refused(copied):
    shutil.rmtree(copied / "scores")
    refused(copied, "has no finished result")


def test_results_of_another_embedder_are_refused(copied):
    save(copied / "embedder", seed=1)
    refused(copied, "was not made from .*embedding_model.ckpt")


@pytest.mark.parametrize("part", ["cohort", "calibration"])
def test_a_calibration_on_embeddings_of_another_model_is_refused(copied, part):
    other = copied / "other"
    save(other / "embedder", seed=1)
    score(other, copied / "data")
    changes = {f"{part}_folder": str(other / "embeddings")}
    if part == "calibration":
        changes["calibration_trials"] = str(copied / "data" / "tones.txt")
    rescored(copied, **changes)
    wrong = "other/embeddings/embeddings.npy was not made from"
    refused(copied, f"{wrong}.*as --{part}_folder")


def test_embeddings_that_moved_are_found_below_the_run_folder(copied):
    """As those of a run that was moved as a whole."""
    shutil.copytree(copied / "embeddings", copied / "train_embeddings")
    rescored(copied, cohort_folder=str(copied / "train_embeddings"))
    (copied / "train_embeddings").rename(copied / "moved")
    refused(
        copied, "no stage record beside", run_folder=str(copied / "embedder")
    )
    export_model.main(arguments(copied))


def test_results_that_were_touched_are_refused(copied):
    path = copied / "scores" / "result_tones_raw.json"
    write_json(path, {**read_json(path), "eer_hull": 0.1})
    refused(copied, "is not what its stage wrote")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backends": "raw"}, "was not calibrated"),
        ({"backends": ["as-norm"], "top_k": 2}, "has results of .'as-norm"),
        ({"whiten": 0.5}, "put whitening into the model"),
    ],
)
def test_scores_that_a_user_cannot_reproduce_are_refused(
    copied, change, message
):
    rescored(copied, **change)
    refused(copied, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": 1.0}, "prior is 1.0"),
        ({"prior": "half"}, "prior is 'half'"),
        ({"prior": 1e-99}, "threshold is a cosine of .*give another --prior"),
        ({"push": "not an id"}, "push is 'not an id'"),
        ({"push": "model"}, "push is 'model'.*owner/name"),
        ({"embedder_folder": "nowhere"}, "nowhere"),
        ({"embeddings_folder": "nowhere"}, "nowhere"),
        ({"datasets": "abc"}, "datasets is 'abc'; it must be a list"),
        ({"datasets": 5}, "datasets is 5; it must be a list"),
        ({"base_models": ["my model"]}, "base_models has 'my model'; an id"),
        ({"languages": ["English"]}, "languages has 'English'; a language"),
        ({"datasets": ["my voices"]}, "datasets has 'my voices'; an id"),
        ({"title": 5}, "title is 5; it must be text"),
        ({"title": "a\n---\nb"}, "title is .*one line"),
        ({"license": "any, really"}, "license is 'any, really'; it must be"),
    ],
)
def test_bad_input_is_one_clear_error(copied, options, message):
    refused(copied, message, **options)
    assert not (copied / "export").exists()


def test_the_settings_name_the_inputs_that_the_record_compares(copied):
    """The driver looks at these to see whether an export is stale."""
    export_model.main(arguments(copied))
    folders = {
        f"{name}_folder": str(copied / name)
        for name in ("embedder", "embeddings", "scores")
    }
    settings = ExportModel.from_values({**folders, "output_folder": "x"})
    recorded = read_json(copied / "export" / "stage.json")["inputs"]

    def found():
        return {k: describe_file(v) for k, v in settings.inputs().items()}

    assert found() == recorded
    path = copied / "embedder" / "embedding_model.ckpt"
    path.write_bytes(path.read_bytes() + b"0")
    assert found()["embedder"] != recorded["embedder"]


def test_a_calibration_with_a_negative_weight_is_refused(copied):
    path = copied / "scores" / "stage.json"
    receipt = read_json(path)
    receipt["calibrations"]["raw+linear"]["weights"] = [-1.0]
    write_json(path, receipt)
    refused(copied, "higher score would mean less alike")


def test_an_embedder_that_names_a_file_elsewhere_is_refused(tmp_path):
    corpus(tmp_path / "data")
    save(tmp_path / "embedder")
    path = tmp_path / "embedder" / "hyperparams.yaml"
    text = path.read_text()
    path.write_text(text + "note: /data/me/secret.wav\n")
    score(tmp_path, tmp_path / "data", trust_yaml=True)
    refused(tmp_path, "a path or address that others do not have")
    # Nothing was begun that the corrected command would be compared with.
    assert not (tmp_path / "export").exists()


def test_a_dry_run_lists_what_would_go_and_sends_nothing(ecapa, capsys):
    folder = ecapa.parents[1]
    (ecapa / "stray.txt").write_text("not of the export")
    export_model.main(arguments(folder, push="me/model", dry_run=True))
    text = capsys.readouterr().out
    (ecapa / "stray.txt").unlink()
    assert "would go to me/model (private, if it is new)" in text
    for path in ecapa.iterdir():
        assert f"{path.stat().st_size:,} bytes  {path.name}" in text
    assert "stray" not in text


def test_the_whitened_model_is_exported_as_it_was_scored(tmp_path):
    corpus(tmp_path / "data")
    save(tmp_path / "plain" / "embedder")
    score(tmp_path / "plain", tmp_path / "data")
    whiten_embedder.main(
        words(
            "whiten_embedder",
            embedder_folder=str(tmp_path / "plain" / "embedder"),
            embeddings_folder=str(tmp_path / "plain" / "embeddings"),
            whiten=0.5,
            output_folder=str(tmp_path / "white"),
        )[:-1]
    )
    score(tmp_path / "white", tmp_path / "data")
    folder = tmp_path / "white"
    export_model.main(arguments(folder, run_folder=str(tmp_path)))
    model = folder / "export" / "model"
    text = (model / "README.md").read_text()
    assert "| plain/embeddings | extract_embeddings |" in text
    assert "whiten 0.5" in text
    vectors, index = read_embeddings(folder / "embeddings")
    paths = [tmp_path / "data" / name for name in index.ids]
    found = SpeakerVerifier.from_pretrained(model, "cpu").embed(paths)
    np.testing.assert_allclose(found, vectors[index.row], atol=1e-6, rtol=1e-6)


def test_a_folder_for_our_loader_alone_holds_the_weights_once(copied):
    """The folder is half as large, to lie in a repository."""
    export_model.main(arguments(copied, for_speechbrain=False))
    folder = copied / "export" / "model"
    names = {path.name for path in folder.iterdir()}
    assert "model.safetensors" in names
    assert not names & {"embedding_model.ckpt", "hyperparams.yaml"}
    verifier = SpeakerVerifier.from_pretrained(folder)
    first, second = (str(folder / f"example{n}.wav") for n in (1, 2))
    assert -1 <= verifier.verify(first, second).score <= 1
    card = (folder / "README.md").read_text("utf-8")
    assert "from_hparams" not in card and "from_pretrained" in card
