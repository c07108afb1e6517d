"""The frame around a recipe: check, begin, resume, skip, refuse, finish."""

import importlib.util
import json
import sys

import pytest
import torch
import warm

from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.errors import InputError

RECIPE = """
import dataclasses
from pathlib import Path
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_text
from speechbrain_ext.utils.settings import Settings, Wired, setting

@dataclasses.dataclass(kw_only=True)
class CopyWords(Settings):
    recipe = "copy_words"
    text: str = setting(doc="file of words", path=True)
    n_words: int = setting(1, "fewest words", low=1)
    corpus: str = setting("none", "name of the words")
    module: Wired = setting(
        Wired("!new:torch.nn.Linear {in_features: 2, out_features: 1}"), "any"
    )

def main(argv=None):
    recipe = RecipeRun(__file__, CopyWords, argv)
    settings = recipe.settings
    if recipe.is_done({"text": settings.text}):
        return
    words = Path(settings.text).read_text().split()
    if len(words) < settings.n_words:
        raise InputError(f"{len(words)} words, too few; write more")
    write_text(recipe.folder / "words.txt", " ".join(words))
    recipe.finish(["words.txt"], n_found=len(words))

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
            "seed: 1\noutput_folder: !PLACEHOLDER\ntext: !PLACEHOLDER\n"
            "n_words: 1\n"
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

    def scope(self):
        """The recipe as a module of this process."""
        spec = importlib.util.spec_from_file_location("copied", self.script)
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "copied", module)
            spec.loader.exec_module(module)
            # While the module is known: annotations are resolved in it.
            module.CopyWords.keys()
        return module

    def opened(self, *options):
        """What the recipe's main begins with."""
        kind = self.scope().CopyWords
        return RecipeRun(str(self.script), kind, self.argv(*options))

    def run(self, *options):
        """Run the recipe's own main, in this process."""
        self.scope().main(self.argv(*options))

    def record(self):
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
        (
            ["--n_wrods=2"],
            "n_wrods is 2; .* no such key; did you mean --n_words",
        ),
        (
            ["--n_words", "2", "--txt", "a"],
            "txt is 'a'; .* no such key; did you mean --text",
        ),
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
    with pytest.raises(
        InputError, match="nwords is 1; .* did you mean --n_words"
    ):
        recipe.run()


def test_a_value_the_user_must_give_is_named(recipe):
    argv = [str(recipe.leaf), f"--output_folder={recipe.out}"]
    with pytest.raises(InputError, match="text is not given; .*--text=..."):
        recipe.scope().main(argv)


@pytest.mark.parametrize("argv", [[], ["--n_words=3"]])
def test_a_command_line_without_yaml_gets_the_usage(recipe, argv):
    with pytest.raises(InputError, match="usage: python .*copy_words.py"):
        recipe.scope().main(argv)


def test_a_missing_input_leaves_no_folder(recipe):
    recipe.text.unlink()
    with pytest.raises(InputError, match="text.txt: no such file"):
        recipe.run()
    assert not recipe.out.exists()


# --- a finished run -------------------------------------------------------


def test_settings_have_their_types_and_the_values_given(recipe):
    opened = recipe.opened("--n_words=2")
    assert opened.settings.n_words == 2
    assert opened.settings.overwrite is False
    assert type(opened.settings.n_words) is int


def test_the_folder_tells_how_it_was_made(recipe):
    recipe.run("--n_words=2")
    record = recipe.record()
    assert record["recipe"] == "copy_words"
    assert record["hparams"]["n_words"] == 2
    assert record["n_found"] == 3
    assert len(record["inputs"]["text"]["sha256"]) == 64
    assert record["outputs"]["words.txt"]["path"] == "words.txt"
    assert "torch" in record["versions"]
    for name in ("copy_words.py", "hyperparams.resolved.yaml", "log.txt"):
        assert (recipe.out / name).stat().st_size > 0
    assert (
        "n_words: 2" in (recipe.out / "hyperparams.resolved.yaml").read_text()
    )


