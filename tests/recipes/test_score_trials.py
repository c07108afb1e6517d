"""score_trials through its command line, with good input and bad."""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import warm

from recipes import score_trials
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import sha256
from speechbrain_ext.verification.metrics import equal_error_rate
from speechbrain_ext.verification.results import (
    GateFacts,
    LabelFacts,
    read_result,
)

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
    found = np.load(folder / "scores" / "scores_dev_raw.npy")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, scores, atol=1e-6)
    result = read_result(folder / "scores" / "result_dev_raw.json")
    eer, _ = equal_error_rate(found, labels)
    assert result.eer.value == pytest.approx(100 * eer)
    assert 0 < eer < 0.3
    assert (result.trials.n_target, result.trials.n_nontarget) == (
        labels.sum(),
        len(labels) - labels.sum(),
    )
    assert result.trials.sha256 == sha256(folder / "dev.txt")
    assert (result.system.name, result.system.score_norm) == ("DINO", "none")
    for stem in ("det_dev", "histogram_dev_raw"):
        content = (folder / "scores" / f"{stem}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert "<svg" in (folder / "scores" / f"{stem}.svg").read_text()
    assert not list((folder / "scores").glob("calibration_*"))


def test_an_interval_that_rests_on_one_speaker_is_warned_of(corpus):
    folder, *_ = corpus
    lines = (folder / "dev.txt").read_text().splitlines(keepends=True)
    kept = [n for n in lines if n[0] == "0" or n.count("/0/") == 2]
    (folder / "dev.txt").write_text("".join(kept))
    index = pd.read_csv(folder / "test" / "embeddings.csv")
    oracle = pd.DataFrame({"ID": index.ID})
    oracle["spk_id"] = index.ID.str.split("/").str[1]
    oracle.to_csv(folder / "oracle.csv", index=False)
    score_trials.main(arguments(folder, oracle=folder / "oracle.csv"))
    words = "all target trials are of one speaker"
    assert (
        f"dev: {words}; intervals"
        in (folder / "scores" / "log.txt").read_text()
    )
    result = read_result(folder / "scores" / "result_dev_raw.json")
    assert f"{words}: it tells nothing of others" in result.bootstrap.words


def test_a_finished_folder_is_left_alone(corpus):
    folder, *_ = corpus
    score_trials.main(arguments(folder))
    path = folder / "scores" / "result_dev_raw.json"
    before = path.stat().st_mtime_ns
    score_trials.main(arguments(folder))
    assert path.stat().st_mtime_ns == before


def test_a_corpus_named_like_an_input_folder_is_part_of_the_request(
    corpus, monkeypatch
):
    """The corpus of a result is not taken for the folder of its trials."""
    folder, *_ = corpus
    monkeypatch.chdir(folder)
    (folder / "toy").mkdir()
    (folder / "dev.txt").rename(folder / "toy" / "dev.txt")
    relative = {"embeddings_folder": "test", "trials": "toy/dev.txt"}
    score_trials.main(arguments(folder, **relative, corpus="toy"))
    with pytest.raises(InputError, match="hparams.corpus"):
        score_trials.main(arguments(folder, **relative, corpus="emb"))
    assert result_of(folder, "raw").trials.corpus == "toy"
    again = arguments(folder, **relative, corpus="emb", overwrite=True)
    score_trials.main(again)
    assert result_of(folder, "raw").trials.corpus == "emb"


def test_names_of_lists_can_be_given(corpus):
    folder, *_ = corpus
    lists = {"O": f"{folder}/dev.txt", "E": f"{folder}/half.txt"}
    score_trials.main(arguments(folder, trials=json.dumps(lists)))
    whole = np.load(folder / "scores" / "scores_O_raw.npy")
    half = np.load(folder / "scores" / "scores_E_raw.npy")
    np.testing.assert_array_equal(whole[::2], half)
    assert (
        read_result(folder / "scores" / "result_E_raw.json").trials.name == "E"
    )
    receipt = json.loads((folder / "scores" / "stage.json").read_text())
    rates = receipt["eer_percent_and_min_dcf"]
    assert set(rates) == {"O", "E"} and set(rates["O"]) == {"raw"}


def test_several_paths_are_named_by_their_stems(corpus):
    folder, *_ = corpus
    lists = f"[{folder}/dev.txt, {folder}/half.txt]"
    score_trials.main(arguments(folder, trials=lists))
    names = {p.name for p in (folder / "scores").glob("result_*.json")}
    assert names == {"result_dev_raw.json", "result_half_raw.json"}


def utterances(ids, seconds):
    return pd.DataFrame(
        {
            "ID": ids,
            "duration": seconds,
            "wav": ids,
            "start": 0,
            "stop": np.round(16000 * np.asarray(seconds)).astype(int),
        }
    )


def with_cohort(folder, **others):
    _, ids, speakers = write_embeddings(folder / "train", "train", seed=1)
    seconds = np.random.default_rng(5).uniform(1, 9, len(ids)).round(2)
    table = utterances(ids, seconds)
    table["spk_id"] = [f"p{speaker}" for speaker in speakers]
    table.to_csv(folder / "pseudo_labels.csv", index=False)
    test = pd.read_csv(folder / "test" / "embeddings.csv")
    utterances(test["ID"], seconds).to_csv(folder / "test.csv", index=False)
    return {
        "backends": "as-norm",
        "cohort_folder": folder / "train",
        "cohort_labels": folder / "pseudo_labels.csv",
        "annotation": folder / "test.csv",
        "top_k": 4,
        **others,
    }


def result_of(folder, backend, name="dev"):
    return read_result(folder / "scores" / f"result_{name}_{backend}.json")


def scores_of(folder, backend, name="dev"):
    return np.load(folder / "scores" / f"scores_{name}_{backend}.npy")


def test_as_norm_uses_the_mean_of_each_pseudo_speaker(corpus):
    folder, scores, _ = corpus
    score_trials.main(arguments(folder, **with_cohort(folder)))
    found = scores_of(folder, "as-norm")
    assert np.abs(found - scores).max() > 0.5
    assert np.corrcoef(found, scores)[0, 1] > 0.8
    result = result_of(folder, "as-norm")
    assert result.system.score_norm == f"as-norm, top 4 of {N_SPEAKERS} means"
    assert result.system.backend == "as-norm"
    assert result.system.calibration == "none"


ALL = ["raw", "z-norm", "t-norm", "s-norm", "as-norm"]
ALL += ["raw+linear", "as-norm+qmf"]


def test_every_back_end_has_a_row_from_one_pass(corpus):
    folder, raw, labels = corpus
    backends = f"[{', '.join(ALL)}]"
    lists = f"[{folder}/dev.txt, {folder}/half.txt]"
    options = with_cohort(folder, backends=backends, trials=lists)
    score_trials.main(arguments(folder, **options))
    for backend in ALL:
        whole, half = (
            scores_of(folder, backend),
            scores_of(folder, backend, "half"),
        )
        np.testing.assert_array_equal(whole[::2], half)
        result = result_of(folder, backend)
        eer, _ = equal_error_rate(whole, labels)
        assert result.eer.value == pytest.approx(100 * eer)
        assert (result.cllr is not None) == ("+" in backend)
        assert (result.actual_dcf is not None) == ("+" in backend)
        assert 0 <= result.min_cllr <= 1
        assert result.bootstrap.words.startswith(
            "95 % bootstrap over 6 speakers"
        )
    assert (folder / "scores" / "calibration_half.svg").exists()
    # A calibration keeps the order, and says how it was learnt.
    linear = scores_of(folder, "raw+linear")
    order = np.argsort(raw)
    assert (np.diff(linear[order]) >= -1e-4).all()
    words = result_of(folder, "raw+linear").system.calibration
    assert words.startswith("linear, on 168 + 960 pairs of pseudo-speakers")
    words = result_of(folder, "as-norm+qmf").system.calibration
    for measure in ("log duration", "log magnitude", "imposter mean"):
        assert f"smaller {measure}" in words


def test_calibration_on_correct_pseudo_speakers_costs_little(corpus):
    folder, *_ = corpus
    options = with_cohort(folder, backends="raw+linear", p_target=0.2)
    score_trials.main(arguments(folder, **options))
    result = result_of(folder, "raw+linear")
    assert result.cllr < result.min_cllr + 0.1 < 0.6
    least = result.min_dcf.value
    assert least <= result.actual_dcf < least + 0.1


def test_calibration_can_be_learnt_from_a_given_list(corpus):
    folder, *_ = corpus
    score_trials.main(
        arguments(
            folder,
            backends="raw+linear",
            calibration_trials=folder / "half.txt",
            calibration_folder=folder / "test",
        )
    )
    words = result_of(folder, "raw+linear").system.calibration
    assert words.startswith("linear, on 564 trials of half: ")


def test_calibration_may_take_other_labels_than_the_cohort(corpus):
    folder, *_ = corpus
    options = with_cohort(folder, backends="as-norm+linear")
    table = pd.read_csv(folder / "pseudo_labels.csv")
    table["spk_id"] = table["spk_id"].replace({"p1": "p0"})
    table.to_csv(folder / "earlier.csv", index=False)
    options["calibration_labels"] = folder / "earlier.csv"
    score_trials.main(arguments(folder, **options))
    result = result_of(folder, "as-norm+linear")
    assert result.system.score_norm.endswith(f"of {N_SPEAKERS} means")
    assert "232 + 896 pairs" in result.system.calibration


def test_a_cohort_of_utterances_needs_no_labels(corpus):
    folder, *_ = corpus
    options = with_cohort(folder, cohort="utterances", n_cohort=20)
    del options["cohort_labels"]
    score_trials.main(arguments(folder, **options))
    result = result_of(folder, "as-norm")
    assert result.system.score_norm == "as-norm, top 4 of 20 utterances"


def test_the_mean_of_the_training_embeddings_can_be_subtracted(corpus):
    folder, raw, _ = corpus
    options = with_cohort(folder, backends="raw", whiten=0)
    score_trials.main(arguments(folder, **options))
    table = pd.read_csv(folder / "test" / "embeddings.csv")
    x = np.load(folder / "test" / "embeddings.npy")[table["row"]]
    x = x - np.load(folder / "train" / "embeddings.npy").mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    pairs = np.triu_indices(len(x), k=1)
    expected = (x[pairs[0]] * x[pairs[1]]).sum(axis=1)
    np.testing.assert_allclose(scores_of(folder, "raw"), expected, atol=1e-5)
    assert np.abs(expected - raw).max() > 0.01
    assert result_of(folder, "raw").system.protocol == "full, whitened 0"


def test_the_crops_protocol_is_named_and_scored(corpus):
    folder, raw, _ = corpus
    x = np.load(folder / "test" / "embeddings.npy")
    # Crops that are the utterance itself change nothing.
    np.save(folder / "test" / "crop_embeddings.npy", np.stack([x, x], axis=1))
    score_trials.main(arguments(folder, protocol="crops"))
    np.testing.assert_allclose(scores_of(folder, "raw"), raw, atol=1e-6)
    assert result_of(folder, "raw").system.protocol == "crops: 2 x 2, and whole"


def test_results_are_broken_down_by_what_is_known(corpus):
    folder, *_ = corpus
    options = with_cohort(folder, backends="raw")
    lines = ["spk_id,gender"] + [
        f"{s},{'fm'[s % 2]}" for s in range(N_SPEAKERS)
    ]
    (folder / "meta.csv").write_text("\n".join(lines) + "\n")
    ids = pd.read_csv(folder / "test.csv")["ID"]
    speakers = pd.DataFrame({"ID": ids, "spk_id": ids.str.split("/").str[1]})
    speakers.to_csv(folder / "oracle.csv", index=False)
    options["metadata"] = folder / "meta.csv"
    options["oracle"] = folder / "oracle.csv"
    score_trials.main(arguments(folder, **options))
    result = result_of(folder, "raw")
    found = result.groups
    assert {group.by for group in found} == {"gender", "duration"}
    values = {group.value: group for group in found}
    assert values["f - f"].n_target == values["m - m"].n_target
    assert values["f - m"].n_target == 0
    assert values["f - m"].eer is values["f - m"].min_dcf is None
    assert values["f - f"].eer.low < values["f - f"].eer.high
    for by in ("gender", "duration"):
        counts = [group.n_target for group in found if group.by == by]
        assert sum(counts) == result.trials.n_target


def test_results_say_that_speakers_are_not_known(corpus):
    folder, *_ = corpus
    for name in ("dev.txt", "test/embeddings.csv"):
        path = folder / name
        path.write_text(path.read_text().replace("test/", "test-"))
    for name in ("dev.txt", "test/embeddings.csv"):
        path = folder / name
        text = re.sub(r"test-(\d)/", r"test-\1-", path.read_text())
        path.write_text(text)
    score_trials.main(arguments(folder))
    result = result_of(folder, "raw")
    assert "48 utterances" in result.bootstrap.words
    assert "speakers are not known" in result.bootstrap.words


def test_calibration_pairs_are_of_different_recordings_if_the_ids_tell_them(
    corpus,
):
    folder, *_ = corpus
    options = with_cohort(folder, backends="raw+linear", p_target=0.2)
    for name in ("pseudo_labels.csv", "train/embeddings.csv"):
        path = folder / name
        text = re.sub(r"(train/\d/)(\d*)(\d)", r"\g<1>r\2/\3", path.read_text())
        path.write_text(text)
    options["recordings_in_ids"] = True
    score_trials.main(arguments(folder, **options))
    words = result_of(folder, "raw+linear").system.calibration
    assert "pairs of pseudo-speakers, of different recordings" in words
    n_target = int(words.split(" on ")[1].split(" ")[0])
    assert 0 < n_target < 168


def test_names_with_spaces_and_windows_line_ends_are_scored(corpus):
    folder, raw, _ = corpus
    text = (folder / "dev.txt").read_text()
    text = text.replace(" ", "\t").replace("test/", "my test/")
    (folder / "dev.txt").write_bytes(text.replace("\n", "\r\n").encode())
    index = folder / "test" / "embeddings.csv"
    index.write_text(index.read_text().replace("test/", "my test/"))
    score_trials.main(arguments(folder))
    np.testing.assert_allclose(scores_of(folder, "raw"), raw, atol=1e-6)


@pytest.mark.parametrize("caveat", ["toy data", ""])
def test_the_result_tells_where_the_system_came_from(corpus, caveat):
    folder, *_ = corpus
    receipt = {"n_utterances": 99, "seconds": 12.5, "random_encoder": True}
    receipt |= {"kept": 0.75, "corrected": 0.25, "gate": "soft"}
    receipt["never_acted"] = ["x never acted"]
    receipt["oracle_positives"] = True
    (folder / "stage.json").write_text(json.dumps(receipt))
    statistics = {"n_clusters": 7, "nmi": 0.9, "ari": 0.8, "purity": 0.9}
    facts = {"statistics": statistics, "parameters": {"weighted": False}}
    clusters = json.dumps({**facts, "sizes": [1]})
    (folder / "clusters.json").write_text(clusters)
    score_trials.main(
        arguments(
            folder,
            train_record=folder / "stage.json",
            clusters=folder / "clusters.json",
            caveat=caveat,
            run="quickstart",
            corpus="toy",
        )
    )
    result = read_result(folder / "scores" / "result_dev_raw.json")
    assert result.system.n_train == 99
    # The time of a training is no part of what its scores are.
    assert result.system.seconds is None
    assert result.labels == LabelFacts(0.9, 0.8, 7, weighted=False)
    assert result.gate == GateFacts(0.75, 0.25, kind="soft")
    assert result.system.never_acted == ("x never acted",)
    assert result.bootstrap.unit == "speakers"
    words = [
        caveat,
        "encoder of random weights, not pre-trained",
        "true speakers chose the positives: true labels were used in training",
    ]
    assert result.system.caveat == "; ".join(filter(None, words))
    assert (result.system.run, result.trials.corpus) == ("quickstart", "toy")


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
        (None, {"trials": "[a/dev.txt, b/dev.txt]"}, "not share a file name"),
        (None, {"trials": "[]"}, "at least one list"),
        (None, {"trials": "{}"}, "at least one list"),
        (
            None,
            {"backends": "y-norm"},
            "backends is 'y-norm'; each must be one of raw, z-norm",
        ),
        (None, {"backends": "[raw, 3]"}, r"backends is \['raw', 3\]; it must"),
        (None, {"backends": "[raw, raw]"}, "each must be named once"),
        (None, {"backends": "as-norm"}, "cohort_folder is null"),
        (None, {"backends": "raw+linear"}, "cohort_folder is null"),
        (None, {"backends": "as-norm", "cohort_folder": "x"}, "cohort_labels"),
        (None, {"whiten": 0.5}, "cohort_folder is null"),
        (None, {"protocol": "both"}, "protocol is 'both'; it must be full or"),
        (None, {"protocol": "crops"}, "crop_embeddings.npy: no such file"),
        (
            lambda f: add_line(f, "2 test/0/0.wav test/0/1.wav\n"),
            {},
            "dev.txt line 1129: '2 test/0/0.wav",
        ),
        (
            lambda f: add_line(f, "0 test/0/0.wav test/1/8.wav\n"),
            {},
            "dev.txt line 1129: the pair .* is there twice",
        ),
        (
            lambda f: (f / "dev.txt").write_text("1 test/0/0.wav test/0/1.wav"),
            {},
            "an EER needs both",
        ),
        (None, {"n_bootstrap": 0}, "n_bootstrap is 0"),
        (None, {"p_target": 1.5}, "p_target is 1.5"),
        (None, {"topk": 3}, "did you mean --top_k"),
        (None, {"duration_edges": "[8, 4]"}, "each must be above the one"),
        (None, {"duration_edges": "[a]"}, r"each value a number above 0"),
        (None, {"whiten": 2}, "whiten is 2; it must be a number from 0 to 1"),
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


def test_qmf_needs_durations(corpus):
    folder, *_ = corpus
    options = with_cohort(folder, backends="raw+qmf")
    del options["annotation"]
    with pytest.raises(InputError, match="give --annotation"):
        score_trials.main(arguments(folder, **options))


def test_an_embedding_that_is_no_number_is_refused(corpus):
    folder, *_ = corpus
    path = folder / "test" / "embeddings.npy"
    x = np.load(path)
    x[7, 3] = np.nan
    np.save(path, x)
    with pytest.raises(InputError, match="embedding row 7 has length nan"):
        score_trials.main(arguments(folder))


def test_the_script_exits_with_one_line(corpus):
    folder, *_ = corpus
    command = [sys.executable, "recipes/score_trials.py"]
    done = warm.run([*command, *arguments(folder, backends="y-norm")])
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "error: backends is 'y-norm'; "
    )
    assert "Traceback" not in done.stderr


def test_a_cohort_may_be_a_sample_of_the_labelled_utterances(corpus):
    folder, scores, _ = corpus
    options = with_cohort(folder, backends=["as-norm", "raw+linear"])
    path = folder / "train" / "embeddings.csv"
    table = pd.read_csv(path)[::2]
    whole = np.load(folder / "train" / "embeddings.npy")
    np.save(folder / "train" / "embeddings.npy", whole[table.row])
    table.assign(row=np.arange(len(table))).to_csv(path, index=False)
    with pytest.raises(InputError, match="train lacks .* utterances"):
        score_trials.main(arguments(folder, **options))
    options["cohort_is_sample"] = True
    score_trials.main(arguments(folder, **options))
    assert np.corrcoef(scores_of(folder, "as-norm"), scores)[0, 1] > 0.6
    assert result_of(folder, "raw+linear").cllr < 0.9
