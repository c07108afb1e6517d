"""The benchmark of a DINO step times a step that trains."""

import pytest
import torch

from benchmarks import dino_step
from speechbrain_ext.utils.errors import InputError

SMALL = "--batch_size=2 --width=16 --n_prototypes=32 --global_crop=0.4".split()


def test_a_step_of_this_package_moves_every_weight():
    arguments = dino_step.parse(["--sslsv=none", *SMALL])
    parameters, step = dino_step.ours(arguments, dino_step.draw(arguments))
    before = [parameter.detach().clone() for parameter in parameters]
    losses = [step() for _ in range(2)]
    assert losses[0] != losses[1]
    moved = [
        not torch.equal(old, new)
        for old, new in zip(before, parameters, strict=True)
    ]
    assert sum(moved) > 0.9 * len(moved)


def test_a_folder_without_the_reference_code_is_named(tmp_path):
    with pytest.raises(InputError, match="github.com/theolepage/sslsv"):
        dino_step.main([f"--sslsv={tmp_path}", *SMALL])


def test_both_steps_are_timed_alternately_after_a_warm_up():
    calls = []
    steps = {name: lambda n=name: calls.append(n) for name in "ab"}
    seconds = dino_step.in_turns(steps, 3)
    assert calls == list("ab") * (3 + dino_step.N_WARM_UP)
    assert [len(seconds[name]) for name in "ab"] == [3, 3]
