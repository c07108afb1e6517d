"""Lazy exports: a package's public names, each imported at first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def lazy_exports(
    package: str, modules: dict[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Build ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    PEP 562: a name is imported when it is first asked for, so that importing
    a package costs nothing of what is not used.

    Arguments
    ---------
    package : str
        The package's ``__name__``.
    modules : dict of str to str
        Modules, and the public names of each, separated by spaces. A module
        without a dot is one of the package.

    Returns
    -------
    tuple
        ``__getattr__``, ``__dir__`` and ``__all__``.

    Example
    -------
    >>> get, names, _ = lazy_exports("json", {"xml.sax.saxutils": "escape"})
    >>> get("escape")("a & b"), names()
    ('a &amp; b', ['escape'])
    """
    module_of = {
        name: module
        for module, names in modules.items()
        for name in names.split()
    }
    public = sorted(module_of)

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no name {name!r}")
        module = module_of[name]
        path = module if "." in module else f"{package}.{module}"
        return getattr(importlib.import_module(path), name)

    return get, lambda: public, public
