"""A recipe as a program: its exit status and what it prints."""

import errno
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch
from copy_words import Recipe, program
from small_disk import small_disk

from speechbrain_ext.commands import command_line
from speechbrain_ext.commands.command_line import run, work_begins
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.signals import STOPPING


@pytest.fixture
def recipe(tmp_path):
    return Recipe(tmp_path)


def test_a_users_error_is_one_line_and_status_2(recipe):
    done = program(recipe, "--n_words=9")
    errors = [
        line for line in done.stderr.splitlines() if line.startswith("error")
    ]
    assert done.returncode == 2
    assert errors == ["error: 3 words, too few; write more"]
    assert "Traceback" not in done.stderr
    assert not (recipe.out / "stage.json").exists()


def test_a_program_that_works_has_status_0(recipe):
    assert program(recipe).returncode == 0
    assert recipe.words() == "one two three"


def test_a_programming_error_is_one_line_with_its_traceback_in_the_log(recipe):
    text = recipe.script.read_text()
    recipe.script.write_text(text.replace("words = Path", "1 / 0  # "))
    done = program(recipe)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "internal error, ZeroDivisionError: division by zero" in last
    assert last.endswith(f"traceback: {recipe.out / 'log.txt'}")
    assert "Traceback" not in done.stderr
    assert "Traceback" in (recipe.out / "log.txt").read_text()


def test_an_error_of_a_loader_worker_is_one_line(capsys):
    def main():
        raise InputError(
            "Caught InputError in DataLoader worker process 0.\n"
            "Original Traceback (most recent call last):\n  File 'x'\n"
            "speechbrain_ext.utils.errors.InputError: a.wav: cannot be read\n"
        )

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: a.wav: cannot be read\n"


# --- every kind of failure ends in one line ---------------------------------


def ended(capsys, error, log=None):
    """The status and the line that a main which raises an error ends with."""

    def main():
        if log is not None:
            work_begins(log.parent, "goes on", log)
        raise error

    with pytest.raises(SystemExit) as stop:
        run(main)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said, said
    return stop.value.code, said


@pytest.mark.parametrize(
    ("error", "status", "begins"),
    [
        (OSError(errno.ENOSPC, "No room", "x.npy"), 3, "error: No room: x.npy"),
        (PermissionError(errno.EACCES, "Not yours", "x"), 3, "error: Not your"),
        (OSError(errno.EMFILE, "Too many", "x"), 3, "error: Too many: x; "),
        (MemoryError("7 PiB"), 4, "error: 7 PiB; "),
        (torch.OutOfMemoryError("CUDA out of memory."), 4, "error: CUDA out"),
        (ZeroDivisionError("by zero"), 1, "error: internal error, ZeroDiv"),
    ],
)
def test_a_failure_is_one_line_and_its_traceback_is_in_the_log(
    capsys, tmp_path, error, status, begins
):
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    code, said = ended(capsys, error, log)
    assert code == status and said.startswith(begins)
    assert f"; what {tmp_path} holds is kept; " in said
    assert " the same command goes on; " in said
    assert said.endswith(f"traceback: {log}\n")
    kept = log.read_text()
    assert kept.startswith("before\n") and "Traceback" in kept
    assert "in main\n    raise error" in kept


def test_without_a_log_the_line_names_a_file_with_the_traceback(capsys):
    code, said = ended(capsys, OSError(errno.EROFS, "Read-only", "x"))
    assert code == 3
    assert "; nothing was written; once it is allowed the same " in said
    path = Path(said.strip().rpartition("traceback: ")[2])
    assert "Traceback" in path.read_text()
    path.unlink()


def test_a_log_on_a_full_disk_is_replaced_by_another_file(capsys, tmp_path):
    with small_disk(tmp_path / "small") as folder:
        (folder / "all").write_bytes(bytes(2**16))
        error = OSError(errno.ENOSPC, "No room", "x")
        _, said = ended(capsys, error, folder / "log.txt")
    path = Path(said.strip().rpartition("traceback: ")[2])
    assert path.parent != folder and "Traceback" in path.read_text()
    path.unlink()


