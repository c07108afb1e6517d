"""Messages of a run on the terminal: statistics, and time that is left."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

# Libraries whose information is for the log file, and warnings for both.
_OURS = ("speechbrain_ext", "__main__")
# Names of statistics that are not words.
_WORDS = {"lr": "learning rate", "eer": "EER in %", "l2": "L2 distance"}

_bars: ContextVar[bool] = ContextVar("bars", default=True)


def progress_bar(
    items: Iterable | None = None, *, shown: bool = True, **options: Any
) -> tqdm:
    """Return a progress bar, which the first process shows unless told not to.

    Arguments
    ---------
    items : iterable, optional
        What it goes through; None: it is updated by hand.
    shown : bool
        False hides it, as `hide_progress_bars` does.
    **options : Any
        Of `tqdm.tqdm`.

    Example
    -------
    >>> [2 * number for number in progress_bar([1, 2], shown=False)]
    [2, 4]
    """
    # Not needed by those who want words alone.
    from tqdm import tqdm

    return tqdm(items, disable=not (shown and bars_are_shown()), **options)


def bars_are_shown() -> bool:
    """Return whether this process shows progress bars.

    Example
    -------
    >>> bars_are_shown()
    True
    """
    from speechbrain.utils.distributed import if_main_process

    return _bars.get() and if_main_process()


def bar_environment() -> dict[str, str]:
    """Return variables that tqdm reads when it is imported.

    A progress bar that no terminal shows, but a log file keeps, is written
    every ten seconds, in place of ten times a second.

    Example
    -------
    >>> bar_environment().keys() <= {"TQDM_MININTERVAL"}
    True
    """
    return {} if sys.stderr.isatty() else {"TQDM_MININTERVAL": "10"}


def hide_progress_bars(hidden: bool = True) -> None:
    """Hide the progress bars that this thread makes from now on, or show them.

    Example
    -------
    >>> hide_progress_bars()
    >>> progress_bar(total=3).disable
    True
    >>> hide_progress_bars(False)
    """
    _bars.set(not hidden)


class OwnMessages(logging.Filter):
    """Filter that passes information of this package, and all warnings.

    Example
    -------
    >>> shown = OwnMessages()
    >>> line = logging.LogRecord("a.b", logging.INFO, "", 0, "", (), None)
    >>> shown.filter(line)
    False
    >>> line.name = "speechbrain_ext.training.brain"
    >>> shown.filter(line)
    True
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a message is shown on the terminal."""
        ours = record.name.split(".")[0] in _OURS
        return ours or record.levelno >= logging.WARNING


class WithoutText(logging.Filter):
    """Filter that drops the messages that begin with a text.

    Arguments
    ---------
    text : str
        The beginning.

    Example
    -------
    >>> line = logging.LogRecord("a", logging.INFO, "", 0, "no b", (), None)
    >>> WithoutText("no b").filter(line), WithoutText("no c").filter(line)
    (False, True)
    """

    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a message is kept."""
        return not record.getMessage().startswith(self.text)


def console_logging(log: str) -> dict:
    """Return changes to SpeechBrain's logging: all to a file, ours shown.

    Arguments
    ---------
    log : str
        The file.
    """
    own = f"{__name__}.{OwnMessages.__name__}"
    return {
        "filters": {"own": {"()": own}},
        "formatters": {"console": {"format": "%(message)s"}},
        "handlers": {
            "file_handler": {"filename": log},
            "console": {"filters": ["own"]},
        },
    }


def statistics_in_words(statistics: Mapping[str, float]) -> str:
    """Return statistics in a line, their names as words.

    Arguments
    ---------
    statistics : mapping of str to float
        By name, as in curves and records.

    Example
    -------
    >>> statistics_in_words({"loss": 2.5, "effective_rank": 19.71, "lr": 0.1})
    'loss 2.5, effective rank 19.71, learning rate 0.1'
    >>> statistics_in_words({"n_clusters": 1300, "nmi": 0.9})
    '1,300 clusters, NMI 0.9'
    """
    return ", ".join(_in_words(name, v) for name, v in statistics.items())


def _in_words(name: str, value: float) -> str:
    words = name.replace("_", " ")
    if name.startswith("n_"):
        return f"{value:,g} {words[2:]}"
    if name in ("nmi", "ari"):
        words = name.upper()
    return f"{_WORDS.get(name, words)} {value:.4g}"


def progress_line(
    number: int,
    n_steps: int,
    words: str,
    gone: float,
    left: float | None,
    is_whole: bool = True,
) -> str:
    """Return where a run is, and how long it goes on, in a line.

    Arguments
    ---------
    number, n_steps : int
        The step that begins, counted from 1, and how many there are.
    words : str
        What it does.
    gone : float
        Seconds since the run was started.
    left : float, optional
        Seconds that what is left takes; None: not known.
    is_whole : bool
        Whether that is all that is left; False: only a part is known.

    Example
    -------
    >>> progress_line(7, 23, "round 1, training", 240, 540)
    'step 7 of 23, round 1, training; 4 min gone, about 9 min left'
    >>> progress_line(2, 9, "scoring", 240, 5400, is_whole=False)
    'step 2 of 9, scoring; 4 min gone, at least 1.5 h left'
    """
    line = f"step {number} of {n_steps}, {words}; {in_minutes(gone)} gone"
    if left is None:
        return line
    return (
        f"{line}, {'about' if is_whole else 'at least'} {in_minutes(left)} left"
    )


def in_minutes(seconds: float) -> str:
    """Return a time in the unit that one would say.

    Example
    -------
    >>> in_minutes(12), in_minutes(100), in_minutes(7000)
    ('12 s', '2 min', '1.9 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
