"""RDINO's terms: what they punish, and the same over any processes."""

import pytest
import torch

from speechbrain_ext.losses.rdino import covariance_penalty, rdino_regularizer
from speechbrain_ext.models.heads import DINOHead
from speechbrain_ext.utils.errors import InputError

ROWS, SIZE = 8, 12


def test_the_covariance_of_wide_rows_is_computed_from_the_small_product():
    """2,000,000 x 2,000,000 covariances do not fit any memory."""
    x = torch.randn(2, 2_000_000)
    assert torch.isfinite(covariance_penalty(x))


def test_gradient_descent_decorrelates_dimensions():
    """Two pairs of equal dimensions of little variance."""
    generator = torch.Generator().manual_seed(0)
    once = 0.3 * torch.randn(ROWS, 2, generator=generator)
    noise = 1e-3 * torch.randn(ROWS, 4, generator=generator)
    x = (torch.cat([once, once], 1) + noise).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        rdino_regularizer(x[None]).backward()
        optimizer.step()
    covariance = x.detach().T.cov()
    assert covariance.diag().min() > 0.95
    assert covariance.fill_diagonal_(0).abs().max() < 0.1


def test_half_precision_is_computed_in_single():
    x = torch.randn(2, ROWS, SIZE).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = rdino_regularizer(x)
    assert value.dtype == torch.float32
    assert torch.equal(value, rdino_regularizer(x.float()))


def test_a_single_utterance_is_refused():
    with pytest.raises(InputError, match="raise --batch_size"):
        rdino_regularizer(torch.randn(2, 1, SIZE))


def test_the_regularizer_acts_on_the_heads_expansion():
    """Its gradient reaches the layers under the expansion, and those alone."""
    head = DINOHead(6, 16, 4, n_prototypes=10, expander_size=SIZE)
    expansion = head.expand(torch.randn(2 * ROWS, 6)).unflatten(0, (2, ROWS))
    rdino_regularizer(expansion).backward()
    reached = {n for n, p in head.named_parameters() if p.grad is not None}
    assert reached == {n for n, _ in head.mlp.named_parameters(prefix="mlp")}


def train_layer(rank, folder, n_processes):
    """Gradient of a layer through the terms of its share of the rows."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=n_processes,
    )
    value, gradient = value_and_gradient(rank, n_processes)
    # What DistributedDataParallel does with gradients.
    torch.distributed.all_reduce(gradient)
    torch.save((value, gradient / n_processes), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def value_and_gradient(rank, n_processes):
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, SIZE)
    rows = torch.randn(2, ROWS, 5).chunk(n_processes, dim=1)[rank]
    value = rdino_regularizer(layer(rows))
    value.backward()
    return value.detach(), layer.weight.grad


def test_two_processes_give_the_terms_of_one(tmp_path):
    torch.multiprocessing.spawn(train_layer, (str(tmp_path), 2), nprocs=2)
    value, gradient = value_and_gradient(0, 1)
    for rank in range(2):
        theirs = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(theirs, (value, gradient))
