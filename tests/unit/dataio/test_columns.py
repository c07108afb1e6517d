"""Columns of text are arrays of strings, and in files as in memory."""

import numpy as np
import pandas as pd
import pytest

from speechbrain_ext.dataio import columns, manifest
from speechbrain_ext.dataio.columns import TextColumn, hashes_of
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.utils.errors import InputError

TEXTS = ["b", "", "été", "a" * 300, "b", "日本"]


@pytest.fixture(params=[2, 100])
def column(request, monkeypatch):
    """A column that is read in several blocks, or in one."""
    monkeypatch.setattr(columns, "BLOCK", request.param)
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

    monkeypatch.setattr(columns, "hashes_of", colliding)
    assert column.find(["日本", "x", "été"]).tolist() == [5, -1, 2]
    assert column.repeated().tolist() == [4]


def test_a_column_in_the_same_order_is_not_searched(column, monkeypatch):
    other = TextColumn.of(["x", *TEXTS]).take(slice(1, None))
    monkeypatch.setattr(columns, "hashes_of", None)
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


# Columns in files.

N = 50


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Every manifest is large, and read in several blocks."""
    monkeypatch.setattr(manifest, "LARGE", 1)
    for module in (manifest, columns):
        monkeypatch.setattr(module, "BLOCK", 8)


def rows(n=N):
    order = np.random.default_rng(1).permutation(n)
    names = [f"é{i}.wav" for i in order]
    return pd.DataFrame(
        {
            "ID": names,
            "duration": 1.5,
            "wav": [f"$data_root/{name}" for name in names],
            "start": order,
            "stop": order + 24000,
        }
    )


def test_mapped_columns_equal_those_in_memory(
    small_blocks, tmp_path, monkeypatch
):
    path = tmp_path / "train.csv"
    write_manifest(path, rows(), "utterances")
    mapped = read_manifest(path, "utterances", "/d")
    kept = tmp_path / ".train.csv.columns"
    assert (kept / "columns.json").exists() and not (kept / "part").exists()
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "LARGE", 10**9)
        whole = read_manifest(path, "utterances", "/d")
    pd.testing.assert_frame_equal(mapped.table, whole.table)
    expected = rows().astype({"ID": object, "wav": object})
    pd.testing.assert_frame_equal(mapped.table, expected)
    for name in ("hashes", "rows"):
        first, second = (
            getattr(one.ids.hash_index, name) for one in (mapped, whole)
        )
        assert first.tolist() == second.tolist()
    asked = [*whole.ids[::-3], "no"]
    assert mapped.rows_of(asked).tolist() == whole.rows_of(asked).tolist()
    name = whole.ids[7]
    assert mapped[name] == whole[name] == mapped.entry(7)


def test_a_file_is_parsed_once_until_it_changes(
    small_blocks, tmp_path, monkeypatch
):
    path = tmp_path / "train.csv"
    write_manifest(path, rows(), "utterances")
    read_manifest(path, "utterances")
    with monkeypatch.context() as patch:
        patch.setattr(pd, "read_csv", None)
        again = read_manifest(path, "utterances")
    assert again.ids[3] == rows().ID[3]
    write_manifest(path, rows(N - 1), "utterances")
    assert len(read_manifest(path, "utterances")) == N - 1
    # Of one length: a change that the size does not tell.
    changed = rows(N - 1).assign(start=5, stop=24005)
    write_manifest(path, changed, "utterances")
    assert read_manifest(path, "utterances").start.tolist() == [5] * (N - 1)
    with pytest.raises(InputError, match="kind oracle has"):
        read_manifest(path, "oracle")


@pytest.mark.parametrize("harm", ["{", "[]", None])
def test_a_damaged_record_is_made_again(tmp_path, harm):
    path = tmp_path / "train.csv"
    write_manifest(path, rows(), "utterances")
    read_manifest(path, "utterances")
    record = tmp_path / ".train.csv.columns" / "columns.json"
    record.unlink() if harm is None else record.write_text(harm)
    assert len(read_manifest(path, "utterances")) == N


def test_nothing_is_kept_of_a_manifest_that_is_refused(tmp_path):
    path = tmp_path / "train.csv"
    table = rows()
    table.loc[41, "ID"] = table.ID[2]
    with pytest.raises(InputError, match="row 43: ID .* is there twice"):
        write_manifest(path, table, "utterances")
    assert not path.exists()
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"row 43: ID .* \(1 such row"):
        read_manifest(path, "utterances")
    table = rows().astype({"stop": object})
    table.loc[20, "stop"] = "x"
    table.to_csv(path, index=False)
    rule = r"row 22: stop 'x' is not .* \(1 such row\(s\) in rows 18 to 25\)"
    with pytest.raises(InputError, match=rule):
        read_manifest(path, "utterances")
    assert not list(tmp_path.glob(".train.csv.columns/*.json"))


def test_a_folder_that_cannot_be_written_is_read_in_memory(
    tmp_path, monkeypatch
):
    path = tmp_path / "train.csv"
    write_manifest(path, rows(), "utterances")
    monkeypatch.setattr(manifest.os, "access", lambda *_: False)
    assert len(read_manifest(path, "utterances")) == N
    assert [p.name for p in tmp_path.iterdir()] == ["train.csv"]
