"""Numbers of a recipe YAML that no training can use, refused by name."""

from __future__ import annotations

from typing import Any

from speechbrain_ext.utils.errors import InputError


def check_counts(settings: dict[str, Any], **least: int) -> None:
    """Refuse what is no whole number or less than it must be.

    Arguments
    ---------
    settings : dict
        A resolved YAML.
    **least : int
        The least allowed value of each key.

    Raises
    ------
    InputError
        With the key, its value and the least one.

    Example
    -------
    >>> check_counts({"n_epochs": 0}, n_epochs=1)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: n_epochs is 0; it must be a ...
    """
    for key, bound in least.items():
        value = settings[key]
        if not isinstance(value, int) or value < bound:
            raise InputError(
                f"{key} is {value}; it must be a whole number, {bound} or "
                f"more: correct --{key}"
            )


def check_positive(settings: dict[str, Any], *keys: str) -> None:
    """Refuse what is no number above 0.

    Arguments
    ---------
    settings : dict
        A resolved YAML.
    *keys : str
        Which of its values.

    Raises
    ------
    InputError
        With the key and its value.

    Example
    -------
    >>> check_positive({"clip": None}, "clip")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: clip is None; it must be a ...
    """
    for key in keys:
        value = settings[key]
        if not isinstance(value, (int, float)) or not value > 0:
            raise InputError(
                f"{key} is {value}; it must be a number above 0: correct "
                f"--{key}"
            )


def check_shares(settings: dict[str, Any], *keys: str) -> None:
    """Refuse what is no number from 0 to 1.

    Arguments
    ---------
    settings : dict
        A resolved YAML.
    *keys : str
        Which of its values.

    Raises
    ------
    InputError
        With the key and its value.

    Example
    -------
    >>> check_shares({"momentum": 9}, "momentum")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: momentum is 9; it must be a ...
    """
    for key in keys:
        value = settings[key]
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise InputError(
                f"{key} is {value}; it must be a number from 0 to 1: correct "
                f"--{key}"
            )
