"""A disk of some kilobytes, where the system lets a test mount one."""

import contextlib
import shutil
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, kilobytes=64):
    """An empty disk at ``folder``; the test is skipped where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    size = f"size={kilobytes}k"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if shutil.which("mount") is None:
        pytest.skip("no mount here")
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
