"""Archives as Kaldi's tools write them, against kaldiio's reader."""

import gzip
import struct

import kaldiio
import numpy as np
import pytest

from speechbrain_ext.dataio.kaldi_archives import (
    archives_of,
    read_ark,
    read_scp,
)
from speechbrain_ext.utils.errors import InputError

RANDOM = np.random.default_rng(0)
NAMES = ["a", "é/b.wav"]


def entry(kind, content, name=b"a"):
    return name + b" \0B" + kind + b" " + content


def size(n):
    return b"\x04" + struct.pack("<i", n)


def write_and_read(path, shape, dtype="float32", **options):
    """What kaldiio wrote and reads, and what we read of the same file."""
    given = {name: RANDOM.normal(size=shape).astype(dtype) for name in NAMES}
    kaldiio.save_ark(
        str(path), given, scp=str(path.with_suffix(".scp")), **options
    )
    ids, rows = read_ark(path)
    assert ids == NAMES
    again = read_scp(path.with_suffix(".scp"))
    assert again[0] == ids
    np.testing.assert_array_equal(again[1], rows)
    theirs = dict(kaldiio.load_ark(str(path)))
    return [theirs[name] for name in NAMES], rows


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5,), (1, 5)])
@pytest.mark.parametrize("text", [False, True])
def test_vectors_and_matrices_of_one_row_are_read(tmp_path, shape, dtype, text):
    theirs, ours = write_and_read(tmp_path / "x.ark", shape, dtype, text=text)
    # Of text, kaldiio makes floats, and we doubles.
    wanted = np.reshape(theirs, (2, 5))
    np.testing.assert_array_equal(np.array(ours, wanted.dtype), wanted)


@pytest.mark.parametrize("method", [2, 3, 5])
def test_compressed_matrices_are_read(tmp_path, method):
    """Methods of kaldiio: with quantiles (2), 16 bits (3), 8 bits (5)."""
    theirs, ours = write_and_read(
        tmp_path / "x.ark", (1, 40), compression_method=method
    )
    content = (tmp_path / "x.ark").read_bytes()
    assert {2: b"CM ", 3: b"CM2 ", 5: b"CM3 "}[method] in content
    np.testing.assert_allclose(ours, np.reshape(theirs, (2, 40)), atol=1e-6)


def test_a_gzipped_archive_is_read_also_by_its_scp(tmp_path):
    _, rows = write_and_read(tmp_path / "x.ark", (5,))
    content = (tmp_path / "x.ark").read_bytes()
    (tmp_path / "x.ark").write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(read_ark(tmp_path / "x.ark")[1], rows)
    np.testing.assert_array_equal(read_scp(tmp_path / "x.scp")[1], rows)
    (tmp_path / "x.ark").write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(InputError, match="x.ark is gzipped and damaged"):
        read_ark(tmp_path / "x.ark")


def test_ranges_of_an_scp_are_read_as_kaldi_reads_them(tmp_path):
    given = {"a": RANDOM.normal(size=(3, 6)).astype("float32")}
    path = tmp_path / "x.ark"
    kaldiio.save_ark(str(path), given)
    for span, wanted in (
        ("[1]", given["a"][1]),
        ("[2:2,0:3]", given["a"][2, :4]),
        ("[0:0,:]", given["a"][0]),
    ):
        (tmp_path / "x.scp").write_text(f"u {path}:2{span}\n")
        ids, (row,) = read_scp(tmp_path / "x.scp")
        assert ids == ["u"]
        np.testing.assert_array_equal(row, wanted)
    for span in ("[3]", "[2:1]", "[0:0,0:6]", "[0,0,0]", "[0:1:2]", "[ 1 1 ]"):
        (tmp_path / "x.scp").write_text(f"u {path}:2{span}\n")
        with pytest.raises(InputError):
            read_scp(tmp_path / "x.scp")


def test_the_archives_of_an_scp_are_listed_once(tmp_path):
    for name in ("x", "y"):
        (tmp_path / f"{name}.ark").write_bytes(b"")
    lines = [f"u{n} {tmp_path}/{x}.ark:{n}" for n, x in enumerate("yxy")]
    (tmp_path / "x.scp").write_text("\n".join(lines))
    names = [path.name for path in archives_of(tmp_path / "x.scp")]
    assert names == ["y.ark", "x.ark"]


def test_an_scp_never_runs_a_command(tmp_path):
    path = tmp_path / "x.scp"
    path.write_text(f"u touch {tmp_path}/canary; cat x.ark |\n")
    with pytest.raises(InputError, match="no command"):
        read_scp(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_scp(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            entry(b"FM", size(2) + size(1) + bytes(8)),
            "a is a matrix .*2, 1",
        ),
        (b"a [\n 1 2\n 3 4 ]\n", "a is a matrix .*2, 2"),
        (b"a [ 1 x ]\n", "a is no row of numbers"),
        (b"a [\n 1 2\n 3 ]\n", "a is no row of numbers"),
        (b"a [ 1 2", "a is neither a vector in Kaldi's binary form nor text"),
        (b"a 1 2 3\n", "a is neither"),
        (b"a b [ 1 2 ]\n", "a is neither"),
        (entry(b"PKL", b"\x80\x04."), "a is of Kaldi's type b'PKL'"),
        (entry(b"FV", size(-1)), "a says that it has -1 values"),
        (entry(b"FV", size(2**31 - 1)), "a says that it has 2147483647"),
        (entry(b"FM", size(2**16) + size(2**16)), "says that it has 65536 x"),
        (entry(b"FV", size(2) + bytes(7)), "a is cut short"),
        (entry(b"FV", b"\x08" + bytes(12)), "a is cut short or damaged"),
        (entry(b"CM", bytes(9)), "a is cut short"),
        (
            entry(b"CM2", struct.pack("<ffii", 0, 1, 1, 4) + bytes(7)),
            "a is cut short",
        ),
        (entry(b"CM", struct.pack("<ffii", 0, 1, -1, 4)), "a is cut short"),
        (entry(b"CM3", struct.pack("<ffii", 0, 1, -1, 4)), "it has -1 x 4"),
        (b"\xe9 [ 1 ]\n", "is not UTF-8"),
    ],
)
def test_anything_else_is_named_for_what_it_is(tmp_path, content, message):
    (tmp_path / "x.ark").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_ark(tmp_path / "x.ark")
