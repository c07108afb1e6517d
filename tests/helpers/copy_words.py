"""A recipe that copies words: a whole program, as small as can be."""

import importlib.util
import json
import sys

import pytest
import warm

from speechbrain_ext.experiment.recipe_run import RecipeRun

RECIPE = """
import dataclasses
from pathlib import Path
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.training.settings import TrainingSettings
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_text
from speechbrain_ext.utils.settings import Settings, Wired, setting

@dataclasses.dataclass(kw_only=True)
class CopyWords(Settings):
    recipe = "copy_words"
    deciding_options = TrainingSettings.deciding_options
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


def program(recipe, *options):
    """Run the recipe as a program."""
    command = [sys.executable, str(recipe.script), *recipe.argv(*options)]
    return warm.run(command)
