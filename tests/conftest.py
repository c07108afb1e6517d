"""One thread for all tests: two workers on two cores, and same sums."""

import os
import signal
import sys

import pytest
import torch
from plug_in_package import write_package

from speechbrain_ext.utils.terminal import hide_progress_bars

torch.set_num_threads(1)
# For the processes that tests start, however pytest itself was started.
os.environ["OMP_NUM_THREADS"] = "1"
# A script starts what runs in its background with Ctrl-C ignored, nohup with
# SIGHUP. Tests, and the processes that they start, have both as in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _bars_as_at_the_start():
    """A recipe that a test stops with --noprogressbar hides no later bars."""
    hide_progress_bars(False)


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Installs a package of this name that offers a network, for the test."""
    names = []

    def install(name, **options):
        names.append(name)
        folder = tmp_path / "site-packages"
        write_package(folder, name, **options)
        monkeypatch.syspath_prepend(str(folder))

    yield install
    for name in names:
        sys.modules.pop(name, None)
