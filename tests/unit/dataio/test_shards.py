"""Folders of parts are read as the one file that they stand for."""

import json

import numpy as np
import pandas as pd
import pytest

from speechbrain_ext.dataio import manifest
from speechbrain_ext.dataio.embedding_files import read_embeddings
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.dataio.shards import ShardedRows, new_rows, open_rows
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import SHARDS
from speechbrain_ext.utils.provenance import describe_file
from speechbrain_ext.utils.vectors import unit_rows

N = 10


def table(n=N):
    return pd.DataFrame(
        {
            "ID": [f"u{i}" for i in range(n)],
            "duration": 1.0,
            "wav": [f"$data_root/{i}.wav" for i in range(n)],
            "start": 0,
            "stop": 16000,
        }
    )


@pytest.fixture
def whole():
    return np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)


@pytest.fixture
def parts(tmp_path, whole):
    with new_rows(tmp_path / "x.npy", whole.shape, shard_rows=4) as rows:
        rows[np.arange(N)[::-1]] = whole[::-1]
    return open_rows(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "key",
    [
        3,
        np.int64(-1),
        slice(2, 9),
        slice(None),
        [9, 0, 4, 4],
        np.arange(N) % 3 == 0,
        np.array([], dtype=int),
        (slice(None), 1),
    ],
)
def test_parts_are_indexed_as_one_array(parts, whole, key):
    assert isinstance(parts, ShardedRows) and len(parts.parts) == 3
    np.testing.assert_array_equal(np.asarray(parts[key]), whole[key])


def test_parts_have_the_shape_mean_and_unit_rows_of_one_array(parts, whole):
    assert (parts.shape, parts.ndim, parts.size) == (whole.shape, 2, 3 * N)
    np.testing.assert_allclose(
        parts.mean(axis=0, dtype=np.float64), whole.mean(axis=0, dtype=float)
    )
    np.testing.assert_array_equal(unit_rows(parts), unit_rows(whole))


@pytest.mark.parametrize("key", [N, -N - 1, [0, N]])
def test_a_row_beyond_the_parts_is_refused(parts, key):
    with pytest.raises(IndexError):
        parts[key]


@pytest.mark.parametrize("shard_rows", [3, N, 100])
def test_a_manifest_in_parts_equals_the_file(tmp_path, shard_rows, monkeypatch):
    monkeypatch.setattr(manifest, "BLOCK", 4)
    write_manifest(tmp_path / "a.csv", table(), "utterances")
    write_manifest(tmp_path / "b.csv", table(), "utterances", shard_rows)
    names = sorted(path.name for path in (tmp_path / "b.csv").iterdir())
    assert len(names) == -(-N // shard_rows) + 1
    for limit in (1, 10**9):
        monkeypatch.setattr(manifest, "LARGE", limit)
        one, many = (
            read_manifest(tmp_path / name, "utterances", "/d")
            for name in ("a.csv", "b.csv")
        )
        pd.testing.assert_frame_equal(one.table, many.table)
        assert many["u7"] == one["u7"]


def test_an_id_in_two_parts_is_named_with_its_part(tmp_path):
    write_manifest(tmp_path / "b.csv", table(), "utterances", 4)
    part = tmp_path / "b.csv" / "000001.csv"
    part.write_text(part.read_text().replace("u5,", "u0,"))
    with pytest.raises(InputError, match="000001.csv row 3: ID 'u0' is there"):
        read_manifest(tmp_path / "b.csv", "utterances")
    part.write_text(part.read_text().replace("16000", "x"))
    with pytest.raises(InputError, match="000001.csv row 2: stop 'x'"):
        read_manifest(tmp_path / "b.csv", "utterances")


def test_embeddings_may_be_in_parts(tmp_path, whole):
    with new_rows(tmp_path / "embeddings.npy", whole.shape, 4) as rows:
        rows[:] = whole
    index = {"ID": [f"u{i}" for i in range(N)], "row": range(N)}
    path = tmp_path / "embeddings.csv"
    write_manifest(path, pd.DataFrame(index), "embeddings", 6)
    vectors, index = read_embeddings(tmp_path)
    assert index.ids.tolist()[7] == "u7"
    np.testing.assert_array_equal(vectors[index.row], whole)
    np.save(tmp_path / "embeddings.npy" / "000002.npy", np.zeros((2, 5)))
    with pytest.raises(InputError, match="its parts have rows of kinds"):
        read_embeddings(tmp_path)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (None, "is a folder without shards.json"),
        ("[]", "it must be an object"),
        ('{"shards": []}', "must name parts"),
        ('{"shards": [{"name": "a"}, {"name": "a"}]}', "each once"),
        ('{"shards": [{"name": "../a.csv"}]}', "is not the name of a part"),
        ('{"shards": [{"name": 3}]}', "is not the name of a part"),
        ('{"shards": ["a"]}', "is not the name of a part"),
    ],
)
def test_a_folder_without_a_sound_index_is_refused(tmp_path, index, said):
    folder = tmp_path / "a.csv"
    folder.mkdir()
    if index is not None:
        (folder / SHARDS).write_text(index)
    with pytest.raises(InputError, match=said):
        read_manifest(folder, "utterances")


def test_the_description_of_parts_tells_each_change(tmp_path):
    path = tmp_path / "a.csv"
    write_manifest(path, table(), "utterances", 4)
    first = describe_file(path)
    assert first["bytes"] == sum(
        part.stat().st_size for part in path.glob("*.csv")
    )
    part = path / "000001.csv"
    part.write_text(part.read_text().replace("16000", "16001"))
    assert describe_file(path)["sha256"] != first["sha256"]
    part.write_text(part.read_text().replace("16001", "16000"))
    assert describe_file(path) == first
    index = json.loads((path / SHARDS).read_text())
    index["shards"].reverse()
    (path / SHARDS).write_text(json.dumps(index))
    assert describe_file(path)["sha256"] != first["sha256"]


def test_what_fails_leaves_no_part(tmp_path, whole):
    with pytest.raises(RuntimeError):
        with new_rows(tmp_path / "x.npy", whole.shape, 4):
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_one_file_takes_the_place_of_the_parts_of_an_earlier_attempt(
    tmp_path, whole
):
    """It was refused, "Is a directory", until one removed the folder."""
    for shard_rows in (3, None, 3):
        with new_rows(tmp_path / "x.npy", whole.shape, shard_rows) as rows:
            rows[np.arange(len(whole))] = whole
        np.testing.assert_array_equal(open_rows(tmp_path / "x.npy"), whole)
        assert (tmp_path / "x.npy").is_dir() == bool(shard_rows)
    # Another folder is nobody's leftover.
    (tmp_path / "y.npy").mkdir()
    with pytest.raises(IsADirectoryError):
        with new_rows(tmp_path / "y.npy", whole.shape) as rows:
            rows[:] = whole
