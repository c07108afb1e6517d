"""Embeddings to other tools and back are the same numbers."""

import os
import struct

import kaldiio
import numpy as np
import pytest
import torch

from speechbrain_ext.dataio.embedding_formats import (
    FORMATS,
    files_of,
    format_of,
    read_vectors,
    select_utterances,
    write_vectors,
)
from speechbrain_ext.utils.errors import InputError

IDS = np.array(["b/1.wav", "a/2.wav", "é/3.wav"], dtype=object)


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_written_vectors_are_read_back_unchanged(tmp_path, vectors, name):
    names = write_vectors(tmp_path / "one", IDS, vectors, name)
    ids, found = read_vectors(tmp_path / "one", name)
    assert list(ids) == list(IDS)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors)
    write_vectors(tmp_path / "two", ids, found, name)
    for file in names:
        if not file.endswith(".scp"):
            one = (tmp_path / "one" / file).read_bytes()
            assert (tmp_path / "two" / file).read_bytes() == one


def test_a_dict_may_mix_vectors_and_matrices_of_one_row(tmp_path, vectors):
    rows = torch.from_numpy(vectors)
    torch.save({"u": rows[:1], "v": rows[1]}, tmp_path / "x.pt")
    ids, found = read_vectors(tmp_path / "x.pt", "pt")
    assert list(ids) == ["u", "v"]
    np.testing.assert_array_equal(found, vectors[:2])


def test_rows_of_one_tensor_are_saved_once(tmp_path):
    x = np.zeros((1000, 256), dtype=np.float32)
    ids = np.array([f"u{n}" for n in range(1000)], dtype=object)
    write_vectors(tmp_path, ids, x, "pt")
    assert (tmp_path / "embeddings.pt").stat().st_size < 1.5 * x.nbytes


def test_an_index_points_at_each_vector(tmp_path, vectors):
    write_vectors(tmp_path, IDS, vectors, "kaldi")
    ark = (tmp_path / "embeddings.ark").read_bytes()
    lines = (tmp_path / "embeddings.scp").read_text("utf-8").splitlines()
    for line, name, row in zip(lines, IDS, vectors, strict=True):
        key, place = line.split(" ", 1)
        path, offset = place.rsplit(":", 1)
        assert key == name and path.endswith("embeddings.ark")
        at = ark[int(offset) :]
        assert at[:6] == b"\0BFV \x04"
        assert struct.unpack("<i", at[6:10]) == (5,)
        np.testing.assert_array_equal(np.frombuffer(at[10:30], "<f4"), row)


def test_kaldiio_and_this_package_read_each_others_archives(tmp_path, vectors):
    write_vectors(tmp_path, IDS, vectors, "kaldi")
    found = kaldiio.load_scp(str(tmp_path / "embeddings.scp"))
    np.testing.assert_array_equal(found[IDS[1]], vectors[1])
    kaldiio.save_ark(str(tmp_path / "x.ark"), {"a": vectors[0]})
    np.testing.assert_array_equal(
        read_vectors(tmp_path / "x.ark", "kaldi")[1], vectors[:1]
    )


def test_vectors_of_doubles_are_read(tmp_path):
    content = b"a \0BDV \x04" + struct.pack("<i", 2)
    content += np.array([0.5, 2.0]).tobytes()
    (tmp_path / "x.ark").write_bytes(content)
    ids, found = read_vectors(tmp_path / "x.ark", "kaldi")
    assert list(ids) == ["a"] and found.tolist() == [[0.5, 2.0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a \0BFM \x04" + bytes(20), "a is cut short or damaged"),
        (b"a \0BFV \x04" + struct.pack("<i", 3) + bytes(4), "a is cut short"),
        (b"", "there must be some"),
    ],
)
def test_an_archive_of_something_else_is_one_clear_error(
    tmp_path, content, message
):
    (tmp_path / "x.ark").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_vectors(tmp_path / "x.ark", "kaldi")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a \0BFV \x04" + struct.pack("<i", -1) + bytes(4), "a says that it"),
        (b"\xe9 \0BFV \x04" + struct.pack("<i", 1) + bytes(4), "is not UTF-8"),
        (
            2 * (b"a \0BFV \x04" + struct.pack("<i", 1) + bytes(4)),
            "'a' is there twice",
        ),
    ],
)
def test_a_damaged_archive_is_one_clear_error(tmp_path, content, message):
    (tmp_path / "x.ark").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_vectors(tmp_path / "x.ark", "kaldi")


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(5, 4),
        torch.zeros(1, 1, 4),
        torch.tensor(1.0),
        torch.zeros(4, dtype=torch.complex64),
        torch.zeros(4, dtype=torch.int64),
    ],
)
def test_a_tensor_that_is_no_embedding_is_refused(tmp_path, value):
    torch.save({"good": torch.zeros(4), "bad": value}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="'bad' has shape .*one embedding"):
        read_vectors(tmp_path / "x.pt", "pt")


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([0.5, 2.0], dtype=torch.bfloat16),
        torch.tensor([0.5, 2.0], dtype=torch.float64),
        torch.tensor([0.5, 2.0], requires_grad=True),
    ],
)
def test_tensors_of_any_float_type_are_read(tmp_path, value):
    torch.save({"a": value}, tmp_path / "x.pt")
    found = read_vectors(tmp_path / "x.pt", "pt")[1]
    assert found.dtype == np.float32 and found.tolist() == [[0.5, 2.0]]


