"""Write a page with two runs side by side:

> sbext compare exp/first exp/second

Each is the output folder of a run of run_rounds. Runs that scored the same
trial list are compared in the same drawings of its speakers. From a clone that
is not installed:

> python -m speechbrain_ext.report.compare_runs exp/first exp/second
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechbrain_ext.commands.arguments import parser_of
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.trials import read_trial_file
from speechbrain_ext.experiment.artifacts import (
    CorpusArtifacts,
    ScoreArtifacts,
)
from speechbrain_ext.experiment.stage_records import RECORD
from speechbrain_ext.experiment.steps import Kind, Role
from speechbrain_ext.report.page import (
    Answer,
    Block,
    Fold,
    Number,
    Page,
    Plot,
    Table,
    Text,
    write_page,
)
from speechbrain_ext.report.run_facts import brief, duration
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, read_json
from speechbrain_ext.verification.comparison import Comparison
from speechbrain_ext.verification.plots import eer_by_round
from speechbrain_ext.verification.results import Result, read_result
from speechbrain_ext.verification.trial_speakers import units_of

_NONE = "–"
_TRUE = (Role.TOPLINE, Role.TOPLINE_TUNED, Role.TOPLINE_JOINED)
# What clusters.json tells, in the order of the table.
_LABELS = "n_clusters cohesion margin churn nmi ari purity".split()


class FinishedRun(NamedTuple):
    """Run as its folder tells it.

    ``name`` of the run; its ``folder``; ``records`` of its steps by their
    names, such as ``round1/model``; ``results`` by system folder, trial list
    and back-end.
    """

    name: str
    folder: Path
    records: dict[str, dict[str, Any]]
    results: dict[tuple[str, str, str], Result]

    @property
    def final(self) -> str | None:
        """Folder of the last system without true labels that was scored."""
        last = [s for s in self.systems() if not s.startswith(_TRUE)]
        return last[-1] if last else None

    def systems(self) -> list[str]:
        """List the folders of the scored systems, in the order of a run."""
        return list(dict.fromkeys(system for system, _, _ in self.results))

    def scores(self, system: str, trials: str, backend: str) -> Path:
        """Return the score file of a system."""
        artifacts = ScoreArtifacts(self.folder / system / "scores")
        return artifacts.scores(trials, backend)


def read_finished(folder: PathLike) -> FinishedRun:
    """Read a run from its output folder.

    Arguments
    ---------
    folder : str or os.PathLike
        Output folder of run_rounds.

    Returns
    -------
    FinishedRun

    Raises
    ------
    InputError
        No step of the folder is done.
    """
    place = Path(folder)
    records = {}
    for path in sorted(
        [place / "corpus" / RECORD, *place.glob(f"*/*/{RECORD}")]
    ):
        if path.is_file():
            name = str(path.parent.relative_to(place))
            records[name] = read_json(path)
    if not records:
        raise InputError(
            f"run is {str(folder)!r}; it must be the output folder of a run of "
            "run_rounds, with steps that are done; give its output_folder"
        )
    results = {}
    for system in sorted({n.split("/")[0] for n in records}, key=_place):
        if system == Role.PUBLISHED:
            continue
        for path in ScoreArtifacts(place / system / "scores").results():
            result = read_result(path)
            key = (system, result.trials.name, result.system.backend)
            results[key] = result
    names = [result.system.run for result in results.values()]
    return FinishedRun(
        names[0] if names else place.name, place, records, results
    )


def _place(system: str) -> tuple[int, str]:
    """Return where a system stands in a run; those that are unknown last."""
    roles = list(Role)
    found = [n for n, role in enumerate(roles) if system.startswith(role.value)]
    # The last one: topline_tuned begins with topline, too.
    return (found[-1] if found else len(roles), system)


def compare_runs(
    first: PathLike, second: PathLike, page: PathLike = "comparison.html"
) -> Path:
    """Write a page with two runs side by side.

    Arguments
    ---------
    first, second : str or os.PathLike
        Output folders of run_rounds.
    page : str or os.PathLike
        The page.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    InputError
        A folder holds no run.
    """
    runs = (read_finished(first), read_finished(second))
    # Two folders may hold runs of one name.
    names = [one.name for one in runs]
    if names[0] == names[1]:
        names = [str(one.folder) for one in runs]
    write_page(page, comparison_page(runs, names))
    return Path(page)


def comparison_page(
    runs: tuple[FinishedRun, FinishedRun], names: Sequence[str]
) -> Page:
    """Build the page of two runs."""
    shared = [key for key in runs[0].results if key in runs[1].results]
    paired = paired_test(runs, names)
    return Page(
        f"{names[0]} and {names[1]}",
        _answer(runs, names, paired),
        [r.system.caveat for one in runs for r in one.results.values()],
        [*_plots(runs, names), *_rows(runs, names, shared)],
        [
            Fold("Settings that differ", "by step", _settings(runs, names)),
            Fold("Clusters", "by step", _clusters(runs, names)),
            Fold("Time", "by step", _times(runs, names)),
        ],
    )


def paired_test(
    runs: tuple[FinishedRun, FinishedRun], names: Sequence[str]
) -> Comparison | None:
    """Compare the final models in the same drawings of a shared list.

    Arguments
    ---------
    runs : tuple of FinishedRun
        Two runs.
    names : sequence of str
        Their names.

    Returns
    -------
    Comparison or None
        Of the shared list of most trials; None if they share none.
    """
    finals = [one.final for one in runs]
    shared = [
        (trials, backend)
        for system, trials, backend in runs[0].results
        if system == finals[0] and _is_same_list(runs, trials, backend)
    ]
    if not shared:
        return None
    trials, backend = max(shared, key=lambda key: _size(runs, *key))
    corpus = CorpusArtifacts(runs[0].folder / "corpus")
    listed = read_trial_file(trials, corpus.trials()[trials])
    oracle = None
    if corpus.oracle.is_file():
        oracle = read_manifest(corpus.oracle, "oracle")
    first = runs[0].results[str(finals[0]), trials, backend]
    scores = [
        np.load(one.scores(str(final), trials, backend))
        for one, final in zip(runs, finals, strict=True)
    ]
    return Comparison.of_scores(
        scores[0],
        scores[1],
        listed.labels,
        units_of(listed, oracle),
        first.p_target,
        seed=first.bootstrap.seed,
        first=names[0],
        second=names[1],
        trials=trials,
        trials_sha256=first.trials.sha256,
    )


def _is_same_list(
    runs: tuple[FinishedRun, FinishedRun], trials: str, backend: str
) -> bool:
    hashes = {
        one.results[str(one.final), trials, backend].trials.sha256
        for one in runs
        if (one.final, trials, backend) in one.results
    }
    has_both = all((r.final, trials, backend) in r.results for r in runs)
    listed = CorpusArtifacts(runs[0].folder / "corpus").trials()
    return has_both and len(hashes) == 1 and trials in listed


def _size(
    runs: tuple[FinishedRun, FinishedRun], trials: str, backend: str
) -> tuple[int, bool]:
    found = runs[0].results[str(runs[0].final), trials, backend]
    n_trials = found.trials.n_target + found.trials.n_nontarget
    return n_trials, backend == "raw"


def _answer(
    runs: tuple[FinishedRun, FinishedRun],
    names: Sequence[str],
    paired: Comparison | None,
) -> Answer:
    """Return which run is better, if that can be said."""
    made = f"Two runs side by side: {names[0]} and {names[1]}."
    if paired is None:
        words = "The runs share no trial list: their numbers do not compare."
        return Answer(made, findings=[words])
    numbers = [
        Number(name, f"{eer:.2f} % EER", f"on {paired.trials}")
        for name, eer in zip(names, paired.eer_percent, strict=True)
    ]
    return Answer(
        made, f"Brackets: {paired.interval}.", numbers, [paired.in_words()]
    )


def _plots(
    runs: tuple[FinishedRun, FinishedRun], names: Sequence[str]
) -> list[Block]:
    """Plot the raw EERs of both runs, a plot for each run and list."""
    plots: list[Block] = []
    for one, name in zip(runs, names, strict=True):
        members = [r for r in one.results.values() if r.system.backend == "raw"]
        if members:
            caption = "Equal error rate of each system with its 95 % interval."
            plots.append(Plot(name, caption, eer_by_round(members)))
    return plots


def _rows(
    runs: tuple[FinishedRun, FinishedRun],
    names: Sequence[str],
    shared: Sequence[tuple[str, str, str]],
) -> list[Block]:
    """Return the error rates of systems that both runs have."""
    rows = []
    for key in shared:
        first, second = (one.results[key] for one in runs)
        same = first.trials.sha256 == second.trials.sha256
        change = second.eer.value - first.eer.value
        rows.append(
            {
                "system": key[0],
                "trials": key[1],
                "scores": key[2],
                f"EER % of {names[0]}": f"{first.eer:.2f}",
                f"EER % of {names[1]}": f"{second.eer:.2f}",
                "second minus first": f"{change:+.2f}"
                if same
                else "other list",
            }
        )
    caption = "A difference counts only where a paired test shows it."
    return [Table("Error rates of both", rows, caption)] if rows else []


def _steps(
    runs: tuple[FinishedRun, FinishedRun],
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the steps of either run with their records, empty if missing."""
    names = {**runs[0].records, **runs[1].records}
    for name in sorted(names, key=_order):
        yield name, [one.records.get(name, {}) for one in runs]


