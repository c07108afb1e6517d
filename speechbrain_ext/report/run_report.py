"""Report of a finished run: result files, TABLE.md and report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from speechbrain_ext.clustering.stopping import AUTO
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.experiment.artifacts import LabelArtifacts
from speechbrain_ext.experiment.late_values import late_values
from speechbrain_ext.experiment.plan import Plan
from speechbrain_ext.experiment.run_results import (
    Compared,
    RunFolder,
    Scored,
    Scores,
    comparisons_of,
    read_scored,
    trainings,
)
from speechbrain_ext.experiment.steps import (
    Kind,
    Late,
    Role,
    Step,
    System,
    steps_that_left,
)
from speechbrain_ext.report.clips import ClipCutter
from speechbrain_ext.report.clusters import cluster_blocks, read_clusters
from speechbrain_ext.report.health import judged
from speechbrain_ext.report.page import (
    Block,
    Fold,
    Page,
    Table,
    Text,
    write_page,
)
from speechbrain_ext.report.plots_of_steps import (
    backend_plots,
    churn_sections,
    cluster_sections,
    curve_sections,
    det_plot,
    eer_plot,
    layer_sections,
    map_sections,
    number_sections,
)
from speechbrain_ext.report.run_facts import (
    duration,
    files_table,
    settings_tables,
    time_table,
)
from speechbrain_ext.report.summary import (
    Standing,
    answer,
    is_worse_than_nothing,
    standing,
)
from speechbrain_ext.report.trial_errors import error_clips
from speechbrain_ext.utils.files import read_json
from speechbrain_ext.verification.comparison import comparison_rows
from speechbrain_ext.verification.metrics import equal_error_rate
from speechbrain_ext.verification.results import (
    YARDSTICKS,
    Result,
    Yardstick,
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

PAGE = "report.html"
# Columns that stand elsewhere on the page.
_ELSEWHERE = ("caveat", "interval", "protocol", "device")


class Run(NamedTuple):
    """Finished run, as its report reads it."""

    plan: Plan
    late: Mapping[Late, Any]
    scored: list[Scored]
    yardsticks: list[Yardstick]
    found: Standing | None

    @property
    def results(self) -> list[Result]:
        """Results of all systems, in the order of the tables."""
        return in_order([r for one in self.scored for r in one.results])

    @property
    def folder(self) -> Path:
        """Folder of the run and of its page."""
        return Path(self.plan.settings.output_folder)


def read_run(plan: Plan) -> Run:
    """Read what a finished run left."""
    settings = plan.settings
    late = late_values(plan.corpus, settings.data_folder)
    scored = read_scored(plan.steps, late)
    cited = Path(settings.results_folder) / YARDSTICKS
    yardsticks = read_yardsticks(cited) if cited.exists() else []
    return Run(plan, late, scored, yardsticks, standing(plan, scored))


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
    run = read_run(plan)
    folder = Path(plan.settings.results_folder)
    compared: list[Compared] = []
    if run.results:
        compared = write_results(plan, run.scored)
        write_table(folder)
    path = run.folder / PAGE
    write_page(path, page_of(run, compared))
    if run.results:
        print("\n" + render_table(run.results, run.yardsticks))
        print(f"table:  {folder / TABLE}")
    print(f"report: {path}")
    return path


def page_of(run: Run, compared: Sequence[Compared]) -> Page:
    """Build the page of a run."""
    plan = run.plan
    cutter = ClipCutter(run.folder)
    folds = [
        score_fold(run, compared),
        error_fold(run, cutter),
        rounds_fold(plan),
        *system_folds(run, cutter),
        facts_fold(run),
    ]
    return Page(
        f"Run {plan.settings.run}",
        answer(plan, run.scored, health_warnings(plan)),
        caveats_of(run.results),
        first_blocks(run),
        [fold for fold in folds if fold.blocks],
    )


def first_blocks(run: Run) -> list[Block]:
    """Return the plots and the table that are shown unfolded."""
    if run.found is None:
        return []
    name, backend = run.found.trials, run.found.backend
    shared = [
        one
        for one in run.scored
        # The model to share has been scored as the last round.
        if one.system.role is not Role.PUBLISHED and one.has(name, backend)
    ]
    members = [one.result(name, backend) for one in shared]
    systems = {
        one.result(name, backend).system.name: one.scores(name, backend)
        for one in shared
    }
    true = run.found.supervised
    reference = None if true is None else run.found.result(true)
    shown = [r for r in members if r is not reference]
    supervised = None if reference is None else reference.system.name
    where = run.found.where
    rows = tables(members, run.yardsticks)
    return [
        eer_plot(shown, run.yardsticks, where, reference),
        det_plot(systems, where, supervised),
        *[
            Table(f"All systems {where}", _narrow(found, "scores"), words)
            for words, found in list(rows.items())[:1]
        ],
    ]


def _narrow(
    rows: Sequence[Mapping[str, str]], *others: str
) -> list[dict[str, str]]:
    """Leave out columns that stand elsewhere on the page."""
    dropped = {*_ELSEWHERE, *others}
    return [{k: v for k, v in row.items() if k not in dropped} for row in rows]


def _results(
    results: Sequence[Result], trials: str, backend: str | None = None
) -> list[Result]:
    return [
        r
        for r in results
        if r.trials.name == trials and backend in (None, r.system.backend)
    ]


def _scores(run: Run, trials: str, backend: str) -> dict[str, Scores]:
    return {
        one.result(trials, backend).system.name: one.scores(trials, backend)
        for one in run.scored
        if one.has(trials, backend)
    }


def score_fold(run: Run, compared: Sequence[Compared]) -> Fold:
    """Return all trial lists and back-ends, folded by both."""
    results = run.results
    names = list(dict.fromkeys(r.trials.name for r in results))
    blocks: list[Block] = [list_fold(run, name) for name in names]
    if compared:
        found = [one.found for one in compared]
        caption = (
            f"Second minus first, in the same drawings; {found[0].interval}. "
            "p below 0.05: a difference is shown."
        )
        heading = "Paired tests: each system against the one before"
        blocks.append(Table(heading, comparison_rows(found), caption))
    note = "other trial lists, score types, calibration, paired tests"
    return Fold("All scores", note, blocks)


def list_fold(run: Run, name: str) -> Fold:
    """Return what there is on one trial list, folded by back-end."""
    members = _results(run.results, name)
    blocks: list[Block] = [
        Table(words, _narrow(rows))
        for words, rows in tables(members, run.yardsticks).items()
        if not words.endswith("what calibration costs")
    ]
    backends = list(dict.fromkeys(r.system.backend for r in members))
    if len(backends) > 1:
        blocks.append(eer_plot(members, [], f"on {name}, by type of score"))
    calibrated = calibration_table(members)
    if calibrated.rows:
        blocks.append(calibrated)
    true = run.found.supervised if run.found else None
    supervised = true.system.row if true else None
    for backend in backends:
        systems = _scores(run, name, backend)
        where = f"on {name}, {backend or 'raw'} scores"
        plots = backend_plots(systems, backend, where, supervised)
        blocks.append(Fold(f"Scores: {backend or 'raw'}", "", plots))
    groups = [
        Table(words, rows) for words, rows in breakdown_tables(members).items()
    ]
    if groups:
        blocks.append(Fold("By group", "gender, duration, ...", groups))
    counts = members[0].trials
    note = (
        f"{counts.n_target:,} target and {counts.n_nontarget:,} non-target "
        "trials"
    )
    return Fold(f"Trial list {name}", note, blocks)


def calibration_table(results: Sequence[Result]) -> Table:
    """Return what deciding by calibrated scores costs, with a verdict.

    Example
    -------
    >>> list(calibration_table([]).rows)
    []
    """
    rows = [
        {
            "system": r.system.name,
            "scores": r.system.backend,
            "actual DCF": f"{r.actual_dcf:.4f}",
            "minDCF": f"{r.min_dcf.value:.4f}",
            "verdict": "worse than no decision"
            if is_worse_than_nothing(r)
            else "better than no decision",
            "Cllr": _optional(r.cllr, ".3f"),
            "min Cllr": _optional(r.min_cllr, ".3f"),
        }
        for r in results
        if r.actual_dcf is not None
    ]
    caption = (
        "Actual DCF: the cost of deciding by the scores; minDCF: at "
        "the best threshold. 1 is the cost of the same answer for all trials: "
        "with 1 or more a system is worse than no decision."
    )
    return Table("What calibration costs", rows, caption)


def _optional(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def error_fold(run: Run, cutter: ClipCutter) -> Fold:
    """Return the hardest errors of the run's model, to listen to."""
    blocks: list[Block] = []
    if run.found is not None and run.plan.corpus.test.exists():
        found = run.found
        trials = found.final.trial_list(found.trials)
        scores, labels = found.final.scores(found.trials, found.backend)
        root = run.late[Late.DATA_ROOT]
        test = read_manifest(run.plan.corpus.test, "utterances", root)
        threshold = equal_error_rate(scores, labels)[1]
        clips = error_clips(trials, scores, test, float(threshold), cutter)
        blocks += [] if clips is None else [clips]
    return Fold("Hardest errors", "listen to false accepts and rejects", blocks)


