"""SECURITY.md promises what a test holds."""

import ast
import re

import pytest
from house import ROOT

TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
PROMISED = TEXT.split("## Not promised")[0]
TESTS = sorted(set(re.findall(r"<!-- test: (\S+)::(\w+) -->", PROMISED)))


def test_every_promise_names_a_test():
    promises = re.split(r"^- ", PROMISED, flags=re.M)[1:]
    assert len(promises) > 10
    for promise in promises:
        assert "<!-- test: " in promise, promise


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_the_test_of_a_promise_exists(path, name):
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    assert name in names
