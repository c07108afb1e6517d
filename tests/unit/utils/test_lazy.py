"""Names of a package that are imported when first used."""

import sys

import pytest

from speechbrain_ext.utils.lazy import lazy_exports


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules, one of which cannot be imported."""
    folder = tmp_path / "lazy_example"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "good.py").write_text("value = 3\n")
    (folder / "broken.py").write_text("raise OSError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("lazy_example", "lazy_example.good"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield "lazy_example"
    for name in ("lazy_example", "lazy_example.good"):
        sys.modules.pop(name, None)


def test_a_module_is_imported_when_its_name_is_first_asked_for(package):
    get, names, public = lazy_exports(
        package, {"good": "value", "broken": "other"}
    )
    assert names() == public == ["other", "value"]
    assert f"{package}.good" not in sys.modules
    assert get("value") == 3
    with pytest.raises(OSError):
        get("other")


def test_an_unknown_name_is_an_attribute_error(package):
    get, _, _ = lazy_exports(package, {"good": "value"})
    with pytest.raises(AttributeError, match="'lazy_example' has .* 'valeu'"):
        get("valeu")
