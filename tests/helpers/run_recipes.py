"""Recipes run one after another in one group of processes, for torchrun."""

import importlib
import json
import sys

import speechbrain as sb
import torch


def main(path):
    """Run [recipe, argv] of a JSON file."""
    initialise = sb.utils.distributed.ddp_init_group

    def once(options):
        if not torch.distributed.is_initialized():
            initialise(options)

    sb.utils.distributed.ddp_init_group = once
    with open(path) as stream:
        jobs = json.load(stream)
    for recipe, argv in jobs:
        importlib.import_module(f"recipes.{recipe}").main(argv)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
