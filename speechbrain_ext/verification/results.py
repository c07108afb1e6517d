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
from numpy.typing import ArrayLike, NDArray

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    PathLike,
    read_json,
    write_json,
    write_text,
)
from speechbrain_ext.utils.provenance import versions
from speechbrain_ext.verification.bootstrap import (
    Units,
    interval,
    interval_in_words,
    replicates,
    single_trials,
)
from speechbrain_ext.verification.cllr import cllr, min_cllr
from speechbrain_ext.verification.metrics import (
    EER_DEFINITION,
    HULL_DEFINITION,
    actual_dcf,
    convex_hull_eer,
    equal_error_rate,
    min_dcf,
    normalised_dcf,
)
from speechbrain_ext.verification.subgroups import Group, measured

YARDSTICKS = "yardsticks.json"
TABLE = "TABLE.md"
_RESULT, _YARDSTICKS = "result", "yardsticks"
# The prior of the second minimum cost, beside a result's own.
_SECOND_PRIOR = 0.05
_EMPTY = "–"
# Columns that are said once, above the table, where all its rows agree.
_IN_HEADING = ("protocol", "training utterances", "device")


# Facts of a stage record that a reader of a result must know, in words.
CAVEATS = {
    "synthetic": (
        "the voices are synthetic: nothing here says anything about real speech"
    ),
    "random_encoder": "encoder of random weights, not pre-trained",
    "true_labels": "true speaker labels were used in training",
    "oracle_positives": (
        "true speakers chose the positives: true labels were used in training"
    ),
}


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
        accepting everything (`metrics.normalised_dcf`).
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
    protocol : str
        What of an utterance was compared: ``full`` or ``crops`` and how.
    backend : str
        What was done to the scores: ``raw``, ``as-norm+qmf``, ...
    calibration : str
        ``none``, or on which trials it was learnt and what came out.
    eer_definition, eer_hull_definition : str
        What the two equal error rates are.
    eer_hull_percent : float or None
        The one on the convex hull of the ROC, in %.
    min_dcf_05, min_dcf_05_low, min_dcf_05_high : float or None
        As ``min_dcf``, at a prior of 0.05.
    actual_dcf, actual_dcf_05 : float or None
        Cost at Bayes' threshold, normalised, of calibrated scores.
    cllr : float or None
        Bits, of calibrated scores.
    min_cllr : float or None
        Bits, after the best calibration that keeps the order.
    n_units : int or None
        How many speakers, utterances or trials the bootstrap draws.
    breakdowns : list of dict
        Groups of trials: `speechbrain_ext.verification.subgroups.measured`.

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
    # What older files lack has a default.
    protocol: str = "full"
    backend: str = ""
    calibration: str = "none"
    eer_definition: str = EER_DEFINITION
    eer_hull_percent: float | None = None
    eer_hull_definition: str = HULL_DEFINITION
    min_dcf_05: float | None = None
    min_dcf_05_low: float | None = None
    min_dcf_05_high: float | None = None
    actual_dcf: float | None = None
    actual_dcf_05: float | None = None
    cllr: float | None = None
    min_cllr: float | None = None
    n_units: int | None = None
    breakdowns: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @classmethod
    def of_scores(
        cls,
        scores: ArrayLike,
        labels: ArrayLike,
        p_target: float = 0.01,
        n_bootstrap: int = 1000,
        seed: int = 0,
        units: Units | None = None,
        calibrated: bool = False,
        groups: Sequence[Group] = (),
        **facts: Any,
    ) -> Result:
        """Measure scores [N] against labels [N] and keep the facts.

        Intervals draw ``units``, single trials when None; ``calibrated``
        scores are log-likelihood ratios; each of ``groups`` is measured too.
        """
        labels = np.asarray(labels)
        units = units or single_trials(len(labels))
        n_target = int(np.count_nonzero(labels))
        if groups:
            facts["breakdowns"] = measured(
                groups,
                np.asarray(scores),
                labels,
                units,
                p_target,
                n_bootstrap,
                seed,
            )
        return cls(
            n_target=n_target,
            n_nontarget=len(labels) - n_target,
            p_target=p_target,
            interval=interval_in_words(units, n_bootstrap),
            n_units=units.count,
            seed=seed,
            **_error_rates(scores, labels, p_target, n_bootstrap, seed, units),
            **_information(scores, labels, p_target, calibrated),
            **facts,
        )

    def write(self, path: PathLike) -> None:
        """Write it as JSON, atomically."""
        write_json(path, {"kind": _RESULT, **dataclasses.asdict(self)})


