"""StepLogger: what TensorBoard is given, and what a resumed run hides."""

import pytest
from speechbrain.utils import distributed
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from speechbrain_ext.training import step_logger
from speechbrain_ext.training.step_logger import StepLogger


def scalars(folder, name):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(e.step, round(e.value, 4)) for e in events.Scalars(name)]


def test_steps_at_the_interval_and_every_epoch_are_written(tmp_path):
    log = StepLogger(tmp_path, first_step=0, interval=2, shown=False)
    for step in range(1, 6):
        log.step(step, {"loss": step / 2})
    log.epoch(5, {"loss": 1.5, "spread": 0.5})
    assert scalars(tmp_path, "step/loss") == [(2, 1.0), (4, 2.0)]
    assert scalars(tmp_path, "epoch/spread") == [(5, 0.5)]


def test_a_resumed_run_replaces_the_steps_after_its_checkpoint(tmp_path):
    first = StepLogger(tmp_path, first_step=0, interval=1, shown=False)
    for step in range(1, 6):
        first.step(step, {"loss": 1.0})
    first.epoch(5, {})
    second = StepLogger(tmp_path, first_step=3, interval=1, shown=False)
    second.step(4, {"loss": 2.0})
    second.epoch(4, {})
    found = scalars(tmp_path, "step/loss")
    assert found == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]


def test_statistics_are_shown_below_the_progress_bar(tmp_path, capsys):
    log = StepLogger(tmp_path, first_step=0)
    log.begin_epoch(13, n_epochs=18)
    log.step(1, {"kl": 1.25})
    log.line.refresh()
    assert "epoch 13 of 18: kl 1.25" in capsys.readouterr().err


@pytest.mark.parametrize("main", [True, False])
def test_other_processes_are_silent(tmp_path, monkeypatch, capsys, main):
    for module in (step_logger, distributed):
        monkeypatch.setattr(module, "if_main_process", lambda: main)
    log = StepLogger(tmp_path / "log", first_step=0, interval=1)
    log.step(1, {"kl": 1.25})
    log.epoch(1, {"kl": 1.25})
    assert (tmp_path / "log").exists() == main
    assert bool(capsys.readouterr().err) == main
