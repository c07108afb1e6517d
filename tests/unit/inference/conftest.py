"""A small shared model, made once for the tests of inference."""

import shutil

import pytest
from shared_model import write_shared_model

from speechbrain_ext.inference.verifier import SpeakerVerifier


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """The folder of a small model, as it is shared; not to be changed."""
    return write_shared_model(tmp_path_factory.mktemp("published"))


@pytest.fixture
def model(published, tmp_path):
    """A copy, to be spoilt."""
    return shutil.copytree(published, tmp_path / "model")


@pytest.fixture(scope="session")
def verifier(published):
    return SpeakerVerifier.from_pretrained(published, "cpu")