def test_the_same_request_again_is_skipped(recipe):
    recipe.run()
    before = (recipe.out / "words.txt").stat().st_mtime_ns
    assert recipe.opened().is_done({"text": recipe.text})
    recipe.run()
    assert (recipe.out / "words.txt").stat().st_mtime_ns == before


def test_an_input_that_moved_but_kept_its_bytes_is_the_same(recipe):
    recipe.run()
    recipe.text = recipe.text.rename(recipe.folder / "moved.txt")
    assert recipe.opened().is_done({"text": recipe.text})


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
    before = recipe.record()
    with pytest.raises(InputError, match=message):
        recipe.run(*options)
    assert recipe.record() == before
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


def test_a_name_that_equals_a_folder_of_an_input_is_recorded(
    recipe, monkeypatch
):
    """Only keys that are declared as paths are left out of the record."""
    monkeypatch.chdir(recipe.folder)
    (recipe.folder / "toy").mkdir()
    recipe.text.rename("toy/text.txt")
    recipe.text = "toy/text.txt"
    recipe.run("--corpus=toy")
    assert recipe.record()["hparams"]["corpus"] == "toy"
    with pytest.raises(InputError, match="hparams.corpus was 'toy', now 'emb'"):
        recipe.run("--corpus=emb")


# --- an unfinished run ----------------------------------------------------


def test_an_unfinished_run_is_resumed_in_its_folder(recipe):
    assert not recipe.opened().is_done({"text": recipe.text})
    (recipe.out / "half.ckpt").write_text("state")
    assert not recipe.opened().is_done({"text": recipe.text})
    assert (recipe.out / "half.ckpt").read_text() == "state"
    recipe.run()
    assert recipe.words() == "one two three"


@pytest.mark.parametrize("damage", ["delete", "change"])
def test_a_run_whose_output_is_damaged_is_done_again(recipe, damage):
    recipe.run()
    path = recipe.out / "words.txt"
    path.unlink() if damage == "delete" else path.write_text("one two thr")
    recipe.run()
    assert recipe.words() == "one two three"


def test_the_seed_is_set_when_work_begins(recipe):
    recipe.opened().is_done({"text": recipe.text})
    first = torch.rand(3)
    torch.rand(5)
    recipe.opened().is_done({"text": recipe.text})
    assert torch.equal(torch.rand(3), first)


def test_objects_of_the_yaml_are_the_same_each_time(recipe):
    first = recipe.opened().objects()["module"]
    again = recipe.opened().objects()["module"]
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


def test_a_programming_error_keeps_its_traceback(recipe):
    text = recipe.script.read_text()
    recipe.script.write_text(text.replace("words = Path", "1 / 0  # "))
    done = program(recipe)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_another_class_in_the_yaml_is_another_request(recipe):
    assert not recipe.opened().is_done({"text": recipe.text})
    (recipe.out / "half.txt").write_text("work")
    stated = "module: !new:torch.nn.Identity\n"
    recipe.leaf.write_text(recipe.leaf.read_text() + stated)
    rule = "module.! was '!new:torch.nn.Linear', now '!new:torch.nn.Identity'"
    with pytest.raises(InputError, match=rule):
        recipe.opened().is_done({"text": recipe.text})


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
    assert recipe.opened().is_done({"text": recipe.text})


def test_test_only_is_refused(recipe):
    with pytest.raises(InputError, match="test_only trains nothing"):
        recipe.run("--test_only")


def test_overwrite_typed_again_after_a_kill_goes_on(recipe):
    recipe.run()
    again = ["--overwrite=True"]
    assert not recipe.opened(*again).is_done({"text": recipe.text})
    (recipe.out / "checkpoint").write_text("work")
    assert not recipe.opened(*again).is_done({"text": recipe.text})
    assert (recipe.out / "checkpoint").exists()
    assert len(list(recipe.folder.glob("out.old*"))) == 1


def test_the_record_says_that_a_run_was_resumed(recipe):
    assert not recipe.opened().is_done({"text": recipe.text})
    recipe.run()
    assert recipe.record()["resumed"] is True


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
