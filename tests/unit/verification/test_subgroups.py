"""Groups of trials: who is in them, and what is said of them."""

import numpy as np
import pytest

from speechbrain_ext.dataio.trials import parse_trials
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.bootstrap import single_trials
from speechbrain_ext.verification.metrics import equal_error_rate
from speechbrain_ext.verification.subgroups import (
    GroupRates,
    groups_of,
    measured,
    read_metadata,
)
from speechbrain_ext.verification.trial_speakers import speakers_of, units_of

TEXT = """1 s1/r1/1 s1/r1/2
1 s1/r1/1 s1/r2/1
0 s1/r1/1 s2/r3/1
0 s2/r3/1 s3/r4/1
1 s2/r3/1 s2/r5/1
"""


def trials(text=TEXT):
    return parse_trials("dev", "dev.txt", text.encode())


def rows(groups, by):
    return {
        group.value: np.flatnonzero(group.chosen).tolist()
        for group in groups
        if group.by == by
    }


def test_groups_by_session_come_from_the_ids():
    found = rows(groups_of(trials()), "session")
    assert found == {
        "different session": [1, 2, 3, 4],
        "same session": [0, 2, 3],
    }


def test_a_single_group_is_left_out():
    text = "\n".join(TEXT.splitlines()[1:])
    assert groups_of(trials(text)) == []


def test_durations_are_of_the_shorter_side():
    enrol = np.array([1.0, 9.0, 4.0, 5.0, 8.0])
    test = np.array([9.0, 3.9, 4.0, 9.0, 8.0])
    groups = groups_of(trials(), durations=(enrol, test), edges=[4, 8])
    found = rows(groups, "duration")
    # Groups without a non-target trial get them all.
    assert found == {
        "4 to 8 s": [2, 3],
        "8 s or more": [2, 3, 4],
        "below 4 s": [0, 1, 2, 3],
    }


@pytest.mark.parametrize("edges", [[8, 4], [4, 4], ["a"]])
def test_edges_that_do_not_rise_are_refused(edges):
    with pytest.raises(InputError, match="duration_edges is"):
        groups_of(trials(), edges=edges)


def test_columns_of_speakers_pair_both_sides(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_text("spk_id,gender\ns1,f\ns2,m\ns3,m\n")
    listed = trials()
    groups = groups_of(
        listed, speakers_of(listed), metadata=read_metadata(path)
    )
    found = rows(groups, "gender")
    assert found == {"f - f": [0, 1, 2, 3], "f - m": [2], "m - m": [3, 4]}


def test_columns_of_utterances_may_name_the_session(tmp_path):
    path = tmp_path / "meta.csv"
    lines = ["ID,session,noise", "s1/r1/1,x,low", "s1/r1/2,y,low"]
    lines += ["s1/r2/1,x,low", "s2/r3/1,z,high", "s3/r4/1,z,low"]
    path.write_text("\n".join([*lines, "s2/r5/1,q,high"]) + "\n")
    groups = groups_of(trials(), metadata=read_metadata(path))
    assert rows(groups, "session")["same session"] == [1, 3]
    assert rows(groups, "noise")["high - low"] == [2, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,gender\na,f\n", "needs ID or spk_id"),
        ("ID\na\n", "at least one more"),
        ("ID,x\na,1\nb,2\na,3\n", "row 4: ID 'a' is there twice"),
        ("", "is not a CSV"),
        ('ID,x\n"a,1\n', "is not a CSV"),
    ],
)
def test_metadata_that_cannot_be_used_are_refused(tmp_path, content, message):
    (tmp_path / "meta.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_metadata(tmp_path / "meta.csv")


def test_absent_metadata_are_named(tmp_path):
    with pytest.raises(InputError, match="meta.csv: no such metadata"):
        read_metadata(tmp_path / "meta.csv")


def test_metadata_must_know_everybody(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_text("spk_id,gender\ns1,f\ns2,m\n")
    listed = trials()
    with pytest.raises(InputError, match="line 4: spk_id 's3' is not in"):
        groups_of(listed, speakers_of(listed), metadata=read_metadata(path))
    with pytest.raises(InputError, match="give --oracle"):
        groups_of(listed, None, metadata=read_metadata(path))


def test_a_group_is_measured_by_itself_and_small_ones_only_counted():
    generator = np.random.default_rng(0)
    lines = []
    for number in range(60):
        label = number % 2
        speaker = number % 7
        other = speaker if label else (speaker + 1) % 7
        lines.append(f"{label} s{speaker}/a/{number} s{other}/b/{number}")
    listed = trials("\n".join(lines))
    scores = generator.normal(size=60) + listed.labels
    durations = np.where(np.arange(60) < 10, 1.0, 9.0)
    groups = groups_of(listed, durations=(durations, durations), edges=[4])
    units = units_of(listed)
    small, large = sorted(
        measured(groups, scores, listed.labels, units, n_bootstrap=40),
        key=lambda group: group.value != "below 4 s",
    )
    assert small == GroupRates("duration", "below 4 s", 5, 5)
    eer = 100 * equal_error_rate(scores[10:], listed.labels[10:])[0]
    assert large.eer.value == pytest.approx(eer)
    assert large.eer.low < eer < large.eer.high
    assert 0 < large.min_dcf <= 1
    assert measured([], scores, listed.labels, single_trials(60)) == []
