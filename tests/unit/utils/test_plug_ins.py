"""Entry points of installed packages: found without import, or one error."""

import sys

import pytest
import torch

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.plug_ins import load_plug_in, plug_ins


def test_a_class_is_found_by_its_dotted_name_and_not_imported(plug_in):
    assert "voice_net.Net" not in plug_ins()
    plug_in("voice_net")
    found = plug_ins()
    assert "voice_net.Other" not in found
    assert "voice_net" not in sys.modules
    kind = load_plug_in(found["voice_net.Net"], torch.nn.Module)
    assert kind(4, 2).linear.weight.shape == (2, 4)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("voice_net:None_such", "AttributeError"),
        ("no_such_module:Net", "ModuleNotFoundError"),
        ("os:system", "no torch.nn.modules.module.Module"),
        ("os", "no torch.nn.modules.module.Module"),
    ],
)
def test_what_is_no_class_to_build_is_one_line(plug_in, value, reason):
    plug_in("voice_net", value=value)
    point = plug_ins()[value.replace(":", ".")]
    with pytest.raises(InputError, match=f"of voice-net is .*{reason}") as told:
        load_plug_in(point, torch.nn.Module)
    assert len(str(told.value).splitlines()) == 1


def test_a_package_that_fails_when_it_is_imported_is_one_line(plug_in):
    plug_in("voice_net", text="raise RuntimeError('two\\nlines')")
    point = plug_ins()["voice_net.Net"]
    with pytest.raises(InputError, match="RuntimeError: two") as told:
        load_plug_in(point, torch.nn.Module)
    assert len(str(told.value).splitlines()) == 1
