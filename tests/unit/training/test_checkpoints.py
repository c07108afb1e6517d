"""Checkpoints are complete, unchanged, and ordered by training."""

import logging
import shutil

import pytest
import torch
from speechbrain.utils.checkpoints import METAFNAME

from speechbrain_ext.training.checkpoints import (
    HASHES,
    N_KEPT,
    WholeCheckpointer,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json, sha256, write_json


class Killed(Exception):
    pass


def model(value):
    linear = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(linear.weight, value)
    return linear


def save(folder, value, epoch, **options):
    """A checkpoint of an epoch, whose weight is the value."""
    meta = {"epoch": epoch, "step": options.pop("step", 9)}
    WholeCheckpointer(folder, {"model": model(value)}).save_and_keep_only(
        meta=meta, **options
    )
    return max(folder.glob("CKPT+*"), key=lambda path: path.stat().st_ctime_ns)


def recovered(folder):
    """The weight that the newest checkpoint has."""
    found = model(0.0)
    WholeCheckpointer(folder, {"model": found}).recover_if_possible()
    return found.weight.item()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_recovers_what_it_saved(tmp_path):
    save(tmp_path, 1.0, epoch=3)
    found = model(0.0)
    checkpoint = WholeCheckpointer(
        tmp_path, {"model": found}
    ).recover_if_possible()
    assert found.weight.item() == 1.0
    assert checkpoint.meta["epoch"] == 3


def test_a_kill_while_saving_leaves_the_checkpoint_before(
    tmp_path, monkeypatch
):
    save(tmp_path, 1.0, epoch=1)

    def dying(state, path):
        path.write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(torch, "save", dying)
        save(tmp_path, 2.0, epoch=2)
    assert "partial" in names(tmp_path)
    assert recovered(tmp_path) == 1.0
    assert names(tmp_path) == ["CKPT+epoch1"]


def test_the_newest_and_the_one_before_are_kept(tmp_path):
    for epoch in range(4):
        save(tmp_path, 1.0, epoch)
    assert N_KEPT == 2
    assert names(tmp_path) == ["CKPT+epoch2", "CKPT+epoch3"]


def test_a_checkpoint_within_an_epoch_leaves_the_one_before(tmp_path):
    save(tmp_path, 1.0, 1)
    for step in (2, 4):
        save(tmp_path, step, 2, step=step, end_of_epoch=False)
    assert names(tmp_path) == ["CKPT+epoch2-batch2", "CKPT+epoch2-batch4"]
    save(tmp_path, 5.0, 2, step=5)
    assert names(tmp_path) == ["CKPT+epoch2", "CKPT+epoch2-batch4"]
    assert recovered(tmp_path) == 5.0


def test_a_clock_that_was_set_back_does_not_hide_newer_work(tmp_path):
    first = save(tmp_path, 1.0, 1)
    meta = (first / METAFNAME).read_text()
    late = "".join(
        "unixtime: 9999999999.0\n" if "unixtime" in line else line
        for line in meta.splitlines(True)
    )
    assert late != meta
    # As the machine would have written it then, hash and all.
    (first / METAFNAME).write_text(late)
    table = read_json(first / HASHES)
    write_json(first / HASHES, {**table, METAFNAME: sha256(first / METAFNAME)})
    save(tmp_path, 2.0, 2)
    assert recovered(tmp_path) == 2.0
    save(tmp_path, 3.0, 3)
    assert names(tmp_path) == ["CKPT+epoch2", "CKPT+epoch3"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [truncate, empty, flip, lambda p: p.unlink()])
@pytest.mark.parametrize("name", ["model.ckpt", METAFNAME, HASHES])
@pytest.mark.parametrize("within", [False, True])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path, caplog, harm, name, within
):
    save(tmp_path, 1.0, 1)
    newest = save(tmp_path, 2.0, 2, end_of_epoch=not within)
    assert recovered(tmp_path) == 2.0
    harm(newest / name)
    with caplog.at_level(logging.WARNING):
        assert recovered(tmp_path) == 1.0
    (line,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert line.startswith(f"{newest}/") and "goes on from the other" in line
    assert name in line
    # It stays for a look until newer work is saved, and is never taken.
    assert recovered(tmp_path) == 1.0 and len(names(tmp_path)) == 2
    save(tmp_path, 2.0, 2)
    assert names(tmp_path) == ["CKPT+epoch1", "CKPT+epoch2"]


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"CKPT.yaml": 1}'])
def test_hashes_of_another_shape_are_damage(tmp_path, text):
    save(tmp_path, 1.0, 1)
    (save(tmp_path, 2.0, 2) / HASHES).write_text(text)
    assert recovered(tmp_path) == 1.0


def test_without_a_whole_checkpoint_one_line_says_what_to_delete(tmp_path):
    for epoch in (1, 2):
        empty(save(tmp_path, 1.0, epoch) / "model.ckpt")
    rule = f"model.ckpt is empty, and no other.*; delete the folder {tmp_path},"
    with pytest.raises(InputError, match=rule):
        recovered(tmp_path)
    # Nothing was touched.
    assert names(tmp_path) == ["CKPT+epoch1", "CKPT+epoch2"]


def test_a_checkpoint_of_a_version_without_hashes_is_taken(tmp_path):
    saver = WholeCheckpointer(tmp_path, {"model": model(4.0)})
    folder = saver.save_checkpoint(meta={"epoch": 1}, name="1").path
    (folder / HASHES).unlink()
    assert recovered(tmp_path) == 4.0


def test_a_kill_while_deleting_leaves_no_half_of_a_checkpoint(
    tmp_path, monkeypatch
):
    for epoch in (1, 2):
        save(tmp_path, epoch, epoch)

    def dying(path, **options):
        if path.name != "partial":
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", dying)
        save(tmp_path, 3.0, 3)
    assert recovered(tmp_path) == 3.0
    assert names(tmp_path) == ["CKPT+epoch2", "CKPT+epoch3"]


def test_other_rules_of_what_to_keep_hold_too(tmp_path):
    saver = WholeCheckpointer(tmp_path, {"model": model(1.0)})
    for epoch, error in enumerate((3.0, 1.0, 2.0, 4.0)):
        saver.save_and_keep_only(
            meta={"epoch": epoch, "step": 0, "error": error},
            num_to_keep=1,
            min_keys=["error"],
        )
    assert names(tmp_path) == ["CKPT+epoch1", "CKPT+epoch3"]
    assert saver.find_checkpoint(min_key="error").meta["epoch"] == 1
    assert saver.find_checkpoint().meta["epoch"] == 3
