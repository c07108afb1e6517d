"""Back-ends by name: score normalisation, then calibration.

A back-end is named ``raw``, or by a normalisation (``z-norm``, ``t-norm``,
``s-norm``, ``as-norm``), and may end in ``+linear`` (calibrated) or ``+qmf``
(calibrated with quality measures): ``as-norm+qmf``.
"""

from __future__ import annotations

from typing import NamedTuple

from speechbrain_ext.utils.errors import InputError

RAW = "raw"
# Whether a normalisation uses the cohort scores of the enrolment side, and
# those of the test side.
SIDES = {
    "z-norm": (True, False),
    "t-norm": (False, True),
    "s-norm": (True, True),
    "as-norm": (True, True),
}
_CALIBRATIONS = ("linear", "qmf")


class Backend(NamedTuple):
    """Normalisation and calibration of a cosine score.

    ``norm`` is ``raw`` or a key of `SIDES`; ``calibration`` is None,
    ``linear`` or ``qmf``.
    """

    norm: str
    calibration: str | None

    @property
    def name(self) -> str:
        """Name as a user types it, such as ``as-norm+qmf``."""
        return "+".join(filter(None, self))

    @property
    def needs_cohort(self) -> bool:
        """Whether the back-end compares scores with those of a cohort."""
        return self.norm != RAW or self.calibration == "qmf"


def parse_backends(
    names: str | list[str], key: str = "backends"
) -> list[Backend]:
    """Parse the names of one or more back-ends.

    Arguments
    ---------
    names : str or list of str
        One name, or several, each once.
    key : str
        The setting that holds them, for errors.

    Returns
    -------
    list of Backend
        In the order of the names.

    Raises
    ------
    InputError
        A name is unknown or repeated, or there is none.

    Example
    -------
    >>> parse_backends(["raw", "as-norm+qmf"])
    [Backend(norm='raw', calibration=None),
     Backend(norm='as-norm', calibration='qmf')]
    """
    given = [names] if isinstance(names, str) else names
    if not isinstance(given, list) or not given:
        raise _unfit(key, names, "it must be a name or a list of names")
    found = []
    for name in given:
        norm, plus, calibration = str(name).partition("+")
        known = norm in (RAW, *SIDES)
        if not known or (plus and calibration not in _CALIBRATIONS):
            raise _unfit(
                key,
                names,
                f"each must be one of {', '.join((RAW, *SIDES))}, alone or "
                f"followed by {' or '.join('+' + c for c in _CALIBRATIONS)}",
            )
        found.append(Backend(norm, calibration or None))
    if len(set(found)) < len(found):
        raise _unfit(key, names, "each must be named once")
    return found


def _unfit(key: str, names: object, rule: str) -> InputError:
    return InputError(
        f"{key} is {names!r}; {rule}; correct --{key}, for example "
        f"--{key}=as-norm+qmf"
    )
