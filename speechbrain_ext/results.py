"""Results: one frozen record a system and trial list, and their tables.

Numbers of ours reach a table only through a result file that a run wrote;
numbers of others come from ``yardsticks.json`` with their source and are
marked as cited.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from speechbrain_ext.files import (
    InputError,
    PathLike,
    read_json,
    write_json,
    write_text,
)
from speechbrain_ext.metrics import (
    bootstrap_intervals,
    equal_error_rate,
    min_dcf,
    normalised_dcf,
)
from speechbrain_ext.receipts import versions

YARDSTICKS = "yardsticks.json"
TABLE = "TABLE.md"
_RESULT, _YARDSTICKS = "result", "yardsticks"
_INTERVAL = (
    "95 % percentile bootstrap over trials, {n} replicates, each class "
    "keeping its size; speakers are not resampled, so it is too narrow"
)
_EMPTY = "–"


@dataclasses.dataclass(frozen=True)
class Result:
    """What one system scored on one trial list, and all that decides it.

    Arguments
    ---------
    system : str
        Row label: ``DINO``, ``round 1``, ``true labels``, ...
    corpus : str
        Corpus of the test utterances.
    trials : str
        Name of the trial list.
    run : str
        Name of the run: its rows share a table.
    trials_sha256 : str
        Of the list as read.
    n_target, n_nontarget : int
        Trials of each class.
    n_train : int or None
        Training utterances of the system.
    score_norm : str
        ``none``, or how the scores were normalised and with which cohort.
    eer_percent, eer_low, eer_high : float
        Equal error rate in % and the ends of its interval.
    p_target : float
        Prior of minDCF, with both costs 1.
    min_dcf, min_dcf_low, min_dcf_high : float
        Minimum detection cost, normalised: over that of rejecting or
        accepting everything (`speechbrain_ext.metrics.normalised_dcf`).
    interval : str
        What the intervals are.
    device : str
        Where the system was trained.
    seconds : float or None
        Time it took to make the system.
    caveat : str
        What a reader must know: toy data, random WavLM, ...
    seed : int
        Seed of the bootstrap.
    nmi, ari : float or None
        Agreement with the true speakers of the clusters that are reported
        with the system.
    n_clusters : int or None
        Number of those clusters.
    versions : dict
        Of Python and the packages that decide a result.

    Example
    -------
    >>> result = Result.of_scores(
    ...     [0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1], n_bootstrap=10,
    ...     system="DINO", corpus="toy", trials="dev", run="quickstart",
    ...     trials_sha256="0",
    ... )
    >>> result.eer_percent, round(result.min_dcf, 3), result.n_target
    (50.0, 0.5, 2)
    """

    system: str
    corpus: str
    trials: str
    run: str
    trials_sha256: str
    n_target: int
    n_nontarget: int
    eer_percent: float
    eer_low: float
    eer_high: float
    p_target: float
    min_dcf: float
    min_dcf_low: float
    min_dcf_high: float
    interval: str
    score_norm: str = "none"
    n_train: int | None = None
    device: str = ""
    seconds: float | None = None
    caveat: str = ""
    seed: int = 0
    nmi: float | None = None
    ari: float | None = None
    n_clusters: int | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    @classmethod
    def of_scores(
        cls,
        scores: ArrayLike,
        labels: ArrayLike,
        p_target: float = 0.01,
        n_bootstrap: int = 1000,
        seed: int = 0,
        **facts: Any,
    ) -> Result:
        """Measure scores [N] against labels [N] and keep the facts."""
        eer, _ = equal_error_rate(scores, labels)
        cost, _ = min_dcf(scores, labels, p_target)
        eer_ends, cost_ends = bootstrap_intervals(
            scores, labels, p_target, n_replicates=n_bootstrap, seed=seed
        )
        n_trials = len(np.asarray(labels))
        n_target = int(np.count_nonzero(labels))
        return cls(
            n_target=n_target,
            n_nontarget=n_trials - n_target,
            eer_percent=100 * eer,
            eer_low=100 * eer_ends[0],
            eer_high=100 * eer_ends[1],
            p_target=p_target,
            min_dcf=normalised_dcf(cost, p_target),
            min_dcf_low=normalised_dcf(cost_ends[0], p_target),
            min_dcf_high=normalised_dcf(cost_ends[1], p_target),
            interval=_INTERVAL.format(n=n_bootstrap),
            seed=seed,
            **facts,
        )

    def write(self, path: PathLike) -> None:
        """Write it as JSON, atomically."""
        write_json(path, {"kind": _RESULT, **dataclasses.asdict(self)})


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """A published number to stand beside ours.

    Arguments
    ---------
    system, corpus, trials : str
        As in `Result`.
    eer_percent : float
        Equal error rate in %.
    source : str
        Where it was published.
    min_dcf : float, optional
        Normalised, at p_target 0.01.
    """

    system: str
    corpus: str
    trials: str
    eer_percent: float
    source: str
    min_dcf: float | None = None


def read_result(path: PathLike) -> Result:
    """One result file.

    Raises
    ------
    InputError
        It is absent, not JSON or not a result.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.pop("kind", None) != _RESULT:
        raise InputError(
            f"{path} is not a result file; score_trials writes them as "
            "result_<list>.json"
        )
    return _record(Result, value, path)


