"""What would be uploaded, and ids that are none; see recipes/test_push."""

import pytest

from speechbrain_ext.inference.hub_upload import (
    check_id,
    describe_upload,
    upload,
)
from speechbrain_ext.utils.errors import InputError


@pytest.mark.parametrize("name", ["me/model-1.0", "An_org/model_2"])
def test_names_of_repositories_are_accepted(name):
    check_id(name)


@pytest.mark.parametrize(
    "name", ["", "model_2", "a/b/c", "me/ x", "../x y", None, 3]
)
def test_other_names_of_repositories_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="push is"):
        check_id(name)
    with pytest.raises(InputError, match="push is"):
        upload(tmp_path, [], name)


@pytest.mark.parametrize("private", [True, False])
def test_a_dry_run_lists_every_file_and_its_size(tmp_path, private):
    (tmp_path / "a.bin").write_bytes(bytes(12345))
    (tmp_path / "b.txt").write_text("no")
    found = describe_upload(tmp_path, ["a.bin"], "me/m", private)
    assert "12,345 bytes  a.bin" in found
    assert "b.txt" not in found
    assert ("private" in found) == private
