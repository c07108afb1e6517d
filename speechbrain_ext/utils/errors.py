"""The error that a user's input raises."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave breaks a rule: the message says value, rule, way out.

    Recipes print it without a traceback and exit with status 2.
    """
