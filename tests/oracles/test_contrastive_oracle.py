"""Contrastive losses against their equations, in loops over rows and pairs.

In one process, and in two that each have a part of the batch.
"""

import math

import pytest
import torch

from speechbrain_ext.losses.contrastive import MoCoLoss, NTXentLoss
from speechbrain_ext.training.contrastive_diagnostics import (
    ContrastiveDiagnostics,
)
from speechbrain_ext.training.contrastive_diagnostics import (
    alignment as found_alignment,
)
from speechbrain_ext.training.contrastive_diagnostics import (
    uniformity as found_uniformity,
)

FORMS = [(0.0, "additive"), (0.1, "additive"), (0.2, "angular")]
TEMPERATURES = [0.03, 0.5]
N_UTTERANCES, SIZE, N_KEYS = 6, 5, 9


def inputs(seed=0, n_views=2, n_utterances=N_UTTERANCES):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        n_views, n_utterances, SIZE, generator=generator, dtype=torch.double
    )


def unit(x):
    length = math.sqrt(sum(float(value.detach()) ** 2 for value in x))
    assert length > 0
    return x / x.square().sum().sqrt()


def cosine(x, y):
    return (unit(x) * unit(y)).sum()


def with_margin(positive, margin, form):
    if form == "additive":
        return positive - margin
    angle = torch.acos(positive)
    if angle > math.pi - margin:
        return positive - margin * math.sin(margin)
    return torch.cos(angle + margin)


def term(positive, negatives, temperature, margin, form):
    """-log of the positive's share, one exponential at a time."""
    own = with_margin(positive, margin, form) / temperature
    others = [negative / temperature for negative in negatives]
    highest = max(float(x.detach()) for x in [own, *others])
    total = torch.exp(own - highest)
    for other in others:
        total = total + torch.exp(other - highest)
    return torch.log(total) + highest - own


def naive_simclr(views, temperature, margin, form):
    """Chen et al. 2020, Eq. 1 over all rows of both views."""
    rows = [(v, b) for v in (0, 1) for b in range(views.shape[1])]
    total = 0.0
    for view, b in rows:
        own = views[view, b]
        positive = cosine(own, views[1 - view, b])
        negatives = [cosine(own, views[v, k]) for v, k in rows if k != b]
        total = total + term(positive, negatives, temperature, margin, form)
    return total / len(rows)


def naive_moco(queries, keys, queues, temperature, margin, form):
    """He et al. 2020, Eq. 1, each view's queries in turn."""
    total = 0.0
    for view in (0, 1):
        for b in range(queries.shape[1]):
            positive = cosine(queries[view, b], keys[1 - view, b])
            negatives = [
                (unit(queries[view, b]) * key).sum() for key in queues[1 - view]
            ]
            total = total + term(positive, negatives, temperature, margin, form)
    return total / (2 * queries.shape[1])


def gradient_of(value, x):
    return torch.autograd.grad(value, x)[0]


def check(found, expected, gradient, expected_gradient, temperature):
    """In float32, whose cosines have an error that a temperature divides."""
    assert float(found) == pytest.approx(float(expected), rel=1e-5, abs=2e-6)
    torch.testing.assert_close(
        gradient.double(), expected_gradient, rtol=1e-4, atol=1e-6 / temperature
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("margin", "form"), FORMS)
def test_nt_xent_and_its_gradient(temperature, margin, form):
    exact = inputs().requires_grad_()
    expected = naive_simclr(exact, temperature, margin, form)
    views = exact.detach().float().requires_grad_()
    found = NTXentLoss(temperature, margin, form)(*views)
    check(
        found.detach(),
        expected.detach(),
        gradient_of(found, views),
        gradient_of(expected, exact),
        temperature,
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("margin", "form"), FORMS)
def test_moco_and_its_gradient(temperature, margin, form):
    exact, keys = inputs().requires_grad_(), inputs(1)
    loss = MoCoLoss(SIZE, N_KEYS, temperature, margin, form)
    queues = [queue.keys.double() for queue in (loss.first, loss.second)]
    expected = naive_moco(exact, keys, queues, temperature, margin, form)
    queries = exact.detach().float().requires_grad_()
    momentum = keys.float().requires_grad_()
    found = loss(queries, momentum)
    check(
        found.detach(),
        expected.detach(),
        gradient_of(found, queries),
        gradient_of(expected, exact),
        temperature,
    )
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        gradient_of(loss(queries, momentum), momentum)


def naive_push(queue, place, keys):
    """One key after the other, the oldest overwritten."""
    for key in keys:
        queue[place] = unit(key)
        place = (place + 1) % len(queue)
    return place


