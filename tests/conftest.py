"""One thread for all tests: two workers on two cores, and same sums."""

import os

import torch

torch.set_num_threads(1)
# For the processes that tests start, however pytest itself was started.
os.environ["OMP_NUM_THREADS"] = "1"
