"""A recipe is started with the words that a user would type."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import warm
from house import ROOT

from speechbrain_ext.experiment.launch import (
    CPU_ENVIRONMENT,
    can_fork,
    check_launcher,
    launcher_words,
    recipe_environment,
    recipe_script,
    recipe_words,
    run_process,
    run_recipe,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.signals import Stopped, signals_as_exceptions
from speechbrain_ext.utils.yaml_trees import parse_options, plain


def test_values_are_read_back_as_they_were_given():
    values = {
        "trials": {"O": "a b.txt"},
        "crop": None,
        "augmented": True,
        "name": "1e5",
        "lr": 0.001,
    }
    words = recipe_words("train_dino", "leaf.yaml", values, options=["--jit"])
    assert words[:3] == [
        sys.executable,
        str(recipe_script("train_dino")),
        "leaf.yaml",
    ]
    assert words[-1] == "--jit"
    typed = [word.removeprefix("--") for word in words[3:-1]]
    text = "\n".join(word.replace("=", ": ", 1) for word in typed)
    assert plain(parse_options(text)) == values


def test_run_options_of_a_stage_are_typed_as_speechbrain_reads_them():
    values = {"precision": "bf16", "jit": True, "debug": False, "seed": 1}
    words = recipe_words("train_dino", "leaf.yaml", values)
    assert words[3:] == ["--precision=bf16", "--jit", "--seed=1"]


def test_a_launcher_takes_the_place_of_python():
    launcher = ["torchrun", "--standalone"]
    words = recipe_words("train_dino", "leaf.yaml", {}, launcher)
    assert words[:2] == launcher and sys.executable not in words


def gpus(monkeypatch, number):
    monkeypatch.setattr("torch.cuda.device_count", lambda: number)


@pytest.mark.parametrize("number", [2, 8])
def test_auto_starts_a_process_for_each_gpu(monkeypatch, number):
    gpus(monkeypatch, number)
    words = recipe_words("train_dino", "a.yaml", {}, launcher_words("auto"))
    assert words[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert words[3:6] == ["--standalone", "--nproc_per_node", str(number)]
    assert words[6] == str(recipe_script("train_dino"))


@pytest.mark.parametrize("number", [0, 1])
def test_auto_needs_no_launcher_for_one_gpu_or_none(monkeypatch, number):
    gpus(monkeypatch, number)
    assert launcher_words("auto", 128) == []


@pytest.mark.parametrize(
    ("n_gpus", "batch_size", "n_used"),
    [(8, 128, 8), (8, 100, 5), (6, 128, 4), (3, 100, 2), (7, 25, 5)],
)
def test_auto_takes_as_many_gpus_as_share_a_batch(
    monkeypatch, caplog, n_gpus, batch_size, n_used
):
    """On 8 GPUs the paper's last step, of batches of 100, would fail."""
    gpus(monkeypatch, n_gpus)
    assert launcher_words("auto", batch_size)[-1] == str(n_used)
    said = f"{n_used} of {n_gpus} GPUs are used"
    assert (said in caplog.text) == (n_used < n_gpus)


def test_auto_uses_one_gpu_where_none_share_a_batch(monkeypatch):
    gpus(monkeypatch, 2)
    assert launcher_words("auto", 25) == []


def test_a_launcher_that_is_given_is_kept_and_no_gpu_counted(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", None)
    given = ["torchrun", "--standalone", "--nproc_per_node", "3"]
    assert launcher_words(given, 128) == given
    assert launcher_words([], 128) == []


def test_what_the_user_has_set_wins_in_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("PYTHONPATH", "mine")
    environment = recipe_environment()
    assert environment["OMP_WAIT_POLICY"] == "active"
    assert environment["PYTHONPATH"].split(":") == [str(ROOT), "mine"]
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.delenv("PYTHONPATH")
    environment = recipe_environment()
    assert CPU_ENVIRONMENT.items() <= environment.items()
    # Nobody looks at the bars of a test.
    assert environment["TQDM_MININTERVAL"] == "10"
    assert environment["PYTHONPATH"] == str(ROOT)


def test_the_exit_status_is_returned(tmp_path):
    output = tmp_path / "seen.json"
    code = (
        "import json, os, sys; "
        f"json.dump(os.environ['PYTHONPATH'], open({str(output)!r}, 'w')); "
        "sys.exit(3)"
    )
    assert run_recipe([sys.executable, "-c", code]) == 3
    assert json.loads(output.read_text()).startswith(str(ROOT))


FORK = """
import json, multiprocessing, os, signal, sys
if sys.argv[1] == "fail":
    raise ValueError("of the step")
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
json.dump(
    {
        "main": __name__,
        "argv": sys.argv,
        "folder": sys.path[0],
        "warm": "speechbrain" in sys.modules,
        "wait": os.environ["OMP_WAIT_POLICY"],
        "workers": multiprocessing.get_start_method(),
    },
    open(sys.argv[1], "w"),
)
sys.exit(3)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
def test_a_step_is_a_fork_and_sees_what_a_new_python_would(
    tmp_path, monkeypatch
):
    """22 steps of the quickstart took six seconds each to import torch."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script, seen = tmp_path / "step.py", tmp_path / "seen.json"
    script.write_text(FORK)
    start = [sys.executable, str(script)]
    assert can_fork(start)
    assert run_recipe([*start, str(seen)]) == 3
    found = json.loads(seen.read_text())
    assert found.pop("workers") == multiprocessing.get_start_method()
    assert found == {
        "main": "__main__",
        "argv": [str(script), str(seen)],
        "folder": str(tmp_path),
        "warm": True,
        "wait": "passive",
    }
    assert run_recipe([*start, "fail"]) == 1
    assert run_recipe([*start, "killed"]) == -9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch", "--standalone"], "there is no command 'nosuch' here; give"),
        ([sys.executable, "--nproc_per_node=0"], "must be 1 or more"),
        ([sys.executable, "--nproc-per-node", "two"], "must be 1 or more"),
    ],
)
def test_a_launcher_that_starts_no_process_is_refused(words, message):
    with pytest.raises(InputError, match=message):
        check_launcher(words)


