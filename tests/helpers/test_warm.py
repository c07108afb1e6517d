"""A fork of the warm Python ends as a process of its own would."""

import os
import sys

import pytest
import warm

STEP = "import sys; print('step'); sys.exit(5)"
NESTED = (
    "import subprocess, sys\n"
    f"done = subprocess.run([sys.executable, '-c', {STEP!r}])\n"
    "print('then', done.returncode)\n"
)


def python(code, **options):
    return warm.run([sys.executable, "-c", code], **options)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('why')", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("1 / 0", 1),
    ],
)
def test_the_status_is_that_of_an_interpreter(code, status):
    assert python(code).returncode == status


def test_what_it_says_goes_where_it_said_it():
    done = python("import sys; print('out'); sys.exit('why')")
    assert (done.stdout, done.stderr) == ("out\n", "why\n")
    assert "ZeroDivisionError" in python("1 / 0").stderr


def test_folder_and_environment_are_those_given(tmp_path):
    code = "import os; print(os.getcwd(), os.environ['A'], 'B' in os.environ)"
    environment = {**os.environ, "A": "1"}
    done = python(code, cwd=tmp_path, env=environment)
    assert done.stdout == f"{tmp_path} 1 False\n"


def test_a_step_writes_to_the_same_output_and_its_status_is_known():
    assert python(NESTED).stdout == "step\nthen 5\n"


def test_a_program_that_does_not_end_is_killed_and_its_words_shown():
    code = "import time; print('slow', flush=True); time.sleep(3600)"
    with pytest.raises(AssertionError, match="ran for over 5 s:\nslow"):
        python(code, timeout=5)


def test_variables_read_at_import_need_a_real_process(tmp_path):
    with pytest.raises(AssertionError, match="HF_HOME is read at import"):
        python("pass", env={**os.environ, "HF_HOME": str(tmp_path)})
