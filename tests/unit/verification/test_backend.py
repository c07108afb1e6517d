"""Names of back-ends."""

import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.backend import parse_backends


@pytest.mark.parametrize("names", ["as-norm+qmf", ["as-norm+qmf"]])
def test_one_name_is_parsed_like_a_list_of_one(names):
    (found,) = parse_backends(names)
    assert found == ("as-norm", "qmf")
    assert found.name == "as-norm+qmf"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("asnorm", "backends is 'asnorm'; each"),
        ("qmf", "backends is 'qmf'; each"),
        ("raw+platt", r"backends is 'raw\+platt'; each"),
        ("raw+", r"backends is 'raw\+'; each"),
        (["raw", "raw"], "named once"),
        ([], "backends is"),
        (None, "backends is None"),
    ],
)
def test_unknown_and_repeated_names_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        parse_backends(names)


def test_which_back_ends_need_a_cohort():
    need = {
        b.name: b.needs_cohort
        for b in parse_backends(
            ["raw", "raw+linear", "raw+qmf", "z-norm", "as-norm+linear"]
        )
    }
    assert need == {
        "raw": False,
        "raw+linear": False,
        "raw+qmf": True,
        "z-norm": True,
        "as-norm+linear": True,
    }
