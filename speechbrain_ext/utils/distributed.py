"""Statistics and losses shared by the processes of one training.

Each process has a part of the batch. What a batch as a whole decides (the
statistics of BatchNorm, the loss that is reported) is computed over them all.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from speechbrain.utils.distributed import ddp_barrier
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase


class SharedBatchNorm(_NormBase):
    r"""BatchNorm over the batches of all processes, for CPUs.

    Ioffe and Szegedy, ICML 2015, Algorithm 1, with the mean and the variance
    of the joined batch,

    .. math:: \mu = \frac{1}{n} \sum_p \sum_i x_{pi}, \qquad
        \sigma^2 = \frac{1}{n} \sum_p \sum_i (x_{pi} - \mu)^2

    over the n values of a channel in all processes p, whose batches may
    differ in size. `torch.nn.SyncBatchNorm` needs GPUs, and torch's
    DistributedDataParallel refuses it, and what derives from it, on CPUs.
    Arguments are those of `torch.nn.BatchNorm1d`.

    Example
    -------
    >>> norm = SharedBatchNorm(3)
    >>> norm(torch.randn(8, 3, 5)).shape
    torch.Size([8, 3, 5])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise [B, C, ...]; in training, track the statistics."""
        if not self.training:
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=self.running_mean is None,
                eps=self.eps,
            )
        # Sums of low precision would lose small values in large ones.
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        local_count = x.new_tensor([x.numel() // x.shape[1]])
        sums = process_sum(torch.cat([x.sum(axes), local_count]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        if count < 2:
            raise ValueError("BatchNorm trains on two values a channel or more")
        x = x - mean.view(shape)
        # In two passes: squares of values far from zero would cancel.
        variance = process_sum(x.square().sum(axes)) / count
        self._track(mean, variance * count / (count - 1))
        x = x * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return x.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        running_mean, running_var = self.running_mean, self.running_var
        seen = self.num_batches_tracked
        if running_mean is None or running_var is None or seen is None:
            return
        seen.add_(1)
        momentum = 1 / int(seen) if self.momentum is None else self.momentum
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(variance.to(running_var.dtype), momentum)


def share_batch_norm(
    module: torch.nn.Module, device: torch.device | str
) -> torch.nn.Module:
    """Make each BatchNorm of a module share its statistics over processes.

    Parameters and buffers stay the same objects under the same names.

    Arguments
    ---------
    module : torch.nn.Module
        Changed in place. Not yet inside DistributedDataParallel.
    device : torch.device or str
        Where it trains: `SharedBatchNorm` on CPUs, torch's SyncBatchNorm
        elsewhere.

    Returns
    -------
    torch.nn.Module
        The module; another only if it is itself a BatchNorm.

    Example
    -------
    >>> net = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    >>> weight = net[0].weight
    >>> _ = share_batch_norm(net, "cpu")
    >>> type(net[0]).__name__, net[0].weight is weight
    ('SharedBatchNorm', True)
    """
    if torch.device(device).type != "cpu":
        return torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            # The same state with another forward, as torch's lazy modules.
            layer.__class__ = SharedBatchNorm  # type: ignore[assignment]
    return module


def process_sum(value: torch.Tensor) -> torch.Tensor:
    """Sum a value over all processes, with gradients.

    Arguments
    ---------
    value : torch.Tensor
        Of one shape in all processes.

    Returns
    -------
    torch.Tensor
        As ``value``, the same in each process.

    Example
    -------
    >>> process_sum(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    if torch.distributed.is_initialized():
        return all_reduce(value)
    return value


def process_mean(
    value: torch.Tensor, device: torch.device | str
) -> torch.Tensor:
    """Average a value over all processes.

    Arguments
    ---------
    value : torch.Tensor
        Of one shape in all processes.
    device : torch.device or str
        Where the processes meet: each its own GPU with nccl.

    Returns
    -------
    torch.Tensor
        As ``value``, the same in each process.

    Example
    -------
    >>> float(process_mean(torch.tensor(2.5), "cpu"))
    2.5
    """
    if not torch.distributed.is_initialized():
        return value
    return process_sum(value.to(device)) / n_processes()


@torch.no_grad()
def gathered(rows: torch.Tensor) -> torch.Tensor:
    """Gather the rows of all processes, in their order, without gradients.

    Arguments
    ---------
    rows : torch.Tensor
        [B, ...], of one shape in all processes.

    Returns
    -------
    torch.Tensor
        [P B, ...], the same in each process; in one alone, the rows.

    Example
    -------
    >>> gathered(torch.tensor([1, 2]))
    tensor([1, 2])
    """
    if n_processes() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(n_processes())]
    torch.distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def joined(rows: torch.Tensor) -> torch.Tensor:
    """Gather the rows of all processes, in their order, with gradients.

    A row's gradient is the sum of those from all processes, so that the mean
    over processes of their losses, which DistributedDataParallel's mean of
    gradients stands for, has the gradient it would have in one.

    Arguments
    ---------
    rows : torch.Tensor
        [B, ...], of one shape in all processes.

    Returns
    -------
    torch.Tensor
        [P B, ...], the same in each process; in one alone, the rows.

    Example
    -------
    >>> joined(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    if n_processes() == 1:
        return rows
    places = [torch.zeros_like(rows) for _ in range(n_processes())]
    places[torch.distributed.get_rank()] = rows
    # Sums with zeros are exact; their gradient is `process_sum`'s.
    return process_sum(torch.cat(places))


def n_processes() -> int:
    """Count the processes that train together; 1 outside a process group.

    Example
    -------
    >>> n_processes()
    1
    """
    if torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def from_first_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in the first process and share its result with all.

    Arguments
    ---------
    function : callable
        Called in the first process alone; its result is pickled.
    *args : Any
        Its arguments.

    Returns
    -------
    Any
        The result.

    Example
    -------
    >>> from_first_process(max, 2, 3)
    3
    """
    if n_processes() == 1:
        return function(*args)
    first = torch.distributed.get_rank() == 0
    box = [function(*args) if first else None]
    torch.distributed.broadcast_object_list(box)
    return box[0]


