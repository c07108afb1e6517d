"""Options, rows and timing that the sections of ``benchmarks/gpu.py`` share."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
Row = dict[str, Any]
Items = Iterator[tuple[str, Callable[[], Row]]]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark, from its command line.

    Arguments
    ---------
    device : str
        ``cuda`` or ``cpu``.
    size : str
        ``full``, the paper's; ``small``, for a CPU; ``tiny``, for a test.
    sslsv, authors : str, optional
        Folders of their checkouts, to be timed beside.
    minivox : str, optional
        Folder of MiniVox.
    """

    device: str = "cpu"
    size: str = "small"
    sslsv: str | None = None
    authors: str | None = None
    minivox: str | None = None

    @property
    def on_gpu(self) -> bool:
        """True if the device is a GPU."""
        return torch.device(self.device).type == "cuda"

    def pick(self, full: Any, small: Any, tiny: Any) -> Any:
        """Return the value of the size."""
        return {"full": full, "small": small, "tiny": tiny}[self.size]


class NotMeasuredError(Exception):
    """Raised by an item that cannot be measured here, with the reason."""


def seconds_of(
    function: Callable[[], Any], options: Options, n_repeats: int = 3
) -> float:
    """Return the median seconds of a call, after one to warm up."""
    found = []
    for _ in range(n_repeats + 1):
        synchronise(options)
        start = time.perf_counter()
        function()
        synchronise(options)
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


def synchronise(options: Options) -> None:
    """Wait until the GPU has finished, if there is one."""
    if options.on_gpu:
        torch.cuda.synchronize()


def peak_gib(options: Options) -> float | None:
    """Return the most memory that was allocated on the GPU, in GiB."""
    if not options.on_gpu:
        return None
    return round(torch.cuda.max_memory_allocated() / 2**30, 3)


def forget_peak(options: Options) -> None:
    """Free what is cached, and count the peak of the memory anew."""
    if options.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
