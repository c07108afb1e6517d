"""A recipe is started with the words that a user would type."""

import json
import sys

from speechbrain_ext.experiment.launch import (
    CPU_ENVIRONMENT,
    ROOT,
    recipe_environment,
    recipe_script,
    recipe_words,
    run_recipe,
)
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