def _order(step: str) -> tuple[tuple[int, str], int]:
    """Return where a step stands in a run."""
    system, _, folder = step.partition("/")
    kinds = [kind.folder_name for kind in Kind]
    return _place(system), kinds.index(folder) if folder in kinds else 0


def _settings(
    runs: tuple[FinishedRun, FinishedRun], names: Sequence[str]
) -> list[Block]:
    """Return the settings whose values differ, step by step."""
    rows = []
    for step, records in _steps(runs):
        first, second = (record.get("hparams", {}) for record in records)
        for key in dict.fromkeys([*first, *second]):
            values = [
                brief(v[key]) if key in v else _NONE for v in (first, second)
            ]
            if values[0] != values[1]:
                rows.append(_row(step, key, names, values))
    if not rows:
        return [Text(["No setting differs."])]
    return [Table("Settings", rows)]


def _row(
    step: str, what: str, names: Sequence[str], values: Sequence[str]
) -> dict[str, str]:
    return {"step": step, "what": what, **dict(zip(names, values, strict=True))}


def _clusters(
    runs: tuple[FinishedRun, FinishedRun], names: Sequence[str]
) -> list[Block]:
    """Return the statistics of the clusters of both runs."""
    rows = []
    for step, records in _steps(runs):
        if step.endswith(f"/{Kind.LABELS.folder_name}"):
            for key in _LABELS:
                values = [_statistic(record, key) for record in records]
                if set(values) != {_NONE}:
                    rows.append(_row(step, key, names, values))
    return [Table("Clusters", rows)]


def _statistic(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return _NONE if value is None else f"{value:,.4g}"


def _times(
    runs: tuple[FinishedRun, FinishedRun], names: Sequence[str]
) -> list[Block]:
    """Return the times of the steps of both runs."""
    rows = []
    for step, records in _steps(runs):
        values = [
            _NONE if r.get("seconds") is None else f"{r['seconds']:,.0f}"
            for r in records
        ]
        rows.append(_row(step, "seconds", names, values))
    totals = [
        duration(sum(r.get("seconds") or 0 for r in one.records.values()))
        for one in runs
    ]
    return [Table("Time", rows, f"Together {totals[0]} and {totals[1]}.")]


def main(argv: list[str] | None = None) -> None:
    """Write the page and print its path.

    Arguments
    ---------
    argv : list of str, optional
        The words after the program; the process's own when None.
    """
    given = parser_of("compare").parse_args(argv)
    print(f"page: {compare_runs(given.first, given.second, given.page)}")


if __name__ == "__main__":
    run(main)
