"""Measurement of steps in turns, fresh processes, memory, the machine."""

from __future__ import annotations

import multiprocessing
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from speechbrain_ext.utils.provenance import versions

N_WARM_UP = 2


def in_turns(
    steps: dict[str, Callable[[], float]], n_repeats: int
) -> dict[str, list[float]]:
    """Time steps in turns, repeatedly."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(N_WARM_UP + n_repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            # The loss is read, so that the device has finished ...
            step()
            if torch.cuda.is_available():
                # ... except for work after the loss.
                torch.cuda.synchronize()
            if repeat >= N_WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process; return its result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def peak_mb() -> float:
    """Return the peak memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    line = next(li for li in status.splitlines() if li.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def commit(checkout: str) -> str:
    """Return the commit of a checkout of other authors' code."""
    command = ["git", "-C", checkout, "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True)
    return answer.stdout.strip() or "unknown"


def machine(device: str) -> dict[str, Any]:
    """Describe the machine and the versions of a measurement."""
    on_gpu = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else platform.machine()
    return {
        "device_name": name,
        "n_cores": os.cpu_count(),
        "n_threads": torch.get_num_threads(),
        "environment": {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("MALLOC_", "OMP_"))
        },
        "versions": versions(),
    }
