"""Tables of results: rows of text, Markdown, and ``TABLE.md``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, write_text
from speechbrain_ext.verification.records import Estimate
from speechbrain_ext.verification.results import (
    YARDSTICKS,
    GateFacts,
    LabelFacts,
    Result,
    Yardstick,
    read_results,
    read_yardsticks,
)
from speechbrain_ext.verification.subgroups import GroupRates

TABLE = "TABLE.md"
_EMPTY = "–"
_YES_NO = {None: "", True: "yes", False: "no"}
# Columns that move above the table if all its rows agree.
_IN_HEADING = ("training utterances", "device")


def tables(
    results: Sequence[Result], yardsticks: Sequence[Yardstick] = ()
) -> dict[str, list[dict[str, str]]]:
    """Return rows of text, one table for each run and trial list.

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
    ...     trials="dev",
    ... )
    >>> tables([result])
    {'toy, dev (2 targets, 2 non-targets)':
        [{'system': 'DINO', 'protocol': 'full',
          'EER %': '0.00 [0.00, 0.00]', 'minDCF': '0.0000 [0.0000, 0.0000]',
          'minDCF, p=0.05': '0.0000', 'interval': '4 trials (too narrow)'}]}
    """
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        key = (
            result.system.run,
            result.trials.corpus,
            result.trials.name,
            result.trials.n_target,
            result.trials.n_nontarget,
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
    """Return a row with actual and minimum costs of likelihood ratios."""
    return {
        "system": result.system.name,
        "scores": scores_of(result),
        "actual DCF": _number(result.actual_dcf, ".4f"),
        "minDCF": f"{result.min_dcf.value:.4f}",
        "actual DCF, p=0.05": _number(result.actual_dcf_05, ".4f"),
        "minDCF, p=0.05": _number(_value(result.min_dcf_05), ".4f"),
        "Cllr": _number(result.cllr, ".3f"),
        "min Cllr": _number(result.min_cllr, ".3f"),
    }


def breakdown_tables(
    results: Sequence[Result],
) -> dict[str, list[dict[str, str]]]:
    """Return EERs of groups, one table for each run, list and property.

    Arguments
    ---------
    results : sequence of Result
        Those without groups are passed over.

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
        for by in dict.fromkeys(group.by for group in result.groups):
            row = {"system": result.system.name, "scores": scores_of(result)}
            for group in result.groups:
                if group.by == by:
                    row[_group_name(group)] = _group_eer(group)
            key = f"{heading}{by} (targets / non-targets)"
            found.setdefault(key, []).append(row)
    return found


def _group_name(group: GroupRates) -> str:
    return f"{group.value} ({group.n_target:,} / {group.n_nontarget:,})"


def _group_eer(group: GroupRates) -> str:
    return _EMPTY if group.eer is None else f"{group.eer:.2f}"


def in_order(results: Sequence[Result]) -> list[Result]:
    """Sort results by system, then raw, normalised, calibrated scores."""
    systems = list(dict.fromkeys(result.system.name for result in results))
    return sorted(
        results,
        key=lambda result: (
            systems.index(result.system.name),
            result.system.calibration != "none",
            result.system.score_norm != "none",
        ),
    )


def scores_of(result: Result) -> str:
    """Return a result's back-end, also for old records without one."""
    norm = result.system.score_norm.split(",")[0]
    return result.system.backend or norm.replace("none", "")


def _where(result: Result) -> str:
    """Return the name of a result's run (if any), corpus and list."""
    place = f"{result.trials.corpus}, {result.trials.name}"
    run = result.system.run
    return f"{run}: {place}" if run else place


