"""A recipe called as benchmarks call it, without another Python."""

import importlib

from speechbrain_ext.experiment.launch import recipe_words
from speechbrain_ext.utils.yaml_trees import find_yaml


def start(recipe, leaf, **options):
    """As `benchmarks.cells.start`."""
    words = recipe_words(recipe, find_yaml(leaf), options)
    module = importlib.import_module(f"recipes.{recipe}")
    module.main([*words[2:], "--noprogressbar"])
