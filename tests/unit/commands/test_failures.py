"""The kind of a failure, whatever a library calls it."""

import errno
import os

import numpy as np
import pytest
import torch
from small_disk import small_disk

from speechbrain_ext.commands.failures import failure_of
from speechbrain_ext.utils.errors import InputError, StepError
from speechbrain_ext.utils.signals import Stopped

WORKER = """Caught OSError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "x.py", line 1, in y
OSError: [Errno 24] Too many open files: 'a.wav'
"""


def raised_by(function, *words, **options):
    with pytest.raises(BaseException) as found:
        function(*words, **options)
    return found.value


@pytest.mark.parametrize(
    ("error", "status", "reason", "first"),
    [
        (InputError("n is 0; more; correct --n"), 2, "n is 0; more", ""),
        (StepError("step a ended", 3), 3, "step a ended", ""),
        (StepError("step a ended", -9), 137, "step a ended", ""),
        (Stopped(15), 143, "stopped by SIGTERM", ""),
        (Stopped(1), 129, "stopped by SIGHUP", ""),
        (KeyboardInterrupt(), 130, "stopped by SIGINT", ""),
        (OSError(errno.ENOSPC, "full", "a.npy"), 3, "full: a.npy", "is room"),
        (OSError(errno.EROFS, "read-only", "a"), 3, "read-only: a", "allowed"),
        (OSError(errno.EMFILE, "many", "a"), 3, "many: a", "ulimit -n"),
        (OSError(WORKER), 3, "Too many open files: 'a.wav'", "ulimit -n"),
        (OSError(errno.ENOMEM, "no memory"), 4, "no memory", "more memory"),
        (MemoryError(), 4, "out of memory", "more memory"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried 20 MiB."),
            4,
            "CUDA out of memory",
            "more memory",
        ),
        (
            RuntimeError("worker (pid 5) is killed: out of shared memory"),
            4,
            "out of shared memory",
            "more memory",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 5) exited unexpectedly"),
            3,
            "exited unexpectedly",
            "mended",
        ),
        (RuntimeError("CUDA error: unspecified"), 3, "CUDA error", "mended"),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),
            3,
            "No space left on device",
            "is room",
        ),
        (
            RuntimeError("CUDA error: device-side assert triggered"),
            1,
            "internal error, RuntimeError: CUDA error",
            "mended",
        ),
        (KeyError("a"), 1, "internal error, KeyError: 'a'", "mended"),
    ],
)
def test_a_failure_has_the_status_of_its_kind(error, status, reason, first):
    found = failure_of(error)
    assert found.status == status
    assert reason in found.reason and "\n" not in found.reason
    assert first in found.first


@pytest.mark.parametrize("allocate", [torch.empty, np.ones])
def test_memory_that_is_not_there_is_of_its_kind_in_each_library(allocate):
    assert failure_of(raised_by(allocate, 10**15)).status == 4


def test_torchs_words_for_a_full_disk_are_understood(tmp_path):
    """SpeechBrain saves so: "unexpected pos 576 vs 534" says nothing."""
    with small_disk(tmp_path / "small") as folder:
        error = raised_by(torch.save, torch.rand(10**5), folder / "a.ckpt")
    assert not isinstance(error, OSError)
    assert failure_of(error).status == 3


def test_a_compiler_that_is_not_there_is_no_fault_of_the_program():
    """--compile without g++ was an internal error, to be reported."""
    from torch._dynamo.exc import BackendCompilerFailed

    inner = RuntimeError("InvalidCxxCompiler: No working C++ compiler")
    found = failure_of(BackendCompilerFailed("inductor", inner, None))
    assert found.status == 3
    assert found.reason.startswith("--compile: backend=")
    assert found.reason.endswith("No working C++ compiler")
    assert found.first.startswith("without --compile, or with a compiler")


def test_what_an_error_says_is_cut_to_a_line():
    found = failure_of(ValueError("a\nb " * 500))
    assert len(found.reason) < 400 and os.linesep not in found.reason
