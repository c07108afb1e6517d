"""Columns in files equal those in memory, and follow a change of the file."""

import numpy as np
import pandas as pd
import pytest

from speechbrain_ext.dataio import column_store, manifest
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.utils import text_column
from speechbrain_ext.utils.errors import InputError

N = 50


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Every manifest is large, and read in several blocks."""
    monkeypatch.setattr(manifest, "LARGE", 1)
    for module in (manifest, text_column, column_store):
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


def test_mapped_columns_equal_those_in_memory(tmp_path, monkeypatch):
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


def test_a_file_is_parsed_once_until_it_changes(tmp_path, monkeypatch):
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