def _error_rates(
    scores: ArrayLike,
    labels: NDArray,
    p_target: float,
    n_bootstrap: int,
    seed: int,
    units: Units,
) -> dict[str, Any]:
    """EER and both minimum costs, with the ends of their intervals."""
    priors = {"min_dcf": p_target, "min_dcf_05": _SECOND_PRIOR}
    drawn = replicates(
        scores, labels, units, list(priors.values()), n_bootstrap, seed
    )
    eer, _ = equal_error_rate(scores, labels)
    low, high = interval(drawn.eer, eer, units.count)
    rates = {
        "eer_percent": 100 * eer,
        "eer_low": 100 * low,
        "eer_high": 100 * high,
        "eer_hull_percent": 100 * convex_hull_eer(scores, labels),
    }
    for (name, prior), costs in zip(priors.items(), drawn.costs, strict=True):
        cost, _ = min_dcf(scores, labels, prior)
        low, high = interval(costs, cost, units.count)
        rates[name] = normalised_dcf(cost, prior)
        rates[f"{name}_low"] = normalised_dcf(low, prior)
        rates[f"{name}_high"] = normalised_dcf(high, prior)
    return rates


def _information(
    scores: ArrayLike, labels: NDArray, p_target: float, calibrated: bool
) -> dict[str, Any]:
    """Cllr's bound and, of log-likelihood ratios, what they cost."""
    found = {"min_cllr": min_cllr(scores, labels)}
    if calibrated:
        found["cllr"] = cllr(scores, labels)
        found["actual_dcf"] = actual_dcf(scores, labels, p_target)
        found["actual_dcf_05"] = actual_dcf(scores, labels, _SECOND_PRIOR)
    return found


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

    A system's rows stand together, the raw scores' first; calibrated scores
    have a further table. What is the same in all rows is in the heading.

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
          'minDCF': '0.0000 [0.0000, 0.0000]', 'minDCF, p=0.05': '0.0000',
          'caveat': 'toy data'}]}
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
        _, corpus, trials, n_target, n_nontarget = key
        heading = (
            f"{_where(members[0])} ({n_target:,} targets, "
            f"{n_nontarget:,} non-targets)"
        )
        rows = [
            _cited_row(yardstick)
            for yardstick in yardsticks
            if (yardstick.corpus, yardstick.trials) == (corpus, trials)
        ]
        ours = [_row(result) for result in in_order(members)]
        heading += "".join(_said_once(ours))
        found[heading] = _without_empty_columns(rows + ours)
        calibrated = [
            _costs(r) for r in in_order(members) if r.cllr is not None
        ]
        if calibrated:
            found[f"{heading}: what calibration costs"] = calibrated
    return found


def _costs(result: Result) -> dict[str, str]:
    """A row on log-likelihood ratios: as they are, and at best."""
    return {
        "system": result.system,
        "scores": scores_of(result),
        "actual DCF": _number(result.actual_dcf, ".4f"),
        "minDCF": _number(result.min_dcf, ".4f"),
        "actual DCF, p=0.05": _number(result.actual_dcf_05, ".4f"),
        "minDCF, p=0.05": _number(result.min_dcf_05, ".4f"),
        "Cllr": _number(result.cllr, ".3f"),
        "min Cllr": _number(result.min_cllr, ".3f"),
    }


