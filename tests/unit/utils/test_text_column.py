"""A column of texts is an array of strings, in a tenth of the memory."""

import numpy as np
import pytest

from speechbrain_ext.utils import text_column
from speechbrain_ext.utils.text_column import TextColumn, hashes_of

TEXTS = ["b", "", "été", "a" * 300, "b", "日本"]


@pytest.fixture(params=[2, 100])
def column(request, monkeypatch):
    """A column that is read in several blocks, or in one."""
    monkeypatch.setattr(text_column, "BLOCK", request.param)
    return TextColumn.of(TEXTS)


def test_it_reads_as_an_array_of_strings(column):
    assert list(column) == column.tolist() == TEXTS
    assert np.asarray(column).tolist() == TEXTS
    assert column[2] == "été" and column[-1] == "日本"
    assert column[1:3].tolist() == ["", "été"]
    assert column[np.array([4, 0, 0])].tolist() == ["b"] * 3
    mask = np.array([True, False, True, False, False, False])
    assert column[mask].tolist() == ["b", "été"]
    assert (column == "b").tolist() == [True] + [False] * 3 + [True, False]


@pytest.mark.parametrize("key", [6, -7, [6], np.array([True])])
def test_a_row_that_is_not_there_is_refused(column, key):
    with pytest.raises(IndexError):
        column[key]


def test_rows_of_rows_are_those_of_the_whole(column):
    chosen = column.take([5, 2, 0]).take(np.array([True, False, True]))
    assert chosen.tolist() == ["日本", "b"] and len(chosen) == 2
    assert chosen.find(["b", "été"]).tolist() == [1, -1]
    assert column.take([]).tolist() == []


def test_texts_are_found_and_the_first_of_equal_ones_counts(column):
    wanted = ["日本", "x", "b", ""]
    assert column.find(wanted).tolist() == [5, -1, 0, 1]
    assert column.find(TextColumn.of(wanted)).tolist() == [5, -1, 0, 1]
    assert [column.find_one(text) for text in wanted] == [5, -1, 0, 1]
    assert column.find_one(3) == -1


def test_texts_of_one_hash_are_not_confused(column, monkeypatch):
    def colliding(texts):
        return np.zeros(len(texts), dtype=np.uint64)

    monkeypatch.setattr(text_column, "hashes_of", colliding)
    assert column.find(["日本", "x", "été"]).tolist() == [5, -1, 2]
    assert column.repeated().tolist() == [4]


def test_a_column_in_the_same_order_is_not_searched(column, monkeypatch):
    other = TextColumn.of(["x", *TEXTS]).take(slice(1, None))
    monkeypatch.setattr(text_column, "hashes_of", None)
    assert column.find(other).tolist() == list(range(6))
    assert not column.is_same(column.take([1, 0, 2, 3, 4, 5]))


def test_repeats_and_codes_are_those_of_numpy(column):
    assert column.repeated().tolist() == [4]
    names, codes = column.codes()
    expected = np.unique(np.array(TEXTS, dtype=object), return_inverse=True)
    assert names.tolist() == expected[0].tolist()
    assert codes.tolist() == expected[1].tolist()


def test_a_hash_is_the_same_in_every_run():
    assert hashes_of(["id1/a.wav"])[0] == 155326212184248972
