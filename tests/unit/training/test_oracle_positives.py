"""Positives of the true speaker: another utterance, evenly, by the epoch."""

import numpy as np

from speechbrain_ext.training.oracle_positives import (
    OraclePositives,
    draw_others,
)

SPEAKERS = np.array(["b", "a", "c", "a", "b", "a", "b", "b"])


def test_a_positive_is_another_utterance_of_the_speaker():
    positives = OraclePositives(SPEAKERS, seed=3)
    for epoch in range(1, 30):
        positives.draw(None, epoch)
        rows = positives.rows.numpy()
        assert (SPEAKERS[rows] == SPEAKERS).all()
        alone = SPEAKERS == "c"
        assert (rows[alone] == np.flatnonzero(alone)).all()
        assert (rows != np.arange(8))[~alone].all()
        assert int(positives.epoch) == epoch


def test_all_other_utterances_are_equally_likely():
    labels = np.array([0, 1, 0, 0, 1, 0])
    uniform = (np.arange(300) + 0.5) / 300
    drawn = [draw_others(labels, np.full(6, u)) for u in uniform]
    found = np.stack(drawn)[:, 2]
    rows, counts = np.unique(found, return_counts=True)
    assert rows.tolist() == [0, 3, 5] and counts.tolist() == [100] * 3


def test_draws_are_a_function_of_seed_and_epoch():
    def rows(seed, epoch):
        positives = OraclePositives(np.repeat(["a", "b"], 20), seed)
        positives.draw(None, epoch)
        return positives.rows.tolist()

    assert rows(1, 2) == rows(1, 2)
    assert len({tuple(rows(s, e)) for s in (1, 2) for e in (1, 2)}) == 4
