"""Runs trainings one after the other; every process writes what it saw.

Started by torchrun with a JSON file of jobs (name, recipe, argv; dtype, in
which all is computed; to die in mid-training, kill_after batches) and a folder
to write to.
"""

import contextlib
import importlib
import json
import os
import sys
from pathlib import Path

import pytest
import soundfile
import speechbrain as sb
import torch
import torch.distributed
from tones import Killed, killed_after

from speechbrain_ext.utils.errors import InputError

BRAINS = {
    "train_dino": "DinoBrain",
    "train_contrastive": "ContrastiveBrain",
    "train_speaker": "SpeakerBrain",
}


def noting(monkeypatch, brain, losses):
    """Make a Brain class note the loss of each batch, this process's own."""
    fit_batch = brain.fit_batch

    def noted(self, batch):
        loss = fit_batch(self, batch)
        losses.append(float(loss))
        return loss

    monkeypatch.setattr(brain, "fit_batch", noted)


@contextlib.contextmanager
def in_double(patch):
    """Float64 where the package has float32: weights, audio and casts."""
    read = soundfile.SoundFile.read

    def read_double(self, frames, dtype, **others):
        return read(self, frames, "float64", **others)

    patch.setattr(soundfile.SoundFile, "read", read_double)
    patch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def run(job):
    """Losses of this process's batches and what stopped it, if anything."""
    with pytest.MonkeyPatch.context() as patch:
        if job["dtype"] == "float32":
            return run_as_it_is(job)
        with in_double(patch):
            return run_as_it_is(job)


def run_as_it_is(job):
    """The same in the float type that is set."""
    recipe = importlib.import_module(f"recipes.{job['recipe']}")
    brain = getattr(recipe, BRAINS[job["recipe"]])
    losses, stopped = [], None
    with pytest.MonkeyPatch.context() as patch:
        noting(patch, brain, losses)
        if "kill_after" in job:
            killed_after(patch, brain, job["kill_after"])
        try:
            recipe.main(job["argv"])
        except InputError as error:
            stopped = str(error)
        except Killed:
            stopped = "killed"
    return {"losses": losses, "stopped": stopped}


def main(jobs, folder):
    """All the jobs, in one group of processes."""
    initialise = sb.utils.distributed.ddp_init_group

    def once(options):
        if not torch.distributed.is_initialized():
            initialise(options)

    sb.utils.distributed.ddp_init_group = once
    found = {job["name"]: run(job) for job in json.loads(jobs.read_text())}
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
