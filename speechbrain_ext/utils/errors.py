"""The error that a user's input raises."""

from __future__ import annotations


class InputError(ValueError):
    """Error for input that breaks a rule; states value, rule and way out.

    Recipes print it without a traceback and exit with status 2.
    """
