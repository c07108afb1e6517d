"""Two machines of the benchmark: started together, ended together."""

import sys

import pytest

from benchmarks import machines

# Waits for the other, as processes that compute together do.
PROGRAM = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[2].partition("=")[2].strip('"'))
(folder / "chunks").mkdir(parents=True, exist_ok=True)
(folder / "chunks" / f"{sys.argv[1]}.npz").touch()
while len(list(folder.glob("chunks/*.npz"))) < 2 or "forever" in sys.argv:
    time.sleep(0.02)
sys.exit(int(sys.argv[3]) if sys.argv[1] == "1" else 0)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start the program on two machines, without torchrun."""

    def words_of(n_machines, rank, port):
        assert n_machines == 2 and port > 0
        return [sys.executable, "-c", PROGRAM, str(rank)]

    monkeypatch.setattr(machines, "torchrun", words_of)

    def started(*words, kill=False):
        given = [f'--output_folder="{tmp_path}"', *words]
        return machines.start_everywhere(given, 2, kill)

    return started


@pytest.mark.parametrize("status", [0, 3])
def test_the_status_is_that_of_the_machine_that_failed(start, status):
    assert start(str(status)) == status


def test_a_machine_that_is_killed_ends_the_other(start):
    assert start("0", "forever", kill=True) == 9


def test_processes_are_shared_among_machines():
    words = machines.torchrun(2, 1, 29500)
    assert {"--nnodes=2", "--node_rank=1", "--nproc_per_node=1"} < set(words)
    assert "--nproc_per_node=2" in machines.torchrun(1, 0, 29500)
