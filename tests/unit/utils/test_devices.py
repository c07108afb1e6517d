"""A device is one that this machine can compute on."""

import platform
import subprocess
import sys

import pytest
import torch

from speechbrain_ext.utils.devices import checked_device
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
    done = subprocess.run(
        [sys.executable, "-c", FREED_AND_ALLOCATED],
        capture_output=True,
        text=True,
        check=True,
    )
    plain, kept = map(int, done.stdout.split())
    assert kept < plain / 4, (plain, kept)
