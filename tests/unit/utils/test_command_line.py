"""A recipe as a program: its exit status and what it prints."""

import pytest
from copy_words import Recipe, program

from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.errors import InputError


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


def test_a_programming_error_keeps_its_traceback(recipe):
    text = recipe.script.read_text()
    recipe.script.write_text(text.replace("words = Path", "1 / 0  # "))
    done = program(recipe)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


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
