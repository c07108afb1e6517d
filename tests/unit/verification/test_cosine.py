"""Trial lists as read for scoring, cosine, cohort means."""

import numpy as np
import pytest
import torch

from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.cosine import (
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
        (
            b"1 a b\n0 my file.wav other file.wav\n",
            "line 2.* names with spaces need tabs",
        ),
        (b"1 a b\n\n2 a c\n", "line 3"),
        (b"1 a b\n1 a c\n", "not both targets"),
        (b"1 a b\n0 a c\n1 a b\n", "line 3: the pair a b is there twice"),
        (b"1 a b\n0 a c\n0 a b\n", "line 3: the pair a b is there with the"),
        (b"1 a b\n0 a c\n0 b a\n", "line 3: the pair b a is there with the"),
        (b"1 a b\n0 a c\n1 c c\n", "line 3: the pair c c compares an utter"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_trials(write(tmp_path, content))


def test_repeats_can_be_counted_as_they_are(tmp_path):
    path = write(tmp_path, b"1 a b\n0 a c\n1 a b\n")
    assert len(read_trials(path, allow_repeats=True)) == 3


def test_the_two_orders_of_a_pair_are_two_trials(tmp_path):
    path = write(tmp_path, b"1 a b\n0 a c\n1 b a\n")
    assert len(read_trials(path)) == 3


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
    monkeypatch.setattr(vectors, "_BLOCK", 7)
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


def test_speaker_means_weigh_directions_not_lengths(monkeypatch):
    x = embeddings(30)
    labels = np.random.default_rng(2).integers(0, 4, 30)
    monkeypatch.setattr(vectors, "_BLOCK", 8)
    means = speaker_means(3 * x, np.arange(30), labels)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for label in range(4):
        expected = unit[labels == label].mean(axis=0)
        np.testing.assert_allclose(means[label], expected, atol=1e-6)


def test_speaker_means_need_a_label_a_row():
    with pytest.raises(InputError, match="3 rows and 2 labels"):
        speaker_means(embeddings(3), np.arange(3), np.array(["a", "b"]))


def test_speaker_means_are_of_centred_embeddings():
    x = embeddings(6)
    mean = x.mean(axis=0)
    labels = np.array([0, 1, 0, 1, 0, 1])
    given = (mean, np.eye(x.shape[1]))
    means = speaker_means(x, np.arange(6), labels, given)
    expected = speaker_means(x - mean, np.arange(6), labels)
    np.testing.assert_allclose(means, expected, atol=1e-6)
