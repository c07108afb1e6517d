"""Checkpoints are complete or absent."""

import pytest
import torch

from speechbrain_ext.training.checkpoints import WholeCheckpointer


class Killed(Exception):
    pass


def model(value):
    linear = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(linear.weight, value)
    return linear


def test_it_recovers_what_it_saved(tmp_path):
    WholeCheckpointer(tmp_path, {"model": model(1.0)}).save_checkpoint(
        meta={"epoch": 3}
    )
    found = model(0.0)
    checkpoint = WholeCheckpointer(
        tmp_path, {"model": found}
    ).recover_if_possible()
    assert found.weight.item() == 1.0
    assert checkpoint.meta["epoch"] == 3


def test_a_kill_while_saving_leaves_the_checkpoint_before(
    tmp_path, monkeypatch
):
    WholeCheckpointer(tmp_path, {"model": model(1.0)}).save_checkpoint()

    def dying(state, path):
        path.write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(torch, "save", dying)
        WholeCheckpointer(tmp_path, {"model": model(2.0)}).save_checkpoint()
    found = model(0.0)
    resumed = WholeCheckpointer(tmp_path, {"model": found})
    resumed.recover_if_possible()
    assert found.weight.item() == 1.0
    resumed.save_and_keep_only(num_to_keep=1)
    assert len(list(tmp_path.iterdir())) == 1


def test_only_the_newest_is_kept(tmp_path):
    checkpointer = WholeCheckpointer(tmp_path, {"model": model(1.0)})
    for epoch in range(3):
        checkpointer.save_and_keep_only(meta={"epoch": epoch}, num_to_keep=1)
    (checkpoint,) = checkpointer.list_checkpoints()
    assert checkpoint.meta["epoch"] == 2
