"""The held-out share: seeded, per speaker, never a whole speaker."""

import numpy as np
import pandas as pd
import pytest

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.splits import hold_out
from speechbrain_ext.utils.errors import InputError


def manifest(counts):
    speakers = np.repeat([f"s{i}" for i in range(len(counts))], counts)
    table = pd.DataFrame(
        {"ID": [f"u{i}" for i in range(len(speakers))], "spk_id": speakers}
    )
    # Rows of a speaker need not be neighbours.
    table = table.sample(frac=1, random_state=0).reset_index(drop=True)
    return Manifest(table, "pseudo_labels")


def test_the_two_parts_together_are_the_manifest():
    whole = manifest([5, 9, 1, 30])
    train, valid = hold_out(whole, 0.3, seed=1)
    assert set(train.ids) | set(valid.ids) == set(whole.ids)
    assert len(train) + len(valid) == len(whole)


def test_each_speaker_gives_its_share():
    _, valid = hold_out(manifest([10, 20, 100]), 0.1, seed=1)
    assert valid.table.spk_id.value_counts().to_dict() == {
        "s0": 1,
        "s1": 2,
        "s2": 10,
    }


def test_the_fraction_is_kept_over_many_small_speakers():
    _, valid = hold_out(manifest([5] * 2000), 0.02, seed=1)
    assert len(valid) == pytest.approx(200, rel=0.25)


@pytest.mark.parametrize("fraction", [0.5, 0.99])
def test_every_speaker_keeps_an_utterance(fraction):
    train, _ = hold_out(manifest([1, 2, 3, 50]), fraction, seed=1)
    assert set(train.spk_id) == {"s0", "s1", "s2", "s3"}


def test_zero_holds_nothing_out():
    whole = manifest([5, 9])
    train, valid = hold_out(whole, 0.0, seed=1)
    assert valid is None
    assert train.ids.tolist() == whole.ids.tolist()


def test_another_seed_holds_out_other_utterances():
    whole = manifest([50, 50])
    chosen = [set(hold_out(whole, 0.2, seed)[1].ids) for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(InputError, match="valid_fraction is"):
        hold_out(manifest([5, 9]), fraction, seed=1)
