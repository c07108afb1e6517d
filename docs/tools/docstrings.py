"""Extension of griffe, which reads docstrings for the API reference."""

from __future__ import annotations

import re
from typing import Any

import griffe

# Headings of our docstrings, SpeechBrain's, and those that griffe knows.
_HEADINGS = {"Arguments": "Parameters", "Example": "Examples"}


class Headings(griffe.Extension):
    """Read "Arguments" and "Example" as numpydoc's headings."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rename the headings of an object's docstring."""
        if obj.docstring is None:
            return
        for ours, theirs in _HEADINGS.items():
            obj.docstring.value = re.sub(
                rf"^{ours}\n-+$",
                f"{theirs}\n{'-' * len(theirs)}",
                obj.docstring.value,
                flags=re.M,
            )