def test_keys_that_are_equal_as_text_are_refused(tmp_path):
    torch.save({1: torch.zeros(2), "1": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="utterance '1' is there twice"):
        read_vectors(tmp_path / "x.pt", "pt")


def test_the_given_array_is_read_and_not_embeddings_npy_beside_it(
    tmp_path, vectors
):
    write_vectors(tmp_path, IDS, vectors, "npy")
    np.save(tmp_path / "x.npy", vectors[:2] + 1)
    (tmp_path / "x.csv").write_text("ID,row\nu,1\nv,0\n")
    ids, found = read_vectors(tmp_path / "x.npy", "npy")
    assert list(ids) == ["u", "v"]
    np.testing.assert_array_equal(found, vectors[[1, 0]] + 1)


def test_anything_but_a_dict_of_tensors_of_one_size_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    for content in (b"no", b"", b"junk", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not a dict of tensors"):
            read_vectors(path, "pt")
    for value in ([1, 2], {"a": 1}):
        torch.save(value, path)
        with pytest.raises(InputError, match="is not a dict of utterance"):
            read_vectors(path, "pt")
    torch.save({"a": torch.zeros(2), "b": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=r"sizes \[2, 3\]"):
        read_vectors(path, "pt")


def test_a_space_or_an_unknown_format_is_refused(tmp_path, vectors):
    ids = np.array(["a b", "c", "d"], dtype=object)
    with pytest.raises(InputError, match="has a space"):
        write_vectors(tmp_path, ids, vectors, "kaldi")
    with pytest.raises(InputError, match="format 'h5' is not one of"):
        write_vectors(tmp_path, ids, vectors, "h5")
    with pytest.raises(InputError, match="no such file"):
        read_vectors(tmp_path / "nowhere.pt", "pt")


@pytest.fixture
def scp(tmp_path, vectors):
    """An index in two archives, as a job a core leaves them."""
    lines = []
    for name, rows in (("one", [0, 1]), ("two", [2])):
        folder = tmp_path / name
        write_vectors(folder, IDS[rows], vectors[rows], "kaldi")
        folder.joinpath("embeddings.ark").rename(tmp_path / f"{name}.ark")
        text = (folder / "embeddings.scp").read_text("utf-8")
        place = str(folder / "embeddings.ark")
        lines += text.replace(place, f"{tmp_path}/{name}.ark").splitlines()
    path = tmp_path / "all.scp"
    path.write_text("\n".join(reversed(lines)) + "\n", "utf-8")
    return path


def test_an_index_of_several_archives_is_read_in_its_own_order(scp, vectors):
    ids, found = read_vectors(scp, "auto")
    assert list(ids) == list(IDS[::-1])
    np.testing.assert_array_equal(found, vectors[::-1])
    found = kaldiio.load_scp(str(scp))
    np.testing.assert_array_equal(found[IDS[2]], vectors[2])
    # The bytes of the archives count, not those of the index alone.
    names = [path.name for path in files_of(scp, "kaldi").values()]
    assert names == ["all.scp", "two.ark", "one.ark"]


def test_archives_that_moved_with_their_index_are_found(
    scp, vectors, tmp_path_factory
):
    moved = tmp_path_factory.mktemp("moved")
    for path in scp.parent.glob("*.*"):
        path.rename(moved / path.name)
    found = read_vectors(moved / "all.scp", "kaldi")[1]
    np.testing.assert_array_equal(found, vectors[::-1])
    (moved / "two.ark").unlink()
    with pytest.raises(InputError, match=r"names .*two\.ark, and there is no"):
        read_vectors(moved / "all.scp", "kaldi")


@pytest.mark.parametrize("line", ["a", "a x.ark", "a x.ark:b", "a cat x.ark |"])
def test_an_index_of_something_else_is_one_clear_error(scp, line):
    scp.write_text(f"{line}\n")
    with pytest.raises(
        InputError, match="line 1 is .*name archive:byte.*no command"
    ):
        read_vectors(scp, "kaldi")


@pytest.mark.parametrize("name", FORMATS)
def test_the_name_tells_the_format(tmp_path, vectors, name):
    files = write_vectors(tmp_path, IDS, vectors, name)
    for path in (tmp_path, tmp_path / files[0]):
        assert format_of(path) == name
        assert list(read_vectors(path, "auto")[0]) == list(IDS)
    for path in (tmp_path / "x.h5", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="no embeddings are known by"):
            read_vectors(path, "auto")


def test_utterances_are_selected_in_the_wanted_order(vectors):
    wanted = IDS[[2, 0]]
    found = select_utterances(IDS, vectors, wanted, "x")
    np.testing.assert_array_equal(found, vectors[[2, 0]])
    wanted = np.array(["b/1.wav", "c", "d"], dtype=object)
    with pytest.raises(
        InputError, match="x: 2 of 3 .* the first is 'c'; .*b/1"
    ):
        select_utterances(IDS, vectors, wanted, "x")


def test_names_may_differ_in_the_ending_of_an_audio_file():
    """Released embeddings name .wav what VoxCeleb2 unpacks as .m4a."""
    ids = np.array(["s/1.wav", "s/2.wav"], dtype=object)
    wanted = np.array(["s/2.m4a", "s/1.m4a"], dtype=object)
    found = select_utterances(ids, np.eye(2), wanted, "x")
    np.testing.assert_array_equal(found, np.eye(2)[[1, 0]])
    for one, other in (
        (["s/1.wav", "s/1.flac"], ["s/1.m4a"]),
        (["s/1.wav"], ["s/1.m4a", "s/1.flac"]),
        (["s/1.txt"], ["s/1.m4a"]),
    ):
        names = [np.array(each, dtype=object) for each in (one, other)]
        with pytest.raises(InputError, match="have no embedding"):
            select_utterances(names[0], np.eye(len(one)), names[1], "x")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_embedding_that_is_not_finite_is_refused(
    tmp_path, vectors, name, value
):
    vectors[1, 3] = value
    write_vectors(tmp_path, IDS, vectors, name)
    with pytest.raises(InputError, match="'a/2.wav' holds NaN or infinity .1 "):
        read_vectors(tmp_path, name)


def test_a_double_that_no_float_holds_is_refused(tmp_path):
    torch.save({"a": torch.tensor([1e300]).double()}, tmp_path / "x.pt")
    kaldiio.save_ark(str(tmp_path / "x.ark"), {"a": np.array([1e300])})
    for name in ("x.pt", "x.ark"):
        with pytest.raises(InputError, match="'a' holds NaN or infinity"):
            read_vectors(tmp_path / name, "auto")


def test_a_folder_with_the_name_of_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "x.pt").mkdir()
    with pytest.raises(InputError, match="no embeddings are known"):
        read_vectors(tmp_path / "x.pt", "auto")
    with pytest.raises(InputError, match="embeddings.pt: no such file"):
        read_vectors(tmp_path / "x.pt", "pt")


def test_a_gzipped_archive_is_known_by_its_name(tmp_path):
    assert format_of(tmp_path / "x.ark.gz") == "kaldi"


class Code:
    """Were it unpickled, it would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    array = np.array([Code(str(tmp_path / "canary"))], dtype=object)
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    (tmp_path / "x.csv").write_text("ID,row\na,0\n")
    with pytest.raises(InputError, match="x.npy cannot be read"):
        read_vectors(tmp_path / "x.npy", "npy")
    assert not (tmp_path / "canary").exists()
