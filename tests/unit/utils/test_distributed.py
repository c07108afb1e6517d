"""Batch statistics and means over processes, against one joined batch."""

import copy
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from speechbrain_ext.utils.distributed import (
    SharedBatchNorm,
    once_a_machine,
    process_mean,
    share_batch_norm,
)

# Utterances in each of two processes; all in the first of one.
SPLITS = {"even": (4, 4), "uneven": (7, 2), "none in one": (5, 0)}
SHAPES = {"BC": (), "BCT": (6,), "BCHW": (3, 2)}
OPTIONS = {
    "usual": {},
    "cumulative": {"momentum": None},
    "plain": {"affine": False},
    "untracked": {"track_running_stats": False},
}
CASES = list(itertools.product(SPLITS, SHAPES, OPTIONS))
N_STEPS = 3


def inputs(split, shape):
    """Batches [steps, B, C, ...] far from zero, and a loss's weights."""
    generator = torch.Generator().manual_seed(1)
    size = (N_STEPS, sum(SPLITS[split]), 5, *SHAPES[shape])
    scale = torch.arange(1.0, 6).view(-1, *[1] * len(SHAPES[shape]))
    batches = torch.randn(size, generator=generator, dtype=torch.float64)
    weights = torch.randn(size, generator=generator, dtype=torch.float64)
    return batches * scale + 10, weights


def new_norm(shape, option):
    kind = torch.nn.BatchNorm2d if shape == "BCHW" else torch.nn.BatchNorm1d
    norm = kind(5, dtype=torch.float64, **OPTIONS[option])
    for number, parameter in enumerate(norm.parameters()):
        torch.nn.init.normal_(
            parameter, generator=torch.Generator().manual_seed(number)
        )
    return norm


def trace(norm, batches, weights):
    """What a BatchNorm gives, step by step, and its state in the end."""
    outputs, gradients = [], []
    for batch, weight in zip(batches, weights, strict=True):
        batch = batch.clone().requires_grad_()
        output = norm(batch)
        (output * weight).sum().backward()
        outputs.append(output.detach())
        gradients.append(batch.grad)
    found = {
        "outputs": torch.stack(outputs),
        "gradients": torch.stack(gradients),
        "weight gradients": [p.grad for p in norm.parameters()],
        "state": norm.state_dict(),
    }
    if norm.track_running_stats:
        found["evaluated"] = norm.eval()(batches[:1].flatten(0, 1))[None]
    return found


def network():
    torch.manual_seed(3)
    layers = [
        torch.nn.Conv1d(2, 4, 3),
        torch.nn.BatchNorm1d(4),
        torch.nn.Tanh(),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 3),
        torch.nn.BatchNorm1d(3),
    ]
    return torch.nn.Sequential(*layers).double()


def trained(net, batches):
    """State and losses after some steps of SGD."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for batch in batches:
        loss = (net(batch) - 1).abs().pow(3).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(process_mean(loss.detach(), "cpu"))
    state = {k.removeprefix("module."): v for k, v in net.state_dict().items()}
    return state, losses


def batches_of_networks():
    generator = torch.Generator().manual_seed(2)
    return torch.randn((20, 6, 2, 6), generator=generator, dtype=torch.float64)


def shared_arrays(log):
    """Arrays made once on this machine, where they lie, and without room."""

    def make():
        with open(log, "a") as stream:
            stream.write("made\n")
        return [np.arange(5, dtype=np.int16), np.float32([0.5])]

    arrays = once_a_machine(make)
    maps = Path("/proc/self/maps").read_text()
    kept = tempfile.tempdir
    tempfile.tempdir = f"{log}/nowhere"
    alone = once_a_machine(make)
    tempfile.tempdir = kept
    return {
        "arrays": [array.tolist() for array in arrays],
        "mapped": sum("/shared-" in line for line in maps.splitlines()),
        "log": str(log),
        "alone": [array.tolist() for array in alone],
    }


def work(rank, n_processes, folder):
    """One of the processes: its part of each case, saved."""
    torch.set_num_threads(1)  # as conftest.py
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet{n_processes}",
        rank=rank,
        world_size=n_processes,
    )
    found = {}
    for split, shape, option in CASES:
        part = slice(None)
        if n_processes == 2:
            n = SPLITS[split][0]
            part = slice(n) if rank == 0 else slice(n, None)
        batches, weights = inputs(split, shape)
        norm = share_batch_norm(new_norm(shape, option), "cpu")
        found[split, shape, option] = trace(
            norm, batches[:, part], weights[:, part]
        )
    # As SpeechBrain's Brain wraps it.
    net = share_batch_norm(network(), "cpu")
    net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(net)
    net = DistributedDataParallel(net)
    batches = batches_of_networks()
    found["network"] = trained(net, batches[:, rank::n_processes])
    value = torch.tensor([1.0, 10.0]) * (rank + 1)
    found["mean"], found["value"] = process_mean(value, "cpu"), value
    found["shared"] = shared_arrays(folder / f"made{n_processes}")
    torch.save(found, folder / f"{n_processes}-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process found, by number of processes."""
    folder = tmp_path_factory.mktemp("processes")
    work(0, 1, folder)
    torch.multiprocessing.spawn(work, (2, folder), nprocs=2)
    return {
        n: [torch.load(folder / f"{n}-{rank}.pt") for rank in range(n)]
        for n in (1, 2)
    }


