"""One thread for all tests: two workers on two cores, and same sums."""

import torch

torch.set_num_threads(1)