def read_results(folder: PathLike) -> list[Result]:
    """The result files of a folder, by file name; other JSON is passed over.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> facts = dict(corpus="toy", trials="dev", run="a", trials_sha256="0")
    >>> for name in ("b", "a"):
    ...     result = Result.of_scores([0, 1], [0, 1], system=name, **facts)
    ...     result.write(folder / f"{name}.json")
    >>> [result.system for result in read_results(folder)]
    ['a', 'b']
    """
    paths = sorted(Path(folder).glob("*.json"))
    return [read_result(path) for path in paths if _kind(path) == _RESULT]


def read_yardsticks(path: PathLike) -> list[Yardstick]:
    """Published numbers, in file order."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("kind") != _YARDSTICKS:
        raise InputError(
            f"{path} is not a file of yardsticks; see results/{YARDSTICKS}"
        )
    return [_record(Yardstick, row, path) for row in value["rows"]]


def _kind(path: Path) -> str | None:
    value = read_json(path)
    return value.get("kind") if isinstance(value, dict) else None


def _record(kind: type, value: dict[str, Any], path: PathLike) -> Any:
    try:
        return kind(**value)
    except TypeError as error:
        raise InputError(
            f"{path} was written by another version ({error}); score the "
            "trials again"
        ) from None


def tables(
    results: Sequence[Result], yardsticks: Sequence[Yardstick] = ()
) -> dict[str, list[dict[str, str]]]:
    """Rows of text for a reader, one table a run and trial list.

    Arguments
    ---------
    results : sequence of Result
        In the order of the rows.
    yardsticks : sequence of Yardstick
        Cited rows; they come first, and only in tables that have results.

    Returns
    -------
    dict of str to list of dict of str to str
        Heading to rows; a column that no row fills is left out.

    Example
    -------
    >>> result = Result.of_scores(
    ...     [0, 1, 0, 1], [0, 1, 0, 1], system="DINO", corpus="toy",
    ...     trials="dev", run="quickstart", trials_sha256="0",
    ...     caveat="toy data",
    ... )
    >>> tables([result])
    {'quickstart: toy, dev (2 targets, 2 non-targets)':
        [{'system': 'DINO', 'EER %': '0.00 [0.00, 0.00]',
          'minDCF': '0.0000 [0.0000, 0.0000]', 'caveat': 'toy data'}]}
    """
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        key = (
            result.run,
            result.corpus,
            result.trials,
            result.n_target,
            result.n_nontarget,
        )
        groups.setdefault(key, []).append(result)
    found = {}
    for key, members in groups.items():
        run, corpus, trials, n_target, n_nontarget = key
        heading = (
            f"{run}: {corpus}, {trials} ({n_target:,} targets, "
            f"{n_nontarget:,} non-targets)"
        )
        rows = [
            _cited_row(yardstick)
            for yardstick in yardsticks
            if (yardstick.corpus, yardstick.trials) == (corpus, trials)
        ]
        rows += [_row(result) for result in members]
        found[heading] = _without_empty_columns(rows)
    return found


def _row(result: Result) -> dict[str, str]:
    eer = (result.eer_percent, result.eer_low, result.eer_high)
    cost = (result.min_dcf, result.min_dcf_low, result.min_dcf_high)
    prior = "" if result.p_target == 0.01 else f" (p={result.p_target:g})"
    return {
        "system": result.system,
        "EER %": "{:.2f} [{:.2f}, {:.2f}]".format(*eer),
        "minDCF": "{:.4f} [{:.4f}, {:.4f}]".format(*cost) + prior,
        "NMI": _number(result.nmi, ".3f"),
        "ARI": _number(result.ari, ".3f"),
        "clusters": _number(result.n_clusters, ",d"),
        "training utterances": _number(result.n_train, ",d"),
        "score norm": result.score_norm.replace("none", ""),
        "device": result.device,
        "seconds": _number(result.seconds, ",.0f"),
        "caveat": result.caveat,
    }


def _cited_row(yardstick: Yardstick) -> dict[str, str]:
    return {
        "system": f"{yardstick.system} (cited)",
        "EER %": f"{yardstick.eer_percent:.2f}",
        "minDCF": _number(yardstick.min_dcf, ".4f"),
        "caveat": yardstick.source,
    }


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _without_empty_columns(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    columns = [name for name in rows[-1] if any(row.get(name) for row in rows)]
    return [{name: row.get(name) or _EMPTY for name in columns} for row in rows]


def render_table(
    results: Sequence[Result], yardsticks: Sequence[Yardstick] = ()
) -> str:
    """The `tables` as Markdown.

    Example
    -------
    >>> result = Result.of_scores(
    ...     [0, 1, 0, 1], [0, 1, 0, 1], system="DINO", corpus="toy",
    ...     trials="dev", run="quickstart", trials_sha256="0",
    ... )
    >>> print(render_table([result]))
    ## quickstart: toy, dev (2 targets, 2 non-targets)
    <BLANKLINE>
    | system | EER % | minDCF |
    |---|---|---|
    | DINO | 0.00 [0.00, 0.00] | 0.0000 [0.0000, 0.0000] |
    <BLANKLINE>
    """
    parts = []
    for heading, rows in tables(results, yardsticks).items():
        lines = [f"## {heading}", "", _line(rows[0])]
        lines.append("|" + "---|" * len(rows[0]))
        lines += [_line(row.values()) for row in rows]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(cells: Iterable[str]) -> str:
    escaped = [
        " ".join(str(cell).replace("|", "\\|").split()) for cell in cells
    ]
    return "| " + " | ".join(escaped) + " |"


def write_table(folder: PathLike) -> None:
    """Render the results of a folder into its ``TABLE.md``.

    Arguments
    ---------
    folder : str or os.PathLike
        Holds result files and, perhaps, ``yardsticks.json``.

    Raises
    ------
    InputError
        There is no result file.
    """
    folder = Path(folder)
    results = read_results(folder)
    if not results:
        raise InputError(
            f"{folder} holds no result file; run score_trials first"
        )
    cited = folder / YARDSTICKS
    yardsticks = read_yardsticks(cited) if cited.exists() else []
    brackets = "; ".join(sorted({result.interval for result in results}))
    text = (
        "# Results\n\nWritten from the result files of this folder by "
        "`speechbrain_ext.results.write_table`; do not edit.\n\n"
        f"Square brackets: {brackets}. minDCF is normalised (1: a system "
        "that hears nothing), at p_target 0.01 unless said.\n\n"
    )
    write_text(folder / TABLE, text + render_table(results, yardsticks))