def test_an_interrupt_says_what_the_same_command_will_do(capsys, tmp_path):
    code, said = ended(capsys, KeyboardInterrupt(), tmp_path / "log.txt")
    assert code == 130
    assert said == (
        f"stopped by SIGINT; what {tmp_path} holds is kept; the same command "
        "goes on\n"
    )


def test_an_error_that_follows_a_signal_is_the_signals(capsys):
    """A stopped training's loader says that its worker was killed."""

    def main():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise RuntimeError("DataLoader worker is killed")

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 143
    said = capsys.readouterr().err
    assert said.startswith("stopped by SIGTERM; nothing was written; ")


def test_a_driven_step_leaves_it_to_its_driver_to_say_that_it_was_stopped(
    capsys, monkeypatch
):
    monkeypatch.setattr(command_line, "_is_driven", True)
    with pytest.raises(SystemExit) as stop:
        run(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert stop.value.code == 143
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", STOPPING)
def test_a_stopped_recipe_ends_in_one_line_and_is_done_when_typed_again(
    recipe, number
):
    text = recipe.script.read_text()
    stop = f"import os; os.kill(os.getpid(), {int(number)}); "
    recipe.script.write_text(
        text.replace("    words = P", f"    {stop}words = P")
    )
    done = program(recipe)
    name = signal.Signals(number).name
    assert done.returncode == 128 + number
    assert done.stderr.splitlines()[-1] == (
        f"stopped by {name}; what {recipe.out} holds is kept; the same "
        "command does this stage again"
    )
    assert "Traceback" not in done.stderr
    assert f"stopped by {name}" in (recipe.out / "log.txt").read_text()
    recipe.script.write_text(text)
    assert program(recipe).returncode == 0


def test_a_full_disk_is_one_line_and_status_3(recipe):
    text = recipe.script.read_text()
    more = text.replace('" ".join(words)', '"x" * 10**6')
    with small_disk(recipe.out):
        recipe.script.write_text(more)
        done = program(recipe)
        left = sorted(path.name for path in recipe.out.iterdir())
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: No space left on device: ")
    assert "once there is room the same command does this stage again" in last
    assert "Traceback" not in done.stderr
    assert not {"stage.json", "words.txt"} & set(left)
    assert not [name for name in left if name.startswith(".words-")]


def test_a_device_that_is_not_there_is_refused_before_any_work(recipe):
    done = program(recipe, "--device=meta")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: device is 'meta'; ")
    assert not recipe.out.exists()


def test_output_that_nobody_reads_is_one_line(capsys, monkeypatch):
    def refuse():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "flush", refuse)
        patch.setattr(os, "dup2", lambda *_: None)
        with pytest.raises(SystemExit) as stop:
            run(lambda: None)
    assert stop.value.code == 3
    said = capsys.readouterr().err
    assert said.startswith("error: Broken pipe; ")
    Path(said.strip().rpartition("traceback: ")[2]).unlink()


@pytest.mark.parametrize(
    ("rank", "words", "status", "said"),
    [
        # Ended while it waits: the first process has told all.
        (1, "n is 0; it must be 1; correct --n", 143, ""),
        (0, "gloo: Connection closed by peer", 143, ""),
        # Nobody ends it: it is the only one that failed.
        (1, "n is 0; it must be 1; correct --n", 2, "error: n is 0; "),
        # The first process tells at once.
        (0, "n is 0; it must be 1; correct --n", 2, "error: n is 0; "),
    ],
)
def test_one_process_of_many_tells_what_all_have_found(
    monkeypatch, capsys, rank, words, status, said
):
    """Under torchrun each process printed the same line, or its own."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setattr(command_line, "_GRACE", 0.3)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))

    def main():
        if status == 143:
            timer.start()
        raise InputError(words)

    with pytest.raises(SystemExit) as stop:
        command_line.run(main)
    timer.cancel()
    found = capsys.readouterr().err
    assert stop.value.code == status
    assert found.startswith(said) and bool(found) == bool(said)
