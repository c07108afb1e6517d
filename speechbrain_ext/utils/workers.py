"""Function calls over many items, in threads, processes and on machines."""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm.contrib.concurrent import process_map, thread_map

from speechbrain_ext.utils.distributed import gathered_objects, own_rows
from speechbrain_ext.utils.signals import end_with_parent
from speechbrain_ext.utils.terminal import bars_are_shown, progress_bar


def in_parallel(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    num_workers: int,
    title: str,
    threads: bool = False,
) -> list[Any]:
    """Call a function on each item, on several workers, with a progress bar.

    Processes of a process group, on one machine or several, share the items:
    each must call it with all of them.

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
        Results in the order of ``items``, whatever the number of workers and
        of processes.

    Example
    -------
    >>> in_parallel(len, ["a", "bb"], 2, "lengths", threads=True)
    [1, 2]
    """
    own = _on_workers(
        function, items[own_rows(len(items))], num_workers, title, threads
    )
    return [result for part in gathered_objects(own) for result in part]


def _on_workers(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    num_workers: int,
    title: str,
    threads: bool,
) -> list[Any]:
    if num_workers <= 1:
        return [function(item) for item in progress_bar(items, desc=title)]
    # Chunks, for a million futures would weigh more than their results.
    size = min(max(len(items) // (8 * num_workers), 1), 256)
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    # Not joblib, whose processes start Python anew (3 s against 0.1) and
    # whose threads take 8 times as long for 100,000 headers.
    start = thread_map if threads else process_map
    work = functools.partial(_each, function, threads)
    shown = {
        "desc": title,
        "unit": "chunk",
        "disable": not bars_are_shown(),
        "max_workers": num_workers,
        "chunksize": 1,
    }
    return [result for part in start(work, chunks, **shown) for result in part]


def _each(
    function: Callable[[Any], Any], threads: bool, items: Sequence[Any]
) -> list[Any]:
    if not threads:
        parent = multiprocessing.parent_process()
        if parent is not None and parent.pid is not None:
            end_with_parent(parent.pid, signal.SIGKILL)
        # A forked worker must not wait for its parent's OpenMP threads.
        torch.set_num_threads(1)
    return [function(item) for item in items]
