"""Embedding files are read only if they are whole and of one extraction."""

import numpy as np
import pandas as pd
import pytest

from speechbrain_ext.dataio.embedding_files import read_embeddings, rows_for
from speechbrain_ext.utils.errors import InputError

IDS = ["b", "a", "d", "c"]
ROWS = [2, 0, 3, 1]


def write(folder, vectors=None, ids=IDS, rows=ROWS):
    if vectors is None:
        vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.save(folder / "embeddings.npy", vectors)
    table = pd.DataFrame({"ID": ids, "row": rows})
    table.to_csv(folder / "embeddings.csv", index=False)
    return folder


def message_of(folder):
    with pytest.raises(InputError) as caught:
        read_embeddings(folder)
    return str(caught.value)


def test_embeddings_are_mapped_and_found_by_their_row(tmp_path):
    vectors, index = read_embeddings(write(tmp_path))
    assert isinstance(vectors, np.memmap)
    assert vectors.dtype == np.float32
    assert index.ids.tolist() == IDS
    assert vectors[index.row][:, 0].tolist() == [4, 0, 6, 2]


def test_rows_are_those_of_the_asked_utterances(tmp_path):
    _, index = read_embeddings(write(tmp_path))
    rows = rows_for(index, np.array(["c", "b", "c"]), tmp_path)
    assert rows.tolist() == [1, 2, 1]


def test_an_utterance_without_embedding_is_named(tmp_path):
    _, index = read_embeddings(write(tmp_path))
    with pytest.raises(InputError) as caught:
        rows_for(index, np.array(["a", "x", "y"]), tmp_path)
    assert "lacks 2 of 3 utterances, the first is 'x'" in str(caught.value)
    assert "run extract_embeddings" in str(caught.value)


@pytest.mark.parametrize("name", ["embeddings.npy", "embeddings.csv"])
def test_a_missing_file_is_named(tmp_path, name):
    (write(tmp_path) / name).unlink()
    assert name in message_of(tmp_path)


@pytest.mark.parametrize("kind", [str, bool, "S4", complex])
def test_an_array_that_is_not_of_numbers_is_refused(tmp_path, kind):
    """Words ended in numpy's TypeError, three modules away."""
    write(tmp_path)
    np.save(tmp_path / "embeddings.npy", np.zeros((4, 2)).astype(kind))
    assert "embeddings are numbers" in message_of(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not numpy", None])
def test_the_error_for_a_broken_file_says_to_extract_again(tmp_path, content):
    path = write(tmp_path) / "embeddings.npy"
    path.write_bytes(path.read_bytes()[:-4] if content is None else content)
    assert "extract the embeddings again" in message_of(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vectors": np.zeros((5, 2), np.float32)},
        {"vectors": np.zeros((3, 2), np.float32)},
        {"vectors": np.zeros(4, np.float32)},
        {"vectors": np.zeros((4, 2, 1), np.float32)},
        {"rows": [0, 1, 1, 3]},
        {"rows": [1, 2, 3, 4]},
        {"rows": [-1, 0, 1, 2]},
    ],
)
def test_files_of_two_extractions_are_refused(tmp_path, wrong):
    write(tmp_path, **wrong)
    assert "not of one extraction" in message_of(tmp_path)


def test_an_index_without_rows_is_refused(tmp_path):
    write(tmp_path, ids=[], rows=[])
    assert "embeddings.csv has a header and no rows" in message_of(tmp_path)
