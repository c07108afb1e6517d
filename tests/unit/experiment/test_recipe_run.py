"""The frame around a recipe: check, begin, resume, skip, refuse, finish."""

import json
import sys

import pytest
import torch
import warm

from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.errors import InputError

RECIPE = """
from pathlib import Path
from speechbrain_ext.utils.files import InputError, write_text
from speechbrain_ext.experiment.recipe_run import Stage, run

def main(argv=None):
    stage = Stage(__file__, argv)
    settings = stage.settings
    if stage.is_done({"text": settings["text"]}):
        return
    words = Path(settings["text"]).read_text().split()
    if len(words) < settings["n_words"]:
        raise InputError(f"{len(words)} words, too few; write more")
    write_text(stage.folder / "words.txt", " ".join(words))
    stage.finish(["words.txt"], n_found=len(words))

if __name__ == "__main__":
    run(main)
"""


class Recipe:
    """A recipe that copies words, in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.script = folder / "copy_words.py"
        self.script.write_text(RECIPE)
        self.leaf = folder / "copy_words.yaml"
        self.leaf.write_text(
            "seed: 1\noverwrite: False\noutput_folder: !PLACEHOLDER\n"
            "text: !PLACEHOLDER\nn_words: 1\n"
        )
        self.text = folder / "text.txt"
        self.text.write_text("one two three")
        self.out = folder / "out"

    def argv(self, *options):
        return [
            str(self.leaf),
            f"--output_folder={self.out}",
            f"--text={self.text}",
            *options,
        ]

    def stage(self, *options):
        return Stage(str(self.script), self.argv(*options))

    def run(self, *options):
        """The recipe's own main, in this process."""
        scope = {"__file__": str(self.script), "__name__": "copy_words"}
        exec(compile(RECIPE, str(self.script), "exec"), scope)
        scope["main"](self.argv(*options))

    def receipt(self):
        return json.loads((self.out / "stage.json").read_text())

    def words(self):
        return (self.out / "words.txt").read_text()


@pytest.fixture
def recipe(tmp_path):
    return Recipe(tmp_path)


# --- before any work --------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n_wrods=2"], "no key 'n_wrods'; did you mean 'n_words'"),
        (["--n_words", "2", "--txt", "a"], "no key 'txt'; did you mean 'text'"),
        (["--n_words=2", "--n_words=3"], 'duplicate key "n_words"'),
        (["--n_words={a: 1"], "options are not YAML.*close their braces"),
    ],
)
def test_a_misspelt_option_stops_before_the_folder_is_made(
    recipe, options, message
):
    with pytest.raises(InputError, match=message):
        recipe.run(*options)
    assert not recipe.out.exists()


def test_a_misspelt_key_in_the_yaml_is_named(recipe):
    recipe.leaf.write_text(recipe.leaf.read_text().replace("n_words", "nwords"))
    with pytest.raises(InputError, match="reads no key 'nwords'.*'n_words'"):
        recipe.run()


def test_a_value_the_user_must_give_is_named(recipe):
    argv = [str(recipe.leaf), f"--output_folder={recipe.out}"]
    with pytest.raises(InputError, match="'text'"):
        Stage(str(recipe.script), argv)


@pytest.mark.parametrize("argv", [[], ["--n_words=3"]])
def test_a_command_line_without_yaml_gets_the_usage(recipe, argv):
    with pytest.raises(InputError, match="usage: python .*copy_words.py"):
        Stage(str(recipe.script), argv)


def test_a_missing_input_leaves_no_folder(recipe):
    recipe.text.unlink()
    with pytest.raises(InputError, match="text.txt: no such file"):
        recipe.run()
    assert not recipe.out.exists()


# --- a finished stage -------------------------------------------------------


def test_settings_are_plain_and_overridden(recipe):
    stage = recipe.stage("--n_words=2")
    assert stage.settings["n_words"] == 2
    assert stage.settings["overwrite"] is False
    assert type(stage.settings["n_words"]) is int


def test_the_folder_tells_how_it_was_made(recipe):
    recipe.run("--n_words=2")
    receipt = recipe.receipt()
    assert receipt["recipe"] == "copy_words"
    assert receipt["hparams"]["n_words"] == 2
    assert receipt["n_found"] == 3
    assert len(receipt["inputs"]["text"]["sha256"]) == 64
    assert receipt["outputs"]["words.txt"]["path"] == "words.txt"
    assert "torch" in receipt["versions"]
    for name in ("copy_words.py", "hyperparams.resolved.yaml", "log.txt"):
        assert (recipe.out / name).stat().st_size > 0
    assert (
        "n_words: 2" in (recipe.out / "hyperparams.resolved.yaml").read_text()
    )


def test_the_same_request_again_is_skipped(recipe):
    recipe.run()
    before = (recipe.out / "words.txt").stat().st_mtime_ns
    assert recipe.stage().is_done({"text": recipe.text})
    recipe.run()
    assert (recipe.out / "words.txt").stat().st_mtime_ns == before


def test_an_input_that_moved_but_kept_its_bytes_is_the_same(recipe):
    recipe.run()
    recipe.text = recipe.text.rename(recipe.folder / "moved.txt")
    assert recipe.stage().is_done({"text": recipe.text})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n_words=2"], "hparams.n_words was 1, now 2"),
        (["--seed=5"], "hparams.seed was 1, now 5"),
    ],
)
def test_another_request_is_refused_by_the_key_that_differs(
    recipe, options, message
):
    recipe.run()
    before = recipe.receipt()
    with pytest.raises(InputError, match=message):
        recipe.run(*options)
    assert recipe.receipt() == before
    assert recipe.words() == "one two three"


