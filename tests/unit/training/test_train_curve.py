"""The training curve: a row an epoch, once, whatever is killed."""

import pandas as pd
from speechbrain.utils.checkpoints import Checkpointer

from speechbrain_ext.training.train_curve import TrainCurve


def test_the_file_has_a_row_an_epoch(tmp_path):
    curve = TrainCurve(tmp_path / "new" / "train_curve.csv")
    curve.append(epoch=1, loss=2.5, lr=0.1)
    curve.append(epoch=2, loss=1.25, lr=0.05)
    table = pd.read_csv(curve.path)
    assert table.columns.tolist() == ["epoch", "loss", "lr"]
    assert table.to_numpy().tolist() == [[1, 2.5, 0.1], [2, 1.25, 0.05]]


def test_numbers_are_written_exactly(tmp_path):
    curve = TrainCurve(tmp_path / "train_curve.csv")
    curve.append(epoch=1, loss=1 / 3)
    assert pd.read_csv(curve.path).loss[0] == 1 / 3


def test_an_epoch_done_twice_has_one_row(tmp_path):
    """Killed after the row was written and before the checkpoint."""
    path = tmp_path / "train_curve.csv"
    curve = TrainCurve(path)
    curve.append(epoch=1, loss=3.0)
    checkpointer = Checkpointer(tmp_path / "save", {"curve": curve})
    checkpointer.save_checkpoint()
    curve.append(epoch=2, loss=99.0)
    resumed = TrainCurve(path)
    Checkpointer(tmp_path / "save", {"curve": resumed}).recover_if_possible()
    assert resumed.rows == [{"epoch": 1, "loss": 3.0}]
    resumed.append(epoch=2, loss=2.0)
    assert pd.read_csv(path).loss.tolist() == [3.0, 2.0]


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "speechbrain_ext.training.train_curve.if_main_process", lambda: False
    )
    curve = TrainCurve(tmp_path / "train_curve.csv")
    curve.append(epoch=1, loss=3.0)
    assert curve.rows == [{"epoch": 1, "loss": 3.0}]
    assert not curve.path.exists()