def breakdown_tables(
    results: Sequence[Result],
) -> dict[str, list[dict[str, str]]]:
    """EER of groups of trials, one table a run, list and kind of group.

    Arguments
    ---------
    results : sequence of Result
        Those without breakdowns are passed over.

    Returns
    -------
    dict of str to list of dict of str to str
        Heading to rows: a system and back-end each, a column a group.

    Example
    -------
    >>> breakdown_tables([])
    {}
    """
    found: dict[str, list[dict[str, str]]] = {}
    for result in in_order(results):
        heading = f"{_where(result)}, EER % by "
        for by in dict.fromkeys(group["by"] for group in result.breakdowns):
            row = {"system": result.system, "scores": scores_of(result)}
            for group in result.breakdowns:
                if group["by"] == by:
                    row[_group_name(group)] = _group_eer(group)
            key = f"{heading}{by} (targets / non-targets)"
            found.setdefault(key, []).append(row)
    return found


def _group_name(group: dict[str, Any]) -> str:
    counts = f"{group['n_target']:,} / {group['n_nontarget']:,}"
    return f"{group['value']} ({counts})"


def _group_eer(group: dict[str, Any]) -> str:
    if "eer_percent" not in group:
        return _EMPTY
    ends = (group["eer_low"], group["eer_high"])
    return "{:.2f} [{:.2f}, {:.2f}]".format(group["eer_percent"], *ends)


def in_order(results: Sequence[Result]) -> list[Result]:
    """Results by system as these come; in each, raw, normalised, calibrated."""
    systems = list(dict.fromkeys(result.system for result in results))
    return sorted(
        results,
        key=lambda result: (
            systems.index(result.system),
            result.calibration != "none",
            result.score_norm != "none",
        ),
    )


def scores_of(result: Result) -> str:
    """Short name of its back-end, also of records older than these."""
    norm = result.score_norm.split(",")[0]
    return result.backend or norm.replace("none", "")


def _where(result: Result) -> str:
    """Run, if it has a name, corpus and list."""
    place = f"{result.corpus}, {result.trials}"
    return f"{result.run}: {place}" if result.run else place


def _row(result: Result) -> dict[str, str]:
    eer = (result.eer_percent, result.eer_low, result.eer_high)
    cost = (result.min_dcf, result.min_dcf_low, result.min_dcf_high)
    prior = "" if result.p_target == 0.01 else f" (p={result.p_target:g})"
    return {
        "system": result.system,
        "scores": scores_of(result),
        "protocol": "" if result.protocol == "full" else result.protocol,
        "EER %": "{:.2f} [{:.2f}, {:.2f}]".format(*eer),
        "minDCF": "{:.4f} [{:.4f}, {:.4f}]".format(*cost) + prior,
        "minDCF, p=0.05": _number(result.min_dcf_05, ".4f"),
        "NMI": _number(result.nmi, ".3f"),
        "ARI": _number(result.ari, ".3f"),
        "clusters": _number(result.n_clusters, ",d"),
        "training utterances": _number(result.n_train, ",d"),
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


def _said_once(rows: list[dict[str, str]]) -> list[str]:
    """Words for the heading in place of columns in which all rows agree."""
    words = []
    for name in _IN_HEADING if len(rows) > 1 else ():
        value = rows[0][name]
        if value and all(row[name] == value for row in rows):
            words.append(f"; {name}: {value}")
            for row in rows:
                row[name] = ""
    return words


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
    | system | EER % | minDCF | minDCF, p=0.05 |
    |---|---|---|---|
    | DINO | 0.00 [0.00, 0.00] | 0.0000 [0.0000, 0.0000] | 0.0000 |
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
        "`speechbrain_ext.verification.results.write_table`; do not edit.\n\n"
        f"Square brackets: {brackets}. minDCF is normalised (1: a system "
        "that hears nothing), at p_target 0.01 unless said.\n\n"
    )
    write_text(folder / TABLE, text + render_table(results, yardsticks))
