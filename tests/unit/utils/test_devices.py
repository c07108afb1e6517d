"""A device is one that this machine can compute on."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from speechbrain_ext.utils.devices import (
    HostCopy,
    checked_device,
    keep_freed_memory,
    loader_options,
    moved_together,
)
from speechbrain_ext.utils.errors import InputError

FORM = r"device is '{}'; it must be one .*, and torch says: .+; give --device="


@pytest.mark.parametrize("device", ["nonsense", "meta", "", "cuda:x", "mkldnn"])
def test_no_device_is_refused_in_one_line(device):
    with pytest.raises(InputError, match=FORM.format(device)) as found:
        checked_device(device)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7", "mps"])
def test_a_device_that_is_not_here_is_refused(device, monkeypatch):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("it is here")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=FORM.format(device)):
        checked_device(device)


def test_a_gpu_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert checked_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="2 GPUs can be used here"):
        checked_device("cuda:2")


def test_the_cpu_is_always_there():
    assert checked_device("cpu").type == "cpu"
    assert isinstance(checked_device(), torch.device)


@pytest.mark.parametrize(
    ("device", "pinned"),
    [("cuda", True), (torch.device("cuda:1"), True), ("cpu", False)],
)
def test_batches_for_a_gpu_are_pinned(device, pinned):
    assert loader_options(device) == {"pin_memory": pinned}


DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


@pytest.mark.parametrize("device", DEVICES)
def test_arrays_of_any_type_and_shape_move_together(device):
    arrays = [
        np.arange(3),
        np.zeros((0, 2)),
        np.float32([[1, 2, 3]]),
        np.array([True, False, True]),
        np.linspace(0, 1, 12).reshape(2, 3, 2)[:, ::2],
    ]
    for array, there in zip(
        arrays, moved_together(arrays, device), strict=True
    ):
        assert there.device.type == device
        np.testing.assert_array_equal(there.cpu().numpy(), array)
        assert there.cpu().numpy().dtype == array.dtype


@pytest.mark.parametrize("device", DEVICES)
def test_a_copy_on_the_host_is_of_the_value_as_it_was(device):
    value = torch.tensor([3.0], device=device, requires_grad=True)
    copy = HostCopy(2 * value)
    with torch.no_grad():
        value += 1
    assert copy.read().device.type == "cpu"
    assert copy.read().tolist() == [6] and not copy.read().requires_grad


FREED_AND_ALLOCATED = """
import resource
import numpy as np
from speechbrain_ext.utils.devices import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2**23)  # 64 MB, above all that glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
plain = faults()
assert keep_freed_memory()
faults()
print(plain, faults())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="of glibc's allocator"
)
def test_memory_that_is_freed_is_not_got_back_page_by_page():
    """A million page faults took a quarter of the time of eight steps."""
    # What the environment says would win.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FREED_AND_ALLOCATED],
        env=kept,
        capture_output=True,
        text=True,
        check=True,
    )
    plain, kept = map(int, done.stdout.split())
    assert kept < plain / 4, (plain, kept)


def test_what_the_environment_says_of_memory_wins(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "100000")
    assert not keep_freed_memory()
