"""What torch saved is read as data, or a reason is given."""

import os

import pytest
import torch

from speechbrain_ext.utils.saved_tensors import read_saved, read_state


class Code:
    """Were it unpickled, it would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_no_code_of_a_pickle_is_run(tmp_path):
    canary = str(tmp_path / "canary")
    torch.save({"a": Code(canary)}, tmp_path / "x.pt")
    found, reason = read_saved(tmp_path / "x.pt")
    assert found is None and reason
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x80\x02."])
def test_what_torch_did_not_save_has_a_reason_of_one_line(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    for reason in (read_saved(path)[1], read_state(path)[1]):
        assert reason and "\n" not in reason


def test_every_cut_of_a_file_has_a_reason(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(3)}, path)
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        assert read_state(path)[1], length


def test_a_folder_and_a_missing_file_have_a_reason(tmp_path):
    (tmp_path / "x.pt").mkdir()
    assert "directory" in read_saved(tmp_path / "x.pt")[1]
    assert "No such file" in read_saved(tmp_path / "y.pt")[1]


@pytest.mark.parametrize("value", [5, [torch.ones(1)], {"a": 1}, {"a": [1]}])
def test_a_state_is_a_dict_of_tensors(tmp_path, value):
    torch.save(value, tmp_path / "x.pt")
    assert read_state(tmp_path / "x.pt") == ({}, "it is not a dict of tensors")


STATE = {"x": torch.arange(64.0), "y": torch.tensor(3)}


@pytest.mark.parametrize("old", [False, True])
def test_what_was_written_is_read(tmp_path, old):
    path = tmp_path / "x.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=not old)
    found, reason = read_state(path)
    assert not reason
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_a_flipped_bit_of_a_weight_is_found(tmp_path):
    path = tmp_path / "x.pt"
    torch.save(STATE, path)
    content = bytearray(path.read_bytes())
    place = content.index(torch.tensor([40.0]).numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    # Torch itself reads another weight without a word.
    assert torch.load(path, weights_only=True)["x"][40] != 40
    assert "the checksum of" in read_state(path)[1]


def test_any_flipped_bit_has_a_reason_or_changes_nothing(tmp_path):
    path = tmp_path / "x.pt"
    torch.save(STATE, path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        found, reason = read_state(path)
        if not reason:
            assert found.keys() == STATE.keys(), place
            assert all(torch.equal(found[key], STATE[key]) for key in STATE)
