"""Enrolled speakers: the nearest by cosine, or nobody."""

import numpy as np
import pytest

from speechbrain_ext.inference.decision import Decision
from speechbrain_ext.inference.enrolment import Enrolment
from speechbrain_ext.utils.errors import InputError

DECISION = Decision(10.0, -3.0, 0.5, "nothing")


@pytest.fixture
def enrolment():
    made = Enrolment(DECISION)
    # Lengths do not count: the mean is of unit embeddings.
    made.add("Ada", np.array([[9.0, 0.0, 0.0], [0.0, 0.1, 0.0]]))
    made.add("Bob", np.array([0.0, 0.0, 2.0]))
    return made


def test_a_voice_is_the_mean_of_its_embeddings_of_length_one(enrolment):
    found = enrolment.identify(np.array([5.0, 0.0, 0.0]))
    assert found.name == "Ada"
    assert found.score == pytest.approx(0.5**0.5, abs=1e-6)
    odds = 10 * 0.5**0.5 - 3
    wanted = 1 / (1 + np.exp(-odds))
    assert found.probability == pytest.approx(wanted, abs=1e-5)
    assert type(found.probability) is float  # printed as a number


def test_an_unknown_voice_is_nobodys_though_somebody_is_nearest(enrolment):
    found = enrolment.identify(np.array([-1.0, -1.0, 0.2]))
    assert found.name is None and found.nearest == "Bob"
    # At the threshold the same speaker is the likelier answer.
    at = np.array([0.0, -((1 - 0.31**2) ** 0.5), 0.31])
    assert enrolment.identify(at).name == "Bob"
    below = np.array([0.0, -((1 - 0.29**2) ** 0.5), 0.29])
    assert enrolment.identify(below).name is None


def test_a_name_enrolled_again_is_replaced(enrolment):
    enrolment.add("Bob", np.array([0.0, -1.0, 0.0]))
    assert enrolment.identify(np.array([0.0, -1.0, 0.0])).name == "Bob"
    assert len(enrolment.voices) == 2


def test_wrong_input_is_one_clear_error(enrolment):
    with pytest.raises(InputError, match="nobody is enrolled"):
        Enrolment(DECISION).identify(np.ones(3))
    with pytest.raises(InputError, match="have 2 values .* before 3"):
        enrolment.add("Eve", np.ones(2))
    with pytest.raises(InputError, match="has 2 values .* enrolled 3"):
        enrolment.identify(np.ones(2))
    for name in ("", " ", None):
        with pytest.raises(InputError, match="give the speaker a name"):
            enrolment.add(name, np.ones(3))
    with pytest.raises(InputError):
        enrolment.add("Eve", np.zeros(3))