def test_the_queues_hold_the_last_keys_of_each_view():
    loss = MoCoLoss(SIZE, N_KEYS)
    expected = [
        [k.double() for k in queue.keys] for queue in (loss.first, loss.second)
    ]
    place = [0, 0]
    for step in range(4):
        keys = inputs(step + 5, n_utterances=4)
        loss.push(keys.float())
        for view in (0, 1):
            place[view] = naive_push(expected[view], place[view], keys[view])
            found = (loss.first, loss.second)[view]
            assert int(found.place) == place[view]
            torch.testing.assert_close(
                found.keys.double(),
                torch.stack(expected[view]),
                atol=1e-6,
                rtol=0,
            )


def naive_uniformity(rows):
    kernels = [
        math.exp(-2 * float((unit(x) - unit(y)).square().sum()))
        for i, x in enumerate(rows)
        for j, y in enumerate(rows)
        if i != j
    ]
    return math.log(sum(kernels) / len(kernels))


def test_alignment_and_uniformity():
    first, second = inputs(3)
    distances = [
        float((unit(x) - unit(y)).square().sum())
        for x, y in zip(first, second, strict=True)
    ]
    assert float(found_alignment(first, second)) == pytest.approx(
        sum(distances) / len(distances), rel=1e-5
    )
    assert float(found_uniformity(first)) == pytest.approx(
        naive_uniformity(first), rel=1e-5
    )


def work(rank, n_processes, folder):
    """One of the processes: losses, gradients and queues of its part."""
    torch.set_num_threads(1)  # as conftest.py
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet{n_processes}",
        rank=rank,
        world_size=n_processes,
    )
    found = {}
    for margin, form in FORMS:
        # One weight, as DistributedDataParallel sees one.
        weight = torch.eye(SIZE).requires_grad_()
        views = inputs()[:, rank::n_processes].float() @ weight
        loss = NTXentLoss(0.1, margin, form)(*views)
        found["simclr", margin, form] = loss.detach(), gradient_of(loss, weight)
    torch.manual_seed(0)
    moco, gradients, losses = MoCoLoss(SIZE, 12, 0.1), [], []
    for step in range(4):
        weight = torch.eye(SIZE).requires_grad_()
        queries = inputs(step)[:, rank::n_processes].float() @ weight
        keys = inputs(step + 9)[:, rank::n_processes].float()
        loss = moco(queries, keys)
        losses.append(loss.detach())
        gradients.append(gradient_of(loss, weight))
        moco.push(keys)
    found["moco"] = torch.stack(losses), torch.stack(gradients)
    found["queues"] = [
        queue.keys[queue.keys[:, 0].argsort()]
        for queue in (moco.first, moco.second)
    ]
    health = ContrastiveDiagnostics(SIZE)
    first, second = inputs(4)[:, rank::n_processes]
    value = torch.tensor(1.0 + rank if n_processes == 2 else 1.5)
    health.update(value.double(), first, second)
    found["health"] = health.close()
    torch.save(found, folder / f"{n_processes}-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What each process found, by number of processes."""
    folder = tmp_path_factory.mktemp("processes")
    work(0, 1, folder)
    torch.multiprocessing.spawn(work, (2, folder), nprocs=2)
    return {
        n: [torch.load(folder / f"{n}-{rank}.pt") for rank in range(n)]
        for n in (1, 2)
    }


def mean_of(parts, key):
    """Of processes: what DistributedDataParallel makes of them."""
    values = zip(*(part[key] for part in parts), strict=True)
    return [torch.stack(value).mean(0) for value in values]


@pytest.mark.parametrize(
    "key", [*(("simclr", *form) for form in FORMS), "moco"], ids=str
)
def test_two_processes_have_the_loss_and_the_gradient_of_one(processes, key):
    together, alone = mean_of(processes[2], key), processes[1][0][key]
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    # The parts themselves differ.
    first, second = (part[key][0] for part in processes[2])
    assert not torch.allclose(first, second, rtol=1e-3)


def test_two_processes_have_the_queues_and_the_statistics_of_one(processes):
    for part in processes[2]:
        for found, expected in zip(
            part["queues"], processes[1][0]["queues"], strict=True
        ):
            torch.testing.assert_close(found, expected)
        assert part["health"] == pytest.approx(
            processes[1][0]["health"], rel=1e-5
        )


def test_a_loss_in_half_precision_is_computed_in_single():
    views = inputs().float()
    loss, exact = NTXentLoss(), NTXentLoss()(*views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(*views)
    assert found.dtype == torch.float32
    assert float(found) == float(exact)