def assert_close(first, second):
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_processes", [1, 2])
@pytest.mark.parametrize(("split", "shape", "option"), CASES)
def test_processes_normalise_as_one_does_the_joined_batch(
    found, n_processes, split, shape, option
):
    joined = trace(new_norm(shape, option), *inputs(split, shape))
    parts = [one[split, shape, option] for one in found[n_processes]]
    for key in joined.keys() & {"outputs", "gradients", "evaluated"}:
        assert_close(torch.cat([part[key] for part in parts], 1), joined[key])
    summed = zip(*(part["weight gradients"] for part in parts), strict=True)
    for gradients, expected in zip(
        summed, joined["weight gradients"], strict=True
    ):
        assert_close(sum(gradients), expected)
    for part in parts:
        assert part["state"].keys() == joined["state"].keys()
        for name, expected in joined["state"].items():
            assert_close(part["state"][name], expected)


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_network_in_several_processes_learns_as_in_one(found, n_processes):
    state, losses = trained(network(), batches_of_networks())
    assert losses[-1] < 0.5 * losses[0]
    for rank in range(n_processes):
        own_state, own_losses = found[n_processes][rank]["network"]
        torch.testing.assert_close(own_losses, losses, rtol=1e-10, atol=0)
        assert own_state.keys() == state.keys()
        for name, expected in state.items():
            torch.testing.assert_close(
                own_state[name], expected, rtol=1e-10, atol=1e-10
            )


def test_a_mean_over_processes_leaves_each_value_as_it_was(found):
    for rank in (0, 1):
        assert found[2][rank]["mean"].tolist() == [1.5, 15.0]
        value = [1.0 + rank, 10.0 + 10 * rank]
        assert found[2][rank]["value"].tolist() == value


@pytest.mark.parametrize("n_processes", [1, 2])
def test_arrays_are_made_once_and_mapped_by_all(found, n_processes):
    """Each process of a machine decoded hours of sounds for itself."""
    for each in found[n_processes]:
        shared = each["shared"]
        assert shared["arrays"] == shared["alone"] == [[0, 1, 2, 3, 4], [0.5]]
        assert shared["mapped"] == (2 if n_processes == 2 else 0)


def test_without_room_for_shared_arrays_each_process_makes_its_own(found):
    # First one for all, then one each.
    made = Path(found[2][0]["shared"]["log"]).read_text().split()
    assert len(made) == 3


@pytest.mark.parametrize(
    ("device", "kind"),
    [("cpu", SharedBatchNorm), ("cuda:1", torch.nn.SyncBatchNorm)],
)
def test_parameters_and_buffers_stay_the_same_objects(device, kind):
    net = network()
    before = [*net.parameters(), *net.buffers()]
    names = net.state_dict().keys()
    assert share_batch_norm(net, device) is net
    after = [*net.parameters(), *net.buffers()]
    assert len(after) == len(before) == 14
    assert all(a is b for a, b in zip(after, before, strict=True))
    assert net.state_dict().keys() == names
    assert type(net[1]) is type(net[5]) is kind


def test_without_a_process_group_it_equals_the_batch_norm_of_torch():
    net, batches = network(), batches_of_networks()
    shared = share_batch_norm(copy.deepcopy(net), "cpu")
    for found, expected in zip(
        trained(shared, batches), trained(net, batches), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.fixture
def group_of_one(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_half_precision_is_summed_in_float(group_of_one):
    batch = torch.randn(4096, 2).add_(30).bfloat16()
    norm = SharedBatchNorm(2)
    output = norm(batch)
    expected = torch.nn.BatchNorm1d(2)(batch.float())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=4e-3, atol=1e-6)


def test_a_single_value_for_a_channel_is_refused(group_of_one):
    with pytest.raises(ValueError, match="two values a channel"):
        SharedBatchNorm(2)(torch.zeros(1, 2))
