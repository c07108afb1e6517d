"""Speakers of a list: from an oracle, from its IDs, or not at all."""

import numpy as np
import pandas as pd
import pytest

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.trials import parse_trials
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.trial_speakers import (
    recordings_of,
    sessions_of,
    speakers_of,
    units_of,
)

NAMED = "1 s1/r1/1 s1/r2/1\n0 s1/r1/1 s2/r1/1\n1 s2/r1/1 s2/r3/1\n"


def trials(text):
    return parse_trials("dev", "dev.txt", text.encode())


def oracle(**speakers):
    table = pd.DataFrame({"ID": speakers.keys(), "spk_id": speakers.values()})
    return Manifest(table.astype(object), "oracle")


@pytest.mark.parametrize("root", ["", "wav/", "a/b/"])
@pytest.mark.parametrize("flat", [False, True])
def test_ids_tell_the_speakers_where_all_labels_agree(root, flat):
    text = NAMED.replace("s1/", f"{root}s1/").replace("s2/", f"{root}s2/")
    if flat:
        for number in (1, 2, 3):
            text = text.replace(f"/r{number}/", f"/r{number}-")
    enrol, test = speakers_of(trials(text))
    assert enrol.tolist() == [f"{root}s1", f"{root}s1", f"{root}s2"]
    assert test.tolist() == [f"{root}s1", f"{root}s2", f"{root}s2"]
    assert units_of(trials(text)).name == "speakers"


@pytest.mark.parametrize(
    "line", ["1 s1/r1/1 s2/r1/1", "0 s1/r1/1 s1/r2/1", "1 a b", "0 a b"]
)
def test_ids_are_not_believed_if_one_label_disagrees(line):
    text = f"{NAMED}{line}\n"
    agrees = line == "0 a b"
    assert (speakers_of(trials(text)) is not None) == agrees
    assert (units_of(trials(text)).name == "speakers") == agrees


def test_utterances_are_drawn_where_speakers_are_not_known():
    units = units_of(trials("1 a b\n0 a c\n0 b c\n"))
    assert units.name == "utterances"
    assert units.count == 3
    assert units.enrol.tolist() == [0, 0, 1] and units.test.tolist() == [
        1,
        2,
        2,
    ]


def test_an_oracle_is_preferred_to_the_ids():
    known = {"s1/r1/1": "ann", "s1/r2/1": "ann", "s2/r1/1": "bob"}
    enrol, _ = speakers_of(trials(NAMED), oracle(**known, **{"s2/r3/1": "bob"}))
    assert enrol.tolist() == ["ann", "ann", "bob"]


def test_an_oracle_that_lacks_an_utterance_is_refused():
    with pytest.raises(InputError, match="line 2: 'c' has no speaker"):
        speakers_of(trials("1 a b\n0 a c\n"), oracle(a="x", b="x"))


def test_an_oracle_that_contradicts_a_label_is_refused():
    message = r"line 2: label 0, but .* x and x \(1 such"
    with pytest.raises(InputError, match=message):
        speakers_of(trials("1 a b\n0 a c\n"), oracle(a="x", b="x", c="x"))


def test_recordings_are_folders_below_speakers():
    ids = np.array(["s/r/1.wav", "s/r/2.wav", "w/s/q/1.wav"], dtype=object)
    assert recordings_of(ids).tolist() == ["s/r", "s/r", "w/s/q"]
    with pytest.raises(InputError, match="'s/1.wav' is not speaker/rec"):
        recordings_of(np.append(ids, "s/1.wav"))


def test_sessions_are_told_only_where_speakers_lie_above_them():
    enrol, test = sessions_of(trials(NAMED))
    assert enrol.tolist() == ["s1/r1", "s1/r1", "s2/r1"]
    assert test.tolist() == ["s1/r2", "s2/r1", "s2/r3"]
    # Here the folder of an utterance is its speaker.
    text = "1 wav/s1/1 wav/s1/2\n0 wav/s1/1 wav/s2/1\n"
    assert sessions_of(trials(text)) is None
    assert sessions_of(trials("1 s1/1 s1/2\n0 s1/1 s2/1\n")) is None
