"""Trial lists as read for scoring, cosine, cohort means, AS-norm's refusals."""

import numpy as np
import pytest
import torch

from speechbrain_ext import scoring
from speechbrain_ext.files import InputError
from speechbrain_ext.scoring import (
    adaptive_s_norm,
    cosine_scores,
    read_trials,
    speaker_means,
)


def embeddings(n_rows, size=8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n_rows, size)).astype(np.float32)


def write(folder, content):
    path = folder / "dev.txt"
    path.write_bytes(content)
    return path


def test_columns_come_in_file_order(tmp_path):
    trials = read_trials(write(tmp_path, b"0 a b\n1 c a\n0 b a\n"))
    assert trials.name == "dev"
    assert trials.labels.tolist() == [0, 1, 0]
    assert trials.enrol.tolist() == ["a", "c", "b"]
    assert trials.test.tolist() == ["b", "a", "a"]


def test_windows_line_ends_are_read(tmp_path):
    trials = read_trials(write(tmp_path, b"0 a b\r\n1 c a\r\n"))
    assert trials.test.tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1 a b\n0 a\n", "line 2"),
        (b"1 a b\n0 a b c\n", "line 2"),
        (b"1 a b\n0 my file.wav other file.wav\n", "line 2"),
        (b"1 a b\n\n2 a c\n", "line 3"),
        (b"1 a b\n1 a c\n", "not both targets"),
        (b"1 a b\n0 a c\n1 a b\n", "line 3: the pair a b is there twice"),
        (b"1 a b\n0 a c\n0 a b\n", "line 3: the pair a b is there with the"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_trials(write(tmp_path, content))


def test_repeats_can_be_counted_as_they_are(tmp_path):
    path = write(tmp_path, b"1 a b\n0 a c\n1 a b\n")
    assert len(read_trials(path, allow_repeats=True)) == 3


def test_contradictions_are_refused_even_with_repeats(tmp_path):
    path = write(tmp_path, b"1 a b\n0 a b\n")
    with pytest.raises(InputError, match="other label"):
        read_trials(path, allow_repeats=True)


def test_a_list_can_be_given_a_name(tmp_path):
    path = write(tmp_path, b"0 a b\n1 c a\n")
    assert read_trials(path, name="O").name == "O"


def test_an_absent_list_is_named(tmp_path):
    with pytest.raises(InputError, match="none.txt"):
        read_trials(tmp_path / "none.txt")


def test_cosine_does_not_depend_on_length_or_block(monkeypatch):
    x = embeddings(20)
    generator = np.random.default_rng(1)
    enrol, test = generator.integers(0, 20, (2, 300))
    expected = torch.nn.functional.cosine_similarity(
        torch.from_numpy(x[enrol]), torch.from_numpy(x[test])
    )
    monkeypatch.setattr(scoring, "_BLOCK", 7)
    scaled = x * generator.uniform(0.1, 10, (20, 1)).astype(np.float32)
    scores = cosine_scores(scaled, enrol, test)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_memory_mapped_and_tensor_embeddings_score_the_same(tmp_path):
    x, rows = embeddings(5), np.arange(5)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = cosine_scores(x, rows, rows[::-1])
    for given in (mapped, torch.from_numpy(x)):
        np.testing.assert_array_equal(
            cosine_scores(given, rows, rows[::-1]), expected
        )


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_a_useless_embedding_is_named_by_its_row(value):
    x = embeddings(5)
    x[3] = value
    with pytest.raises(InputError, match="row 3"):
        cosine_scores(x, np.array([0, 1]), np.array([1, 3]))


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_outside_is_refused(row):
    with pytest.raises(InputError, match=f"row {row} of 5"):
        cosine_scores(embeddings(5), np.array([0]), np.array([row]))


def test_speaker_means_weigh_directions_not_lengths(monkeypatch):
    x = embeddings(30)
    labels = np.random.default_rng(2).integers(0, 4, 30)
    monkeypatch.setattr(scoring, "_BLOCK", 8)
    means = speaker_means(3 * x, np.arange(30), labels)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for label in range(4):
        expected = unit[labels == label].mean(axis=0)
        np.testing.assert_allclose(means[label], expected, atol=1e-6)


def test_speaker_means_need_a_label_a_row():
    with pytest.raises(InputError, match="3 rows and 2 labels"):
        speaker_means(embeddings(3), np.arange(3), np.array(["a", "b"]))


@pytest.mark.parametrize("top_k", [1, 11])
def test_top_k_must_fit_the_cohort(top_k):
    x, rows = embeddings(4), np.array([0, 1])
    with pytest.raises(InputError, match=f"top_k is {top_k}.*10"):
        adaptive_s_norm(x, embeddings(10), rows, rows, top_k)


def test_a_cohort_of_one_voice_is_refused():
    x, rows = embeddings(4), np.array([0, 1])
    cohort = np.repeat(embeddings(1), 10, axis=0)
    with pytest.raises(InputError, match="all the same"):
        adaptive_s_norm(x, cohort, rows, rows, top_k=5)


def test_a_cohort_of_another_embedder_is_refused():
    x, rows = embeddings(4), np.array([0, 1])
    with pytest.raises(InputError, match="8 dimensions and the cohort has 6"):
        adaptive_s_norm(x, embeddings(10, size=6), rows, rows, top_k=5)