def rounds_fold(plan: Plan) -> Fold:
    """Return how clusters changed from round to round."""
    blocks: list[Block] = []
    rows = []
    for step in steps_that_left(plan.steps, LabelArtifacts):
        if step.artifacts.clusters.exists():
            facts = read_json(step.artifacts.clusters).get("statistics", {})
            rows.append({"clusters of": step.system.row, **_label_facts(facts)})
    if any(len(row) > 1 for row in rows):
        caption = (
            "Churn, the share of utterances that moved to another cluster, "
            "usually falls from round to round, and cohesion rises. "
            "NMI, ARI and purity compare with the true speakers: they are "
            "reported and used for nothing."
        )
        names = list(dict.fromkeys(key for row in rows for key in row))
        filled = [{name: row.get(name, "–") for name in names} for row in rows]
        blocks.append(Table("Clusters by round", filled, caption))
    blocks += churn_sections(plan) + cluster_sections(plan.steps)
    return Fold("Clusters from round to round", "churn, sizes, purity", blocks)


def _label_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    forms = {
        "n_clusters": ",d",
        "size_max": ",d",
        "n_singletons": ",d",
        "cohesion": ".3f",
        "margin": ".3f",
        "churn": ".3f",
        "nmi": ".3f",
        "ari": ".3f",
        "purity": ".3f",
        "n_split": ",d",
        "n_merged": ",d",
    }
    return {
        name.removeprefix("n_").replace("_", " "): format(facts[name], form)
        for name, form in forms.items()
        if name in facts
    }


