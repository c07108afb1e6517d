"""Folders of MUSAN and of RIRS_NOISES, as their archives unpack.

MUSAN (Snyder, Chen and Povey, arXiv 1510.08484) has ``music``, ``noise`` and
``speech``. Of RIRS_NOISES (Ko et al., ICASSP 2017) only ``simulated_rirs``, the
responses of small, medium and large rooms, is used: ``pointsource_noises`` has
no responses, and ``real_rirs_isotropic_noises`` mixes noises with responses,
some of several channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike

SIMULATED = "simulated_rirs"
_ROOMS = ("smallroom", "mediumroom", "largeroom")
# By key: the archive's name, the folder to look in, and what must be there.
_LAYOUTS = {
    "musan": ("musan", "", ("music", "noise", "speech")),
    "rirs": ("RIRS_NOISES", SIMULATED, _ROOMS),
}


def impulse_responses(rirs: PathLike) -> Path:
    """Return the folder of the impulse responses of RIRS_NOISES.

    Arguments
    ---------
    rirs : str or os.PathLike
        ``RIRS_NOISES`` as it unpacks.

    Example
    -------
    >>> impulse_responses("RIRS_NOISES").as_posix()
    'RIRS_NOISES/simulated_rirs'
    """
    return Path(rirs) / SIMULATED


def check_downloads(musan: PathLike, rirs: PathLike) -> None:
    """Raise InputError if a folder is not MUSAN, or not RIRS_NOISES.

    Arguments
    ---------
    musan, rirs : str or os.PathLike
        The folders, as they unpack.

    Raises
    ------
    InputError
        One line with the key, its value, the folders that must be there and,
        if they are next to it, the folder to give.

    Example
    -------
    >>> check_downloads("nowhere", "RIRS_NOISES")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: musan is nowhere; it must be ...
    """
    for key, folder in (("musan", musan), ("rirs", rirs)):
        name, inner, parts = _LAYOUTS[key]
        missing = _missing(Path(folder) / inner, parts)
        if missing:
            wanted = [str(Path(inner) / part) for part in parts]
            raise InputError(
                f"{key} is {folder}; it must be {name} as it unpacks, with "
                f"{', '.join(wanted)}, and has no "
                f"{Path(inner) / missing[0]}; {_way_out(key, Path(folder))}"
            )


def _missing(folder: Path, parts: Sequence[str]) -> list[str]:
    return [part for part in parts if not (folder / part).is_dir()]


def _way_out(key: str, folder: Path) -> str:
    """Return the advice to give the folder that was likely meant."""
    name, inner, parts = _LAYOUTS[key]
    for near in (folder / name, folder.parent, folder.parent / name):
        if not _missing(near / inner, parts):
            return f"give --{key}={near}"
    return f"correct --{key}"
