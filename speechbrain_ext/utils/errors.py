"""Errors that a command ends with in one line."""

from __future__ import annotations


class InputError(ValueError):
    """Error for input that breaks a rule; states value, rule and way out.

    Recipes print it without a traceback and exit with status 2.
    """


class StepError(RuntimeError):
    """Error of a driver whose step has failed.

    Arguments
    ---------
    text : str
        One line: what happened, and what to do.
    status : int
        Exit status of the step, which becomes the driver's; negative: the
        number of the signal that ended it.
    """

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status if status >= 0 else 128 - status