def system_folds(run: Run, cutter: ClipCutter) -> list[Fold]:
    """Return a fold for each system: its steps, plots and clusters."""
    steps = run.plan.steps
    systems = list(dict.fromkeys(step.system for step in steps))
    return [
        system_fold(
            run, system, [s for s in steps if s.system == system], cutter
        )
        for system in systems
    ]


def system_fold(
    run: Run, system: System, steps: Sequence[Step[Any]], cutter: ClipCutter
) -> Fold:
    """Return all on one system: curves, health, clusters, settings, files."""
    blocks: list[Block] = list(curve_sections(steps))
    blocks += layer_sections(steps) + number_sections(steps)
    blocks += map_sections(steps, run.late)
    for step in steps_that_left(steps, LabelArtifacts):
        # True labels are no clusters.
        if step.kind is Kind.LABELS and step.artifacts.labels.exists():
            oracle = step.values(run.late).get("oracle")
            root = run.late[Late.DATA_ROOT]
            clusters = read_clusters(step.artifacts, root, oracle)
            blocks += cluster_blocks(clusters, cutter)
    done = [step for step in steps if step.artifacts.is_done]
    for step in done:
        changed, same = settings_tables(step)
        blocks.append(
            Fold(
                f"Settings of {step.name}",
                f"differing from the defaults: {len(changed.rows)}",
                [changed, same],
            )
        )
    files = files_table(steps, run.folder)
    if files.rows:
        blocks.append(Fold("Files", "", [files]))
    seconds = [step.artifacts.facts().get("seconds") for step in done]
    total = sum(value for value in seconds if value is not None)
    names = ", ".join(step.kind.folder_name or step.recipe for step in steps)
    heading = system.row or system.name
    return Fold(f"Step: {heading}", f"{names}; {duration(total)}", blocks)


def health_warnings(plan: Plan) -> list[str]:
    """Say which trainings without labels look collapsed."""
    warnings = []
    for step in trainings(plan.steps):
        curve = pd.read_csv(step.artifacts.curve)
        if "effective_rank" in curve:
            found = judged(curve)
            if not found.is_normal:
                warnings.append(f"{step.system.row}: {found.verdict}")
    return warnings


def facts_fold(run: Run) -> Fold:
    """Return the times of all steps and what was run."""
    done = [step for step in run.plan.steps if step.artifacts.is_done]
    blocks: list[Block] = [
        Text(introduction(run.plan, run.scored).split("\n\n"))
    ]
    times = time_table(done)
    if times.rows:
        blocks.append(times)
    return Fold("Time and method", "seconds of each step", blocks)


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
