"""Report of a finished run: result files, TABLE.md and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechbrain_ext.clustering.stopping import AUTO
from speechbrain_ext.experiment.html_report import Section, write_report
from speechbrain_ext.experiment.late_values import late_values
from speechbrain_ext.experiment.plan import Plan
from speechbrain_ext.experiment.report_sections import (
    churn_sections,
    cluster_sections,
    curve_sections,
    eer_sections,
    layer_sections,
    map_sections,
    score_sections,
)
from speechbrain_ext.experiment.run_results import (
    Compared,
    RunFolder,
    Scored,
    comparisons_of,
    read_scored,
)
from speechbrain_ext.experiment.steps import Role
from speechbrain_ext.verification.comparison import comparison_rows
from speechbrain_ext.verification.results import (
    YARDSTICKS,
    Result,
    read_yardsticks,
)
from speechbrain_ext.verification.tables import (
    TABLE,
    breakdown_tables,
    in_order,
    render_table,
    tables,
    write_table,
)

Tables = dict[str, list[dict[str, str]]]


def write_run_report(plan: Plan) -> Path:
    """Collect the results of a finished run, write its report, print a table.

    Arguments
    ---------
    plan : Plan
        The run's plan, all of whose steps but the export are done.

    Returns
    -------
    pathlib.Path
        ``report.html`` in the run's output folder.
    """
    settings = plan.settings
    late = late_values(plan.corpus, settings.data_folder)
    scored = read_scored(plan.steps, late)
    results = in_order([r for one in scored for r in one.results])
    folder = Path(settings.results_folder)
    cited = folder / YARDSTICKS
    yardsticks = read_yardsticks(cited) if cited.exists() else []
    shown = tables(results, yardsticks)
    sections: list[Section] = []
    if results:
        compared = write_results(plan, scored)
        write_table(folder)
        shown.update(breakdown_tables(results))
        shown.update(comparison_table(settings.run, compared))
        sections += eer_sections(results, yardsticks)
        sections += score_sections(scored)
    sections += churn_sections(plan)
    sections += cluster_sections(plan.steps)
    sections += map_sections(plan.steps, late)
    sections += layer_sections(plan.steps)
    sections += curve_sections(plan.steps)
    page = Path(settings.output_folder) / "report.html"
    write_report(
        page,
        f"Run {settings.run}",
        introduction(plan, scored),
        shown,
        caveats_of(results),
        sections,
    )
    if results:
        print("\n" + render_table(results, yardsticks))
        print(f"table:  {folder / TABLE}")
    print(f"report: {page}")
    return page


def caveats_of(results: Sequence[Result]) -> list[str]:
    """List the caveats of all rows, which stand before the numbers.

    Example
    -------
    >>> caveats_of([])
    []
    """
    idle = [
        f"{result.system.name}: {words}"
        for result in results
        for words in result.system.never_acted
    ]
    return [*(result.system.caveat for result in results), *idle]


def write_results(plan: Plan, scored: Sequence[Scored]) -> list[Compared]:
    """Write results, comparisons and curves of a run; return comparisons."""
    folder = RunFolder(plan.settings.results_folder, plan.settings.run)
    folder.write_scores(scored)
    folder.write_curves(plan.steps)
    compared = comparisons_of(scored)
    folder.write_comparisons(compared)
    for one in compared:
        if one.is_with_topline:
            print(one.found.ratio_in_words())
    return compared


def comparison_table(run: str, compared: Sequence[Compared]) -> Tables:
    """Return the rows that compare each system with the one before."""
    if not compared:
        return {}
    found = [one.found for one in compared]
    heading = f"{run}: each system against the one before, {found[0].interval}"
    return {heading: comparison_rows(found)}


def introduction(plan: Plan, scored: Sequence[Scored]) -> str:
    """Return the text at the top of the page: what was run."""
    start = plan.settings.start
    begun = "without labels: a bootstrap"
    if start is not None:
        article = "a " if plan.settings.start_embedder else ""
        begun = f"from a start that it was given: {article}{start}"
    return (
        f"Speaker verification learnt from {plan.settings.corpus} {begun}, "
        "rounds of training on clusters of the last embeddings and, where they "
        "are known, the same system with true labels. NMI and ARI compare the "
        "clusters of a system's own training embeddings with the true "
        "speakers; they are reported and used for "
        f"nothing.{stopping_words(plan, scored)}"
    )


def stopping_words(plan: Plan, scored: Sequence[Scored]) -> str:
    """Explain why an ``auto`` run stopped, and compare its choice in EER."""
    if plan.settings.n_rounds != AUTO:
        return ""
    words = f"\n\nRounds ended by themselves: {plan.rounds.reason}."
    rounds = [one for one in scored if one.system.role is Role.ROUND]
    lists = dict.fromkeys(
        result.trials.name for one in scored for result in one.results
    )
    for name in lists:
        eers = {one.system.number: last_eer(one, name) for one in rounds}
        best = min(eers, key=lambda number: eers[number])
        words += (
            f" On {name}, looked at afterwards, the chosen round "
            f"{plan.rounds.chosen} has an EER of "
            f"{eers[plan.rounds.chosen]:.2f} % and the best, round {best}, of "
            f"{eers[best]:.2f} %."
        )
    return words


def last_eer(scored: Scored, trials: str) -> float:
    """Return the EER of a system on a list, by its last back-end."""
    found = [r for r in scored.results if r.trials.name == trials]
    return found[-1].eer.value
