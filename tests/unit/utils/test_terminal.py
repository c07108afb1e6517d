"""What a run says: messages of ours, statistics in words, the time left."""

import inspect
import logging

import pytest
from speechbrain.core import DEFAULT_LOG_CONFIG
from speechbrain.utils import train_logger
from speechbrain.utils.logger import setup_logging

import speechbrain_ext.training
from speechbrain_ext.utils.terminal import (
    console_logging,
    in_minutes,
    progress_line,
    statistics_in_words,
)


@pytest.fixture
def log(tmp_path, capsys):
    """The log file of a recipe, with the test's own logging put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    path = tmp_path / "log.txt"
    setup_logging(DEFAULT_LOG_CONFIG, console_logging(str(path)))
    yield path
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = handlers, level


def test_the_terminal_has_ours_and_warnings_and_the_file_has_all(log, capsys):
    logging.getLogger("speechbrain.core").info("gradients are scaled: no")
    logging.getLogger("speechbrain.core").warning("a loss is not finite")
    logging.getLogger("speechbrain_ext.training.brain").info("epoch 1 of 2")
    logging.getLogger("__main__").debug("command: python a.py")
    for handler in logging.getLogger().handlers:
        handler.flush()
    shown = capsys.readouterr().out
    assert shown.split("\n") == ["a loss is not finite", "epoch 1 of 2", ""]
    text = log.read_text()
    assert "gradients are scaled" in text and "command: python a.py" in text


def test_the_absence_of_torchvision_is_not_worth_a_line(caplog):
    """SpeechBrain printed it before every command."""
    # The room of trainings alone imports what says it.
    assert speechbrain_ext.training.TrainingBrain
    line = "torchvision is not available - cannot save figures"
    assert line in inspect.getsource(train_logger._get_image_saver)
    train_logger.logger.warning(line)
    train_logger.logger.warning("another one")
    assert caplog.messages == ["another one"]


def test_statistics_are_told_in_words():
    told = {"valid_error": 0.25, "eer": 12.3456, "n_low_margin": 2000, "ari": 1}
    assert statistics_in_words(told) == (
        "valid error 0.25, EER in % 12.35, 2,000 low margin, ARI 1"
    )


def test_the_time_left_is_said_as_far_as_it_is_known():
    step = progress_line(1, 9, "corpus", 0, None)
    assert step == "step 1 of 9, corpus; 0 s gone"
    assert progress_line(2, 9, "a", 61, 30).endswith(
        "1 min gone, about 30 s left"
    )
    part = progress_line(2, 9, "a", 61, 30, is_whole=False)
    assert part.endswith(", at least 30 s left")


@pytest.mark.parametrize(
    ("seconds", "words"), [(59, "59 s"), (60, "1 min"), (3600, "1.0 h")]
)
def test_times_are_told_in_their_unit(seconds, words):
    assert in_minutes(seconds) == words
