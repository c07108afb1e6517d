"""The command ``sbext``: its help, its names, and what a wheel has of it."""

import json
import os
import signal
import subprocess
import sys

import pytest
import warm
from house import PLANS, ROOT, leaves, recipe_of, recipes

from speechbrain_ext import __main__ as sbext
from speechbrain_ext.commands.recipe_help import command_of
from speechbrain_ext.experiment.recipe_settings import settings_of
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.shipped import shipped_leaves

COMMANDS = [name for names in sbext.GROUPS.values() for name in names]
# What no help needs.
HEAVY = "torch numpy pandas speechbrain transformers matplotlib".split()


def said(capsys, *words):
    sbext.main(list(words))
    return capsys.readouterr().out


def test_every_recipe_is_a_command_in_one_group():
    assert sorted(COMMANDS) == sorted([*recipes(), *sbext.PROGRAMS])


def test_the_overview_has_all_commands(capsys):
    text = said(capsys)
    for name in COMMANDS:
        assert f"  {command_of(name)} " in text or f"{name}\n" in text
    assert text == said(capsys, "--help")
    assert max(map(len, text.splitlines())) < 80


@pytest.mark.parametrize("recipe", sorted(recipes()))
def test_help_has_every_key_with_value_type_and_meaning(capsys, recipe):
    text = said(capsys, command_of(recipe), "--help")
    words = " ".join(text.split())
    for key, fact in settings_of(recipe).keys().items():
        assert f"  --{key}=" in text
        assert " ".join(fact.doc.split())[:20] in words.replace("- ", "-")
    assert "usage: sbext" in text and f"sbext {command_of(recipe)}" in text
    assert "python recipes/" not in text
    for leaf in shipped_leaves(recipe):
        assert f"  {leaf.stem}" in text


def test_help_of_a_yaml_has_its_values(capsys):
    text = said(capsys, "train-dino", "train_dino_ecapa_small", "--help")
    assert "--n_epochs=30 " in text and "default 80" in " ".join(text.split())
    text = said(capsys, "run", "folder", "--help")
    assert "--output_folder=exp/folder" in text


def test_the_plans_are_those_that_can_be_run(capsys):
    assert {path.stem for path in shipped_leaves("run_rounds")} == set(PLANS)
    known = [path for recipe in recipes() for path in shipped_leaves(recipe)]
    assert sorted(known) == sorted(p for p in leaves() if recipe_of(p))


def test_a_recipe_says_the_same_from_the_clone(capsys):
    words = ["recipes/train_dino.py", "--help"]
    done = warm.run([sys.executable, *words], ROOT, dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stdout == said(capsys, "train-dino", "--help")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["trian-dino"],
            "COMMAND is 'trian-dino'; .*did you mean train-d",
        ),
        (["run"], "PLAN is not given; .*quickstart"),
        (
            ["run", "quikstart"],
            "PLAN is 'quikstart'; .*did you mean quicks",
        ),
        (["score-trials", "none"], "YAML is 'none'; .* score_trials; "),
        (["run", "none.yaml", "--help"], "no such YAML file"),
    ],
)
def test_a_wrong_word_is_one_line_with_a_way_out(words, message):
    with pytest.raises(InputError, match=message):
        sbext.main(words)


def test_a_yaml_of_ones_own_may_lie_anywhere(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("base: plans/quickstart.yaml\n")
    monkeypatch.chdir(tmp_path)
    assert sbext.with_yaml("run_rounds", ["mine.yaml"]) == ["mine.yaml"]
    (own,) = sbext.with_yaml("convert_labels", [])
    assert own == str(ROOT / "hparams" / "convert_labels.yaml")


HELP_OF_ALL = f"""
import sys
from speechbrain_ext import __main__ as sbext
for names in sbext.GROUPS.values():
    for name in names:
        sbext.main([sbext.command_of(name), "--help"])
sbext.main(["--help"])
found = set({HEAVY}) & sys.modules.keys()
assert not found, found
"""


def test_no_help_imports_a_library_for_training():
    """Each took nine seconds of imports before it said a word."""
    subprocess.run(
        [sys.executable, "-c", HELP_OF_ALL], cwd=ROOT, check=True, stdout=-3
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What a wheel puts into site-packages, built as pip builds it."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("site-packages")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


def run_installed(installed, folder, *words):
    """A Python in another folder, to which the clone is unknown."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("folder", ["recipes", "hparams", "pretrained"])
def test_a_wheel_has_what_a_clone_has(installed, folder):
    def files(top):
        found = (path for path in (top / folder).rglob("*") if path.is_file())
        names = {path.relative_to(top).as_posix() for path in found}
        return {name for name in names if "__pycache__" not in name}

    assert files(installed / "speechbrain_ext") == files(ROOT)


def test_a_wheel_has_templates_and_its_mark_of_types(installed):
    package = installed / "speechbrain_ext"
    assert (package / "report" / "templates" / "report.html").is_file()
    assert (package / "py.typed").is_file()


def test_sbext_runs_from_a_wheel_in_any_folder(installed, tmp_path):
    done = run_installed(installed, tmp_path, "-m", "speechbrain_ext")
    assert "train-dino" in done.stdout, done.stderr
    words = ["-m", "speechbrain_ext", "run", "quickstart", "--help"]
    done = run_installed(installed, tmp_path, *words)
    assert "--output_folder=exp/quickstart" in done.stdout, done.stderr


PLACES = """
import json
from speechbrain_ext.utils import shipped
from speechbrain_ext.utils.yaml_trees import find_yaml
places = [shipped.RECIPES, find_yaml("hparams/embedders/ecapa.yaml")]
places.append(shipped.shipped_model("minivox_whisper"))
print(json.dumps([shipped.import_folders(), *map(str, places)]))
"""


def test_an_installed_package_finds_its_own_files(installed, tmp_path):
    done = run_installed(installed, tmp_path, "-c", PLACES)
    folders, *places = json.loads(done.stdout)
    assert folders == []
    for place in places:
        assert place.startswith(f"{installed}/speechbrain_ext/")


def test_a_shipped_model_verifies_by_its_name(installed, tmp_path):
    pair = [ROOT / f"pretrained/minivox_whisper/example{n}.wav" for n in (1, 2)]
    words = ["-m", "speechbrain_ext", "verify", "minivox_whisper", *pair]
    done = run_installed(installed, tmp_path, *words, "--device=cpu")
    assert done.returncode == 0, done.stderr
    assert "same speaker: probability of one speaker" in done.stdout


def test_ctrl_c_while_a_recipe_imports_is_one_line(monkeypatch, capsys):
    """Importing torch takes seconds, in which many change their mind."""

    def import_slowly(script, run_name):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sbext.runpy, "run_path", import_slowly)
    monkeypatch.setattr(sys, "argv", ["sbext", "train-dino"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as stop:
        sbext.program()
    assert stop.value.code == 130
    assert capsys.readouterr().err.startswith("stopped by SIGINT; nothing was")


@pytest.mark.parametrize("word", ["export", "export_model", "export-model"])
def test_a_recipe_is_a_command_by_each_of_its_names(word, capsys):
    """sbext export-model was refused, with export_model for an answer."""
    sbext.main([word, "--help"])
    assert "usage: sbext export " in capsys.readouterr().out
