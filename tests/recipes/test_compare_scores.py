"""compare_scores through its command line, with good input and bad."""

import json

import numpy as np
import pandas as pd
import pytest
from result_records import result_of

from recipes import compare_scores
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.cosine import read_trials

LEAF = "hparams/compare_scores.yaml"


@pytest.fixture
def corpus(tmp_path):
    """Two folders as score_trials leaves them; the second is better."""
    generator = np.random.default_rng(0)
    lines, speakers = [], {}
    for number in range(600):
        speaker = generator.integers(0, 12)
        label = number % 2
        other = speaker if label else (speaker + 1) % 12
        lines.append(f"{label} s{speaker}-{number}a s{other}-{number}b\n")
        speakers[f"s{speaker}-{number}a"] = f"s{speaker}"
        speakers[f"s{other}-{number}b"] = f"s{other}"
    path = tmp_path / "dev.txt"
    path.write_text("".join(lines))
    table = pd.DataFrame({"ID": speakers.keys(), "spk_id": speakers.values()})
    table.to_csv(tmp_path / "oracle.csv", index=False)
    trials = read_trials(path)
    first = generator.normal(size=600) + 1.5 * trials.labels
    for name, scores in (("a", first), ("b", first + 0.7 * trials.labels)):
        folder = tmp_path / name
        folder.mkdir()
        np.save(folder / "scores_dev_raw.npy", scores.astype(np.float32))
        result_of(
            scores,
            trials.labels,
            n_bootstrap=5,
            system=f"round {name}",
            corpus="toy",
            trials="dev",
            sha256=trials.summary()["sha256"],
            backend="raw",
        ).write(folder / "result_dev_raw.json")
    return tmp_path


def arguments(folder, **overrides):
    keys = {
        "first": folder / "a",
        "second": folder / "b",
        "trials": folder / "dev.txt",
        "oracle": folder / "oracle.csv",
        "output_folder": folder / "out",
        "n_bootstrap": 200,
        **overrides,
    }
    return [LEAF, *(f"--{key}={value}" for key, value in keys.items())]


def comparison(folder):
    return json.loads((folder / "out" / "comparison.json").read_text())


def test_the_better_system_is_named(corpus, caplog):
    with caplog.at_level("INFO"):
        compare_scores.main(arguments(corpus))
    found = comparison(corpus)
    assert (found["first"], found["second"]) == ("round a, raw", "round b, raw")
    change = found["eer_difference"]
    assert change["low"] < change["value"] < change["high"] < 0
    assert change["p_value"] < 0.05
    assert "12 speakers" in found["interval"]


def test_swapping_the_systems_turns_the_sign(corpus):
    compare_scores.main(arguments(corpus))
    first = comparison(corpus)["eer_difference"]
    compare_scores.main(
        arguments(corpus, first=corpus / "b", second=corpus / "a")
        + ["--overwrite=True"]
    )
    second = comparison(corpus)["eer_difference"]
    assert second["value"] == pytest.approx(-first["value"])
    assert second["p_value"] == pytest.approx(first["p_value"], abs=0.01)


def test_without_an_oracle_utterances_are_drawn(corpus):
    compare_scores.main(arguments(corpus, oracle="null"))
    assert "utterances" in comparison(corpus)["interval"]


def test_a_finished_comparison_is_left_alone(corpus):
    compare_scores.main(arguments(corpus))
    path = corpus / "out" / "comparison.json"
    before = path.stat().st_mtime_ns
    compare_scores.main(arguments(corpus))
    assert path.stat().st_mtime_ns == before


def no_number(folder):
    path = folder / "b" / "scores_dev_raw.npy"
    scores = np.load(path)
    scores[4] = np.nan
    np.save(path, scores)


def other_list(folder):
    text = (folder / "dev.txt").read_text().replace("b\n", "c\n", 1)
    (folder / "dev.txt").write_text(text)


@pytest.mark.parametrize(
    ("spoil", "overrides", "message"),
    [
        (no_number, {}, "dev.txt line 5: the score of .* is nan"),
        (other_list, {}, "has scores of another list"),
        (
            None,
            {"second_backend": "as-norm"},
            "scores_dev_as-norm.npy: no such",
        ),
        (None, {"trials": "none.txt"}, "none.txt: no such file"),
        (None, {"name": "E"}, "scores_E_raw.npy: no such file"),
        (None, {"n_bootstrap": 0}, "n_bootstrap is 0"),
        (None, {"second_backen": "raw"}, "did you mean --second_backend"),
        (
            None,
            {"first_backend": "y-norm"},
            "first_backend is 'y-norm'; each must be one of raw",
        ),
    ],
)
def test_bad_input_is_one_clear_message(corpus, spoil, overrides, message):
    if spoil:
        spoil(corpus)
    with pytest.raises(InputError, match=message):
        compare_scores.main(arguments(corpus, **overrides))
    assert not (corpus / "out" / "comparison.json").exists()


def test_trials_of_one_speaker_are_warned_of(corpus):
    oracle = pd.read_csv(corpus / "oracle.csv").set_index("ID").spk_id
    lines = (corpus / "dev.txt").read_text().splitlines()
    targets = [n for n in lines if n[0] == "1" and oracle[n.split()[1]] == "s0"]
    chosen = targets + [n for n in lines if n[0] == "0"]
    (corpus / "dev.txt").write_text("\n".join(chosen) + "\n")
    rows = [lines.index(line) for line in chosen]
    trials = read_trials(corpus / "dev.txt")
    for name in "ab":
        path = corpus / name / "scores_dev_raw.npy"
        scores = np.load(path)[rows]
        np.save(path, scores)
        result_of(
            scores,
            trials.labels,
            n_bootstrap=5,
            trials="dev",
            sha256=trials.summary()["sha256"],
            backend="raw",
        ).write(corpus / name / "result_dev_raw.json")
    compare_scores.main(arguments(corpus))
    words = "all target trials are of one speaker"
    log = (corpus / "out" / "log.txt").read_text()
    assert f"dev: {words}; intervals and p-values" in log
    found = json.loads((corpus / "out" / "comparison.json").read_text())
    assert words in found["interval"]
