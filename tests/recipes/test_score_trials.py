"""score_trials through its command line, with good input and bad."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from recipes import score_trials
from speechbrain_ext.files import InputError, sha256
from speechbrain_ext.metrics import equal_error_rate
from speechbrain_ext.results import read_result

LEAF = "hparams/score_trials.yaml"
N_SPEAKERS, N_UTTERANCES = 6, 8


def write_embeddings(folder, prefix, seed):
    """Speakers are directions; rows are not in the order of the index."""
    generator = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(N_SPEAKERS), N_UTTERANCES)
    x = generator.normal(size=(N_SPEAKERS, 16))[speakers]
    x = (x + 0.9 * generator.normal(size=x.shape)).astype(np.float32)
    ids = [f"{prefix}/{s}/{n}.wav" for n, s in enumerate(speakers)]
    rows = generator.permutation(len(ids))
    folder.mkdir()
    shuffled = np.empty_like(x)
    shuffled[rows] = x
    np.save(folder / "embeddings.npy", shuffled)
    table = pd.DataFrame({"ID": ids, "row": rows})
    table.to_csv(folder / "embeddings.csv", index=False)
    return x, np.array(ids), speakers


@pytest.fixture
def corpus(tmp_path):
    x, ids, speakers = write_embeddings(tmp_path / "test", "test", seed=0)
    pairs = np.triu_indices(len(ids), k=1)
    labels = (speakers[pairs[0]] == speakers[pairs[1]]).astype(int)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = (unit[pairs[0]] * unit[pairs[1]]).sum(axis=1)
    lines = [
        f"{label} {ids[a]} {ids[b]}\n"
        for label, a, b in zip(labels, *pairs, strict=True)
    ]
    (tmp_path / "dev.txt").write_text("".join(lines))
    (tmp_path / "half.txt").write_text("".join(lines[::2]))
    return tmp_path, scores, labels


def arguments(folder, **overrides):
    keys = {
        "embeddings_folder": folder / "test",
        "trials": folder / "dev.txt",
        "output_folder": folder / "scores",
        "n_bootstrap": 20,
        "system": "DINO",
        **overrides,
    }
    return [LEAF, *(f"--{key}={value}" for key, value in keys.items())]


def test_scores_are_cosines_in_the_order_of_the_list(corpus):
    folder, scores, labels = corpus
    score_trials.main(arguments(folder))
    found = np.load(folder / "scores" / "scores_dev.npy")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, scores, atol=1e-6)
    result = read_result(folder / "scores" / "result_dev.json")
    eer, _ = equal_error_rate(found, labels)
    assert result.eer_percent == pytest.approx(100 * eer)
    assert 0 < eer < 0.3
    assert (result.n_target, result.n_nontarget) == (
        labels.sum(),
        len(labels) - labels.sum(),
    )
    assert result.trials_sha256 == sha256(folder / "dev.txt")
    assert (result.system, result.score_norm) == ("DINO", "none")
    for picture in ("det_dev.png", "histogram_dev.png"):
        content = (folder / "scores" / picture).read_bytes()
        assert content.startswith(b"\x89PNG")


def test_a_finished_folder_is_left_alone(corpus):
    folder, *_ = corpus
    score_trials.main(arguments(folder))
    path = folder / "scores" / "result_dev.json"
    before = path.stat().st_mtime_ns
    score_trials.main(arguments(folder))
    assert path.stat().st_mtime_ns == before


def test_lists_can_be_named(corpus):
    folder, *_ = corpus
    lists = {"O": f"{folder}/dev.txt", "E": f"{folder}/half.txt"}
    score_trials.main(arguments(folder, trials=json.dumps(lists)))
    whole = np.load(folder / "scores" / "scores_O.npy")
    half = np.load(folder / "scores" / "scores_E.npy")
    np.testing.assert_array_equal(whole[::2], half)
    assert read_result(folder / "scores" / "result_E.json").trials == "E"
    receipt = json.loads((folder / "scores" / "stage.json").read_text())
    assert set(receipt["eer_percent_and_min_dcf"]) == {"O", "E"}


def test_several_paths_are_named_by_their_stems(corpus):
    folder, *_ = corpus
    lists = f"[{folder}/dev.txt, {folder}/half.txt]"
    score_trials.main(arguments(folder, trials=lists))
    names = {p.name for p in (folder / "scores").glob("result_*.json")}
    assert names == {"result_dev.json", "result_half.json"}


def with_cohort(folder):
    _, ids, speakers = write_embeddings(folder / "train", "train", seed=1)
    table = pd.DataFrame(
        {
            "ID": ids,
            "duration": 1.0,
            "wav": ids,
            "start": 0,
            "stop": 16000,
            "spk_id": [f"p{speaker}" for speaker in speakers],
        }
    )
    table.to_csv(folder / "pseudo_labels.csv", index=False)
    return {
        "score_norm": "as-norm",
        "cohort_folder": folder / "train",
        "cohort_labels": folder / "pseudo_labels.csv",
        "top_k": 4,
    }


def test_as_norm_uses_one_mean_a_pseudo_speaker(corpus):
    folder, scores, _ = corpus
    score_trials.main(arguments(folder, **with_cohort(folder)))
    found = np.load(folder / "scores" / "scores_dev.npy")
    assert np.abs(found - scores).max() > 0.5
    assert np.corrcoef(found, scores)[0, 1] > 0.8
    result = read_result(folder / "scores" / "result_dev.json")
    assert result.score_norm == f"as-norm, top 4 of {N_SPEAKERS} means"


def test_the_result_tells_where_the_system_came_from(corpus):
    folder, *_ = corpus
    receipt = {"n_utterances": 99, "seconds": 12.5, "random_encoder": True}
    (folder / "stage.json").write_text(json.dumps(receipt))
    figures = {"n_clusters": 7, "nmi": 0.9, "ari": 0.8, "purity": 0.9}
    clusters = json.dumps({"figures": figures, "sizes": [1]})
    (folder / "clusters.json").write_text(clusters)
    score_trials.main(
        arguments(
            folder,
            train_receipt=folder / "stage.json",
            clusters=folder / "clusters.json",
            caveat="toy data",
            run="quickstart",
            corpus="toy",
        )
    )
    result = read_result(folder / "scores" / "result_dev.json")
    assert (result.n_train, result.seconds) == (99, 12.5)
    assert (result.nmi, result.ari, result.n_clusters) == (0.9, 0.8, 7)
    assert result.caveat == "toy data; random WavLM"
    assert (result.run, result.corpus) == ("quickstart", "toy")


def add_line(folder, line):
    with open(folder / "dev.txt", "a") as stream:
        stream.write(line)


def cut_embeddings(folder):
    path = folder / "test" / "embeddings.npy"
    np.save(path, np.load(path)[:-1])


def break_embeddings(folder):
    (folder / "test" / "embeddings.npy").write_bytes(b"not an array")


@pytest.mark.parametrize(
    ("spoil", "overrides", "message"),
    [
        (
            lambda f: add_line(f, "1 test/0/0.wav gone.wav\n"),
            {},
            r"dev.txt line 1129: 'gone.wav' .* \(1 of 1,129",
        ),
        (lambda f: add_line(f, "1 only\n"), {}, "dev.txt line 1129"),
        (cut_embeddings, {}, "not of one extraction"),
        (break_embeddings, {}, "embeddings.npy cannot be read"),
        (
            lambda f: (f / "test" / "embeddings.csv").unlink(),
            {},
            "embeddings.csv",
        ),
        (None, {"trials": "none.txt"}, "none.txt: no such file"),
        (None, {"trials": "{a/b: dev.txt}"}, "'a/b'"),
        (None, {"trials": "[a/dev.txt, b/dev.txt]"}, "share a file name"),
        (None, {"trials": "[]"}, "give a path"),
        (None, {"trials": "{}"}, "give a path"),
        (None, {"score_norm": "z-norm"}, "none or as-norm"),
        (None, {"score_norm": "as-norm"}, "cohort_folder"),
        (None, {"n_bootstrap": 0}, "n_bootstrap is 0"),
        (None, {"p_target": 1.5}, "p_target is 1.5"),
        (None, {"topk": 3}, "did you mean 'top_k'"),
    ],
)
def test_bad_input_is_one_clear_message(corpus, spoil, overrides, message):
    folder, *_ = corpus
    if spoil:
        spoil(folder)
    with pytest.raises(InputError, match=message):
        score_trials.main(arguments(folder, **overrides))
    assert not list(folder.glob("scores/result_*"))


def test_a_cohort_without_embeddings_is_refused(corpus):
    folder, *_ = corpus
    overrides = with_cohort(folder)
    path = folder / "pseudo_labels.csv"
    path.write_text(path.read_text() + "other.wav,1.0,other.wav,0,16000,p0\n")
    with pytest.raises(InputError, match="lacks 1 of .*'other.wav'"):
        score_trials.main(arguments(folder, **overrides))


def test_the_script_exits_with_one_line(corpus):
    folder, *_ = corpus
    command = [sys.executable, "recipes/score_trials.py"]
    done = subprocess.run(
        [*command, *arguments(folder, score_norm="z-norm")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: score_norm is")
    assert "Traceback" not in done.stderr
