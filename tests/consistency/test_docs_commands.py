"""Every command of README and docs would be understood as it is written."""

import re
import shlex

import pytest
from docs_pages import blocks, blocks_of, lines_of
from house import DRIVER, ROOT, recipe_of, recipes
from speechbrain.utils.run_opts import RunOptions

from speechbrain_ext import __main__ as sbext
from speechbrain_ext.commands.arguments import parser_of
from speechbrain_ext.experiment.debug_plan import debug_plan, debug_values
from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.plan import longest_plan
from speechbrain_ext.experiment.plan_check import check_plan
from speechbrain_ext.experiment.recipe_settings import settings_of
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.yaml_trees import find_yaml

# Programs that are not ours and need no check.
# SpeechBrain's, run by tests/recipes/test_convert.py where there is a checkout.
FOREIGN = {"train_speaker_embeddings.py"}
OTHERS = {"git", "cd", "ls", "source", ".", "export", "mkdir", "ffmpeg"}


def commands_of(found):
    """Commands [words] of the bash blocks among blocks."""
    commands = []
    for block in found:
        for line in lines_of(block) if block.language == "bash" else ():
            for part in re.split(r"\s(?:&&|;|\|)\s", line):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    commands.append(words)
    return commands


def targets():
    text = (ROOT / "Makefile").read_text("utf-8")
    rules = re.findall(r"^([\w][\w .-]*):(?!=)", text, re.M)
    return {name for rule in rules for name in rule.split()}


def check_make(words):
    for word in words:
        if "=" not in word and not word.startswith("-"):
            assert word in targets(), f"make {word}"


def check_recipe(script, argv):
    """What a recipe checks before it opens a folder."""
    assert script in {f"recipes/{stem}.py" for stem in recipes()}, script
    stem = (ROOT / script).stem
    name, options, overrides = RunOptions.from_command_line_args(argv)
    assert recipe_of(ROOT / name) == stem, name
    if stem == DRIVER:
        check_driver(name, options.debug, overrides)
    else:
        read_leaf(settings_of(stem), ROOT / name, overrides)


def check_driver(name, debug, overrides):
    """What `run_rounds` checks: the plan and the values of all its steps."""
    preset = debug_values() if debug else None
    settings = read_leaf(RunRounds, ROOT / name, overrides, preset).settings
    if debug:
        settings = debug_plan(settings)
    check_plan(longest_plan(settings))


def check_sbext(words):
    """What the command does before it imports what computes."""
    if words == ["--help"]:
        return
    name = {sbext.command_of(n): n for n in recipes()}.get(words[0])
    if name is None:
        assert words[0] in sbext.PROGRAMS, words[0]
        parser_of(words[0]).parse_args(words[1:])
        return
    leaf, *options = sbext.with_yaml(name, words[1:])
    check_recipe(f"recipes/{name}.py", [str(find_yaml(leaf)), *options])


def check(words):
    scripts = [i for i, word in enumerate(words) if word.endswith(".py")]
    if words[0] == "make":
        check_make(words[1:])
    elif words[0] == "sbext":
        check_sbext(words[1:])
    elif words[0] == "torchrun" and "speechbrain_ext" in words:
        check_sbext(words[words.index("speechbrain_ext") + 1 :])
    elif scripts:
        assert re.fullmatch(r"(python3?|torchrun)", words[0]), words
        script = words[scripts[0]]
        if script in FOREIGN:
            return
        if script.startswith("recipes/"):
            check_recipe(script, words[scripts[0] + 1 :])
        else:
            assert (ROOT / script).is_file(), script
    else:
        installs = words[0] in ("python", "python3", "pip") and (
            words[0] == "pip" or words[1] == "-m"
        )
        assert words[0] in OTHERS or installs, f"{words}: teach this test"


def test_the_readme_has_the_quickstart():
    text = (ROOT / "README.md").read_text("utf-8")
    found = commands_of(blocks_of(text))
    assert ["sbext", "run", "quickstart"] in found


def test_every_command_is_understood():
    """Those with a YAML that a page has users write are run instead."""
    written = {block.file for block in blocks() if block.file}
    wrong = []
    for words in commands_of(blocks()):
        if written & set(words):
            continue
        try:
            check(words)
        except (AssertionError, InputError) as error:
            wrong.append(f"{' '.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)


GOOD = """
```bash
git clone somewhere && cd there
make quickstart  # minutes
OMP_NUM_THREADS=1 python recipes/make_oracle_labels.py \\
    hparams/make_oracle_labels.yaml --train_annotation=a --oracle b \\
    --output_folder=c --device=cpu
```
```text
no command
```
"""


def test_blocks_become_commands():
    found = commands_of(blocks_of(GOOD))
    assert [words[0] for words in found] == ["git", "cd", "make", "python"]
    assert found[2] == ["make", "quickstart"]
    for words in found:
        check(words)


@pytest.mark.parametrize(
    "command",
    [
        "make quickstrat",
        "python recipes/make_oracle_label.py hparams/make_oracle_labels.yaml",
        "python recipes/make_oracle_labels.py hparams/none.yaml",
        "python recipes/make_oracle_labels.py hparams/make_pseudo_labels.yaml",
        "python recipes/make_oracle_labels.py hparams/make_oracle_labels.yaml "
        "--train_annotation=a --oracle=b --output_folder=c --orcale=d",
        "python recipes/make_oracle_labels.py hparams/make_oracle_labels.yaml "
        "--oracle=b",
        "python benchmarks/none.py",
        "sbext run quikstart",
        "sbext train-dion",
        "frobnicate --all",
    ],
)
def test_a_wrong_command_is_found(command):
    with pytest.raises((AssertionError, InputError)):
        check(shlex.split(command))