def gathered_objects(value: Any) -> list[Any]:
    """Gather a value of each process, in their order.

    Arguments
    ---------
    value : Any
        It is pickled; arrays of small size.

    Returns
    -------
    list
        The same in each process.

    Example
    -------
    >>> gathered_objects("a")
    ['a']
    """
    if n_processes() == 1:
        return [value]
    found: list[Any] = [None] * n_processes()
    torch.distributed.all_gather_object(found, value)
    return found


def once_a_machine(
    make: Callable[[], Sequence[np.ndarray]],
) -> list[np.ndarray]:
    """Make arrays in one process of each machine, which share them.

    The others map them from a file, of which nothing is left when all have:
    neither the work nor the memory is theirs. Where the system's folder for
    temporary files has no room, each process makes its own.

    Arguments
    ---------
    make : callable
        Returns the arrays. Each process must call this function with it.

    Returns
    -------
    list of numpy.ndarray
        What a process writes into them is its own.

    Example
    -------
    >>> once_a_machine(lambda: [np.arange(2)])
    [array([0, 1])]
    """
    if n_processes() == 1:
        return list(make())
    machine = (socket.gethostname(), _boot_id())
    leader = gathered_objects(machine).index(machine)
    own, shared, made = None, None, None
    try:
        if torch.distributed.get_rank() == leader:
            made = list(make())
            with contextlib.suppress(OSError):
                own = tempfile.mkdtemp(prefix="shared-")
                for number, array in enumerate(made):
                    np.save(f"{own}/{number:03d}.npy", array)
                shared = own
        shared = gathered_objects(shared)[leader]
        if shared is None:
            found = made if made is not None else list(make())
        else:
            names = sorted(Path(shared).glob("*.npy"))
            found = [np.load(name, mmap_mode="c") for name in names]
        ddp_barrier()  # all have mapped them
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
    return [np.asarray(array) for array in found]


def _boot_id() -> str:
    """Return what tells machines of one name apart, on Linux."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text() if path.exists() else ""


def own_rows(n_rows: int) -> slice:
    """Return the part of rows that is this process's, in the order of ranks.

    Arguments
    ---------
    n_rows : int
        Rows of all processes; parts differ by one row at most.

    Returns
    -------
    slice
        All rows outside a process group.

    Example
    -------
    >>> own_rows(5)
    slice(0, 5, None)
    """
    n, rank = n_processes(), 0
    if n > 1:
        rank = torch.distributed.get_rank()
    return slice(n_rows * rank // n, n_rows * (rank + 1) // n)


def gathered_rows(rows: np.ndarray) -> np.ndarray:
    """Join the rows of all processes, in the order of ranks.

    Arguments
    ---------
    rows : numpy.ndarray
        [N, ...], of any N.

    Returns
    -------
    numpy.ndarray
        The same in each process.

    Example
    -------
    >>> gathered_rows(np.array([3, 4]))
    array([3, 4])
    """
    parts = gathered_objects(rows)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
