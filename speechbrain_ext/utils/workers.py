"""One function over many items, on several threads or processes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import (
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from typing import Any

import torch
from speechbrain.utils.distributed import if_main_process
from tqdm import tqdm


def in_parallel(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    num_workers: int,
    title: str,
    threads: bool = False,
) -> list[Any]:
    """``[function(item) for item in items]`` on several workers.

    Arguments
    ---------
    function : callable
        A module's function, for it travels to other processes.
    items : sequence
        Its arguments.
    num_workers : int
        1 or less works in this process.
    title : str
        Name of the progress bar.
    threads : bool
        Threads instead of processes.

    Returns
    -------
    list
        Results in the order of ``items``, whatever the number of workers.

    Example
    -------
    >>> in_parallel(len, ["a", "bb"], 2, "lengths", threads=True)
    [1, 2]
    """
    # Chunks, for a million futures would weigh more than their results.
    size = min(max(len(items) // (8 * max(num_workers, 1)), 1), 256)
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    work = functools.partial(_each, function)
    results: list[Any] = []
    bar = tqdm(total=len(items), desc=title, disable=not if_main_process())
    with bar:
        if num_workers <= 1:
            for item in items:
                results.append(function(item))
                bar.update()
            return results
        with _pool(num_workers, threads) as pool:
            for part in pool.map(work, chunks):
                results += part
                bar.update(len(part))
    return results


def _pool(num_workers: int, threads: bool) -> Executor:
    if threads:
        return ThreadPoolExecutor(num_workers)
    # A forked worker must not wait for OpenMP threads of its parent.
    return ProcessPoolExecutor(
        num_workers, initializer=torch.set_num_threads, initargs=(1,)
    )


def _each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    return [function(item) for item in items]
