"""Checks of the folders of sounds that augmentation reads.

They read headers alone and load no torch: settings and checks before a run use
them. A folder has ``noise``, ``music``, ``speech`` and ``rir``, or MUSAN and
RIRS_NOISES are given as their archives unpack. MUSAN (Snyder, Chen and Povey,
arXiv 1510.08484) has ``music``, ``noise`` and ``speech``. Of RIRS_NOISES (Ko et
al., ICASSP 2017) only ``simulated_rirs``, the responses of small, medium and
large rooms, is used: ``pointsource_noises`` has no responses, and
``real_rirs_isotropic_noises`` mixes noises with responses, some of several
channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike

# For a file that cannot be used.
WAY_OUT = (
    "delete it or unpack its archive again: all files of the folders of "
    "augmentation must be audio"
)
_MOST_HEADERS = 2_000  # a folder
_AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
SIMULATED = "simulated_rirs"
_ROOMS = ("smallroom", "mediumroom", "largeroom")
# By key: the archive's name, the folder to look in, and what must be there.
_LAYOUTS = {
    "musan": ("musan", "", ("music", "noise", "speech")),
    "rirs": ("RIRS_NOISES", SIMULATED, _ROOMS),
}


def check_sounds(folder: PathLike, rir_folder: PathLike | None = None) -> None:
    """Raise InputError for a folder without recordings, or with a bad file.

    Headers alone are read, of some thousand files a folder: what they do not
    show is found by `speechbrain_ext.augment.sound_bank.read_folder`.

    Arguments
    ---------
    folder : str or os.PathLike
        Holds ``noise``, ``music``, ``speech`` and, without ``rir_folder``,
        ``rir``.
    rir_folder : str or os.PathLike, optional
        Folder of the impulse responses.

    Raises
    ------
    InputError
        Naming the first such folder or file.

    Example
    -------
    >>> check_sounds("nowhere")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: nowhere/noise holds no ...
    """
    # Settings import this module, and must load no NumPy.
    from speechbrain_ext.dataio.audio_stream import header_problem

    folders = [Path(folder) / kind for kind in ("noise", "music", "speech")]
    # numpy and soundfile: settings import this module, and help does both
    # without.

    for each in (*folders, Path(rir_folder or Path(folder) / "rir")):
        paths = sorted(recordings(each))
        if not paths:
            raise no_recording(each)
        # Evenly spread: RIRS_NOISES has 60,000 responses.
        for path in paths[:: -(-len(paths) // _MOST_HEADERS)]:
            reason = header_problem(path)
            if reason:
                raise InputError(f"{path}: {reason}; {WAY_OUT}")


def recordings(folder: PathLike) -> Iterator[Path]:
    """Yield the paths of the audio files below a folder, in any order.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "a.WAV").touch()
    >>> [path.name for path in recordings(folder)]
    ['a.WAV']
    """
    paths = Path(folder).rglob("*")
    return (path for path in paths if path.suffix.lower() in _AUDIO)


def no_recording(folder: PathLike) -> InputError:
    """Return the error for a folder of sounds without a recording.

    Example
    -------
    >>> raise no_recording("sounds/rir")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: sounds/rir holds no recording ...
    """
    return InputError(
        f"{folder} holds no recording with sound; augmentation needs "
        "folders noise, music, speech and rir (or rir_folder); correct "
        "--augment_folder (or --musan and --rirs), or train without by "
        "--augment_folder=null"
    )


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
