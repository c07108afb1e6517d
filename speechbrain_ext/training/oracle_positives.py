"""Sampling of positives by TRUE speakers, as a diagnostic.

Miara, Lepage and Dehak, Interspeech 2024, compare positives of the same file
with positives of other files of the speaker. A model that is trained so has
seen labels: its stage record says so, and every result must.
"""

from __future__ import annotations

import numpy as np
import torch

from speechbrain_ext.training.positives import Positives
from speechbrain_ext.utils.groups import members, numbered, place_in_group
from speechbrain_ext.utils.keyed_random import step_seed


class OraclePositives(Positives):
    """Sampler of positives of the same true speaker, redrawn each epoch.

    Negatives stay what they are without labels: a batch that holds further
    utterances of the speaker pushes them away, often where speakers are few.

    Arguments
    ---------
    speakers : numpy.ndarray
        True speaker of each row of the training manifest [N].
    seed : int
        With the epoch, it decides the draws.

    Example
    -------
    >>> positives = OraclePositives(np.array(["a", "b", "a"]), seed=0)
    >>> positives.draw(None, epoch=1)
    >>> positives.rows
    tensor([2, 1, 0])
    """

    def __init__(self, speakers: np.ndarray, seed: int):
        super().__init__(len(speakers), seed)
        self.speakers = numbered(speakers)

    def _rows(
        self,
        embeddings: np.ndarray | None,
        epoch: int,
        device: str | torch.device,
    ) -> np.ndarray:
        uniform = np.random.default_rng(step_seed(self.seed, epoch))
        return draw_others(self.speakers, uniform.random(len(self.speakers)))


def draw_others(labels: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw another row of the same label for each row, itself if alone.

    Arguments
    ---------
    labels : numpy.ndarray
        From 0, each in use [N].
    uniform : numpy.ndarray
        Numbers in [0, 1) [N].

    Returns
    -------
    numpy.ndarray
        Rows [N].

    Example
    -------
    >>> draw_others(np.array([0, 0, 1, 0]), np.array([0.0, 0.6, 0.0, 0.0]))
    array([1, 0, 2, 0])
    """
    rows, starts, sizes = members(labels)
    own, size = place_in_group(labels), sizes[labels]
    further = (uniform * (size - 1)).astype(np.int64) + (size > 1)
    return rows[starts[labels] + (own + further) % size]
