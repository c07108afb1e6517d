"""Results come in the order of the items, however they were made."""

import os

import pytest

from speechbrain_ext.utils.workers import in_parallel


def _square(number):
    return number * number


def _process(_):
    return os.getpid()


def _fail(number):
    raise ValueError(f"item {number}")


@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("n", [0, 1, 50])
def test_results_are_in_order(n, num_workers, threads):
    found = in_parallel(_square, range(n), num_workers, "", threads)
    assert found == [i * i for i in range(n)]


def test_work_runs_in_other_processes_unless_threads_are_asked_for():
    assert os.getpid() not in in_parallel(_process, range(4), 2, "")
    assert {os.getpid()} == set(in_parallel(_process, range(4), 2, "", True))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_in_a_worker_reaches_the_caller(num_workers):
    with pytest.raises(ValueError, match="item 3"):
        in_parallel(_fail, [3], num_workers, "")
