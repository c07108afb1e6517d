"""A recipe called as benchmarks call it, without another Python."""

import importlib
import json


def start(recipe, leaf, **options):
    """As `benchmarks.cells.start`."""
    words = [
        f"--{k}={v if isinstance(v, str) else json.dumps(v)}"
        for k, v in options.items()
    ]
    module = importlib.import_module(f"recipes.{recipe}")
    module.main([f"hparams/{leaf}", "--noprogressbar", *words])