@pytest.mark.parametrize("value", ["1", "8", "gpu"])
def test_a_launcher_that_starts_processes_is_accepted(value):
    check_launcher([sys.executable, f"--nproc_per_node={value}"])
    check_launcher([])
    check_launcher("auto")


# --- a driver that ends takes its step with it ------------------------------

# It stops its driver, by a signal, once it works itself.
STEP = """
import os, sys, time
out, driver, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
try:
    with open(out, "w") as file:
        file.write(str(os.getpid()))
    os.kill(driver, number)
    time.sleep(120)
except KeyboardInterrupt as stopped:
    with open(out + ".end", "w") as file:
        file.write(str(stopped))
"""
# As torchrun: the process that works is a child of the one that is started.
LAUNCHER = """
import os, signal, sys, time
worker = os.fork()
if worker:
    os.waitpid(worker, 0)
else:
    with open(sys.argv[1], "w") as file:
        file.write(str(os.getpid()))
    os.kill(int(sys.argv[2]), int(sys.argv[3]))
    time.sleep(120)
"""
DRIVER = """
import importlib, sys
from speechbrain_ext.experiment import launch
importlib.reload(launch)  # as it is without the helpers of the tests
launch._IMPORTED = ()
sys.exit(getattr(launch, sys.argv[1])(sys.argv[2:]))
"""


def is_running(pid):
    """Whether a process is there, and not only waits to be reaped."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
    )
    return bool(found.stdout.strip()) and "Z" not in found.stdout


def wait_until(condition):
    limit = time.time() + 120
    while not condition():
        assert time.time() < limit, "it took two minutes"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_driver_stops_its_step_and_waits_for_it(
    tmp_path, monkeypatch, number
):
    """SIGTERM left a training that nobody knew of."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script, out = tmp_path / "step.py", tmp_path / "out"
    script.write_text(STEP)
    words = [sys.executable, str(script), str(out), str(os.getpid())]
    with signals_as_exceptions(), pytest.raises(Stopped) as stopped:
        run_recipe([*words, str(int(number))])
    assert stopped.value.number == number
    assert not is_running(out.read_text())
    said = f"stopped by {signal.Signals(number).name}"
    assert (tmp_path / "out.end").read_text() == said


def test_a_stopped_driver_stops_all_that_a_launcher_has_started(tmp_path):
    out = tmp_path / "out"
    words = [sys.executable, "-S", "-c", LAUNCHER, str(out), str(os.getpid())]
    with signals_as_exceptions(), pytest.raises(Stopped):
        run_process([*words, str(int(signal.SIGTERM))])
    wait_until(lambda: not is_running(out.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
def test_a_step_ends_with_a_driver_that_is_killed(tmp_path):
    """kill -9 is handed on by nobody: the step notices it."""
    script, out = tmp_path / "step.py", tmp_path / "out"
    script.write_text(STEP.replace("int(sys.argv[2])", "driver_of()"))
    script.write_text(
        "from multiprocessing import parent_process\n"
        "def driver_of():\n    return parent_process().pid\n"
        + script.read_text()
    )
    words = ["_run_fork", str(script), str(out), "0", str(int(signal.SIGKILL))]
    done = warm.run([sys.executable, "-c", DRIVER, *words])
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = out.read_text()
    wait_until(lambda: not is_running(pid))
    wait_until((tmp_path / "out.end").exists)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's of Linux")
def test_a_launcher_ends_with_a_driver_that_is_killed(tmp_path):
    out = tmp_path / "out"
    code = (
        "import os, signal, time; "
        f"open({str(out)!r}, 'w').write(str(os.getpid())); "
        "os.kill(os.getppid(), signal.SIGKILL); time.sleep(120)"
    )
    words = ["run_process", sys.executable, "-S", "-c", code]
    done = warm.run([sys.executable, "-c", DRIVER, *words])
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_until(lambda: out.read_text() and not is_running(out.read_text()))
