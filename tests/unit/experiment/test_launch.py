"""A recipe is started with the words that a user would type."""

import json
import multiprocessing
import sys

import pytest
from house import ROOT

from speechbrain_ext.experiment.launch import (
    CPU_ENVIRONMENT,
    can_fork,
    check_launcher,
    launcher_words,
    recipe_environment,
    recipe_script,
    recipe_words,
    run_recipe,
)
from speechbrain_ext.utils.errors import InputError
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
