"""What a run says: messages of ours, statistics in words, the time left."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from copy_words import Recipe, program
from speechbrain.utils import train_logger

import speechbrain_ext.training
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.terminal import (
    hide_progress_bars,
    in_minutes,
    progress_bar,
    progress_line,
    statistics_in_words,
)

ROOT = Path(__file__).parents[3]
SAYS = """
    import logging
    logging.getLogger("speechbrain.core").info("scaled")
    logging.getLogger("speechbrain.core").warning("infinite")
    words = Path"""


def test_the_terminal_has_ours_and_warnings_and_the_file_has_all(tmp_path):
    recipe = Recipe(tmp_path)
    text = recipe.script.read_text().replace("\n    words = Path", SAYS, 1)
    recipe.script.write_text(text)
    first, second = program(recipe).stdout.splitlines()
    assert first == "infinite"
    assert second.startswith(f"copy_words: {recipe.out} in ")
    log = (recipe.out / "log.txt").read_text()
    assert "speechbrain.core - INFO - scaled" in log
    assert f"command: python {recipe.script}" in log


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


def test_bars_are_hidden_for_a_recipe_that_is_told_so(tmp_path, capsys):
    """--noprogressbar hid the bars of trainings alone."""
    recipe = Recipe(tmp_path)
    argv = [str(recipe.leaf), f"--text={recipe.text}"]
    argv.append(f"--output_folder={recipe.out}")
    RecipeRun(__file__, recipe.scope().CopyWords, [*argv, "--noprogressbar"])
    assert list(progress_bar(range(3), desc="seen")) == [0, 1, 2]
    assert "seen" not in capsys.readouterr().err
    RecipeRun(__file__, recipe.scope().CopyWords, argv)
    assert list(progress_bar(range(3), desc="seen")) == [0, 1, 2]
    assert "seen" in capsys.readouterr().err


def test_a_recipe_that_is_done_hides_no_later_bars(tmp_path):
    Recipe(tmp_path).run("--noprogressbar")
    assert not progress_bar(total=3).disable


def test_other_processes_show_no_bars(monkeypatch):
    is_first = "speechbrain.utils.distributed.if_main_process"
    monkeypatch.setattr(is_first, lambda: False)
    hide_progress_bars(False)
    assert progress_bar(total=3).disable


def test_a_bar_in_a_log_is_written_every_ten_seconds(monkeypatch):
    """Ten updates a second filled the logs of jobs."""
    code = (
        "import os, sys; from speechbrain_ext.utils.terminal import "
        "bar_environment; os.environ.update(bar_environment()); "
        "from tqdm import tqdm; print(tqdm(total=2).mininterval)"
    )
    monkeypatch.delenv("TQDM_MININTERVAL", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "10.0\n"


def test_all_bars_come_from_one_place():
    made = re.compile(r"^(?!.*>>>).*\btqdm\(", re.M)
    makers = [
        path.name
        for folder in ("speechbrain_ext", "recipes")
        for path in (ROOT / folder).rglob("*.py")
        if made.search(path.read_text("utf-8"))
    ]
    assert makers == ["terminal.py"]
