"""Weights are read as they were written, or their file is named."""

import pickle

import pytest
import torch

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.tensor_files import load_state

STATE = {"x": torch.arange(64.0), "y": torch.tensor(3)}


@pytest.fixture
def path(tmp_path):
    torch.save(STATE, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


@pytest.mark.parametrize("old", [False, True])
def test_what_was_written_is_read(tmp_path, old):
    path = tmp_path / "a.ckpt"
    torch.save(STATE, path, _use_new_zipfile_serialization=not old)
    found = load_state(path, "again")
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_a_flipped_bit_of_a_weight_is_found(path):
    content = bytearray(path.read_bytes())
    place = content.index(torch.tensor([40.0]).numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    # Torch itself reads another weight without a word.
    assert torch.load(path, weights_only=True)["x"][40] != 40
    rule = r"a\.ckpt is damaged \(the checksum of .* differs\); train again"
    with pytest.raises(InputError, match=rule):
        load_state(path, "train again")


@pytest.mark.parametrize("n_bytes", [0, 1, 3, 100, 700])
def test_a_truncated_file_is_damaged(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(InputError, match=r"a\.ckpt is damaged \(.+\); again$"):
        load_state(path, "again")


@pytest.mark.parametrize("value", [[], None, {"x": 1}, torch.ones(2)])
def test_a_file_of_something_else_is_refused(path, value):
    torch.save(value, path)
    with pytest.raises(InputError, match="other things than weights by name"):
        load_state(path, "again")


def test_any_flipped_bit_is_one_clear_error_or_changes_nothing(path):
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            found = load_state(path, "again")
        except InputError:
            continue
        assert found.keys() == STATE.keys(), place
        assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_code_in_a_file_is_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    path = tmp_path / "a.ckpt"
    path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(InputError, match="is damaged"):
        load_state(path, "again")
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="none: no such file; again"):
        load_state(tmp_path / "none", "again")