def test_changed_input_bytes_are_refused(recipe):
    recipe.run()
    recipe.text.write_text("four five")
    with pytest.raises(InputError, match="inputs.text.bytes was 13, now 9"):
        recipe.run()
    assert recipe.words() == "one two three"


def test_overwrite_moves_the_earlier_answer_aside(recipe):
    recipe.run()
    recipe.text.write_text("four five")
    recipe.run("--overwrite=True")
    assert recipe.words() == "four five"
    aside = recipe.folder / "out.old1"
    assert (aside / "words.txt").read_text() == "one two three"
    recipe.run("--overwrite=True")
    assert (aside / "words.txt").read_text() == "one two three"
    assert (recipe.folder / "out.old2" / "words.txt").exists()


def test_overwrite_leaves_a_folder_that_is_not_ours(recipe):
    recipe.out.mkdir()
    (recipe.out / "thesis.txt").write_text("three years")
    recipe.run("--overwrite=True")
    assert (recipe.out / "thesis.txt").read_text() == "three years"
    assert recipe.words() == "one two three"


# --- an unfinished stage ----------------------------------------------------


def test_a_stage_cut_off_is_resumed_in_its_folder(recipe):
    assert not recipe.stage().is_done({"text": recipe.text})
    (recipe.out / "half.ckpt").write_text("state")
    assert not recipe.stage().is_done({"text": recipe.text})
    assert (recipe.out / "half.ckpt").read_text() == "state"
    recipe.run()
    assert recipe.words() == "one two three"


@pytest.mark.parametrize("damage", ["delete", "change"])
def test_a_stage_whose_output_is_damaged_is_done_again(recipe, damage):
    recipe.run()
    path = recipe.out / "words.txt"
    path.unlink() if damage == "delete" else path.write_text("one two thr")
    recipe.run()
    assert recipe.words() == "one two three"


def test_the_seed_is_set_when_work_begins(recipe):
    recipe.stage().is_done({"text": recipe.text})
    first = torch.rand(3)
    torch.rand(5)
    recipe.stage().is_done({"text": recipe.text})
    assert torch.equal(torch.rand(3), first)


def test_load_builds_the_objects_of_the_yaml(recipe):
    text = recipe.leaf.read_text().replace(
        "n_words: 1",
        "n_words: !new:torch.nn.Linear\n    in_features: 2\n"
        "    out_features: 1",
    )
    recipe.leaf.write_text(text)
    first = recipe.stage().load()["n_words"]
    again = recipe.stage().load()["n_words"]
    assert torch.equal(first.weight, again.weight)


# --- as a program -----------------------------------------------------------


def program(recipe, *options):
    command = [sys.executable, str(recipe.script), *recipe.argv(*options)]
    return warm.run(command)


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


def test_a_fault_of_ours_keeps_its_traceback(recipe):
    text = recipe.script.read_text()
    recipe.script.write_text(text.replace("words = Path", "1 / 0  # "))
    done = program(recipe)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


CLASSES = "opt_class: !name:torch.optim.{}\n    lr: 1.0\n"


def test_another_class_in_the_yaml_is_another_request(recipe):
    text = recipe.leaf.read_text()
    recipe.script.write_text(
        RECIPE.replace(
            "words = Path",
            "hparams = stage.load()\n    "
            "hparams['opt_class']\n    words = Path",
        )
    )
    recipe.leaf.write_text(text + CLASSES.format("SGD"))
    assert not recipe.stage().is_done({"text": recipe.text})
    (recipe.out / "half.txt").write_text("work")
    recipe.leaf.write_text(text + CLASSES.format("Adam"))
    rule = r"opt_class.! was '!name:torch.optim.SGD', now"
    with pytest.raises(InputError, match=rule):
        recipe.stage().is_done({"text": recipe.text})


@pytest.mark.parametrize(
    "option", ["--debug", "--precision=bf16", "--max_grad_norm=1.0"]
)
def test_a_run_option_that_decides_the_result_is_part_of_the_request(
    recipe, option
):
    recipe.run(option)
    with pytest.raises(InputError, match="run_options"):
        recipe.run()


def test_a_run_option_that_decides_nothing_is_not(recipe):
    recipe.run("--noprogressbar")
    assert recipe.stage().is_done({"text": recipe.text})


def test_test_only_is_refused(recipe):
    with pytest.raises(InputError, match="test_only trains nothing"):
        recipe.run("--test_only")


def test_overwrite_typed_again_after_a_kill_goes_on(recipe):
    recipe.run()
    again = ["--overwrite=True"]
    assert not recipe.stage(*again).is_done({"text": recipe.text})
    (recipe.out / "checkpoint").write_text("work")
    assert not recipe.stage(*again).is_done({"text": recipe.text})
    assert (recipe.out / "checkpoint").exists()
    assert len(list(recipe.folder.glob("out.old*"))) == 1


def test_a_resumed_stage_says_so(recipe):
    assert not recipe.stage().is_done({"text": recipe.text})
    recipe.run()
    assert recipe.receipt()["resumed"] is True


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