def _row(result: Result) -> dict[str, str]:
    system = result.system
    labels, gate = result.labels or LabelFacts(), result.gate or GateFacts()
    prior = "" if result.p_target == 0.01 else f" (p={result.p_target:g})"
    return {
        "system": system.name,
        "scores": scores_of(result),
        "protocol": system.protocol,
        "EER %": f"{result.eer:.2f}",
        "minDCF": f"{result.min_dcf:.4f}{prior}",
        "minDCF, p=0.05": _number(_value(result.min_dcf_05), ".4f"),
        "NMI": _number(labels.nmi, ".3f"),
        "ARI": _number(labels.ari, ".3f"),
        "clusters": _number(labels.n_clusters, ",d"),
        "weighted": _YES_NO[labels.weighted],
        "labels kept": kept_in_words(gate),
        "labels corrected": _number(gate.corrected, ".2%"),
        "training utterances": _number(system.n_train, ",d"),
        "device": system.device,
        "seconds": _number(system.seconds, ",.0f"),
        "interval": interval_of(result),
        "caveat": "; ".join(filter(None, [*system.never_acted, system.caveat])),
    }


def kept_in_words(gate: GateFacts) -> str:
    """Describe what share of labels a gate kept; empty if unknown.

    Example
    -------
    >>> kept_in_words(GateFacts(0.8)), kept_in_words(GateFacts(kind="none"))
    ('80.00%', 'no gate')
    """
    return "no gate" if gate.kind == "none" else _number(gate.kept, ".2%")


def interval_of(result: Result) -> str:
    """Name what a result's intervals draw, and how many; empty if unknown.

    Intervals over speakers say what other speakers would give; those over
    single trials are too narrow, for trials of one speaker are alike.
    """
    drawn = result.bootstrap
    if not drawn.unit:
        return ""
    count = "" if drawn.n_units is None else f"{drawn.n_units:,} "
    narrow = {"speakers": "", "utterances": " (may be too narrow)"}
    return f"{count}{drawn.unit}{narrow.get(drawn.unit, ' (too narrow)')}"


def _cited_row(yardstick: Yardstick) -> dict[str, str]:
    return {
        "system": f"{yardstick.system} (cited)",
        "EER %": f"{yardstick.eer:.2f}",
        "minDCF": _number(yardstick.min_dcf, ".4f"),
        "caveat": yardstick.source,
    }


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _said_once(rows: list[dict[str, str]]) -> list[str]:
    """Move columns whose rows all agree into the heading."""
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
    results: Sequence[Result],
    yardsticks: Sequence[Yardstick] = (),
    without: Collection[str] = (),
) -> str:
    """Render `tables` as Markdown, without columns that are named.

    Example
    -------
    >>> result = Result.of_scores(
    ...     [0, 1, 0, 1], [0, 1, 0, 1], system="DINO", corpus="toy",
    ...     trials="dev",
    ... )
    >>> print(render_table([result]))
    ## toy, dev (2 targets, 2 non-targets)
    <BLANKLINE>
    | system | protocol | EER % | minDCF | minDCF, p=0.05 | interval |
    |---|---|---|---|---|---|
    | DINO | full | 0.00 [0.00, 0.00] | ... | 0.0000 | 4 trials (too narrow) |
    <BLANKLINE>
    """
    parts = []
    for heading, rows in tables(results, yardsticks).items():
        rows = [
            {k: v for k, v in row.items() if k not in without} for row in rows
        ]
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
    """Write the results of all runs into ``TABLE.md``.

    Arguments
    ---------
    folder : str or os.PathLike
        Holds result files, for instance ``runs/<run>/scores/*.json``, and
        perhaps ``yardsticks.json``.

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
    brackets = "; ".join(sorted({r.bootstrap.words for r in results}))
    text = (
        "# Results\n\nWritten from the result files of this folder by "
        "`speechbrain_ext.verification.tables.write_table`; do not edit.\n\n"
        f"Square brackets: {brackets}. minDCF is normalised (1: a system "
        "that hears nothing), at p_target 0.01 unless said. An interval over "
        "speakers tells what other speakers would give; one over single "
        "trials is too narrow. weighted: whether a centroid weighs as many as "
        "its utterances in Ward's tree. labels kept, corrected: by the loss "
        "gate, in the last epoch of the training. An empty cell is unknown or "
        "does not apply. A difference between two rows is shown only where "
        "the run's `comparisons` folder has a paired test of it.\n\n"
    )
    write_text(folder / TABLE, text + render_table(results, yardsticks))
