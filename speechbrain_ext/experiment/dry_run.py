"""Checks of a run before its first step, and what it prints of its plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain_ext.dataio.corpus_files import CorpusFiles
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.experiment.estimates import (
    Estimate,
    Estimator,
    Rates,
    Size,
    check_disk,
    corpus_size,
    in_bytes,
    in_hours,
)
from speechbrain_ext.experiment.launch import check_launcher
from speechbrain_ext.experiment.leaf import Leaf
from speechbrain_ext.experiment.plan import Plan, load_plan, longest_plan
from speechbrain_ext.experiment.plan_check import (
    check_crops,
    check_given,
    check_lists,
    check_plan,
    check_start,
    corpus_files,
    find_problems,
    states_of,
)
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.experiment.stage_records import DONE, RESUME, TO_DO
from speechbrain_ext.experiment.steps import Kind, Step
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.terminal import progress_line


def check_run(longest: Plan, dry: bool, device: str) -> None:
    """Raise InputError if a plan, its files or the machine are not fit.

    Arguments
    ---------
    longest : Plan
        With all steps that it may come to have.
    dry : bool
        Print the state of each step, estimates and all that is not fit before
        the first is raised.
    device : str
        Where models compute.

    Raises
    ------
    InputError
        One line with the key or the file, the rule and a way out.
    """
    leaves = check_plan(longest)
    problems, files = [], None
    try:
        check_launcher(longest.settings.launcher)
        check_start(longest.settings)
        if dry or not longest.corpus.is_done:
            files = corpus_files(longest, leaves)
        if files is not None:
            check_lists(files, leaves)
            check_given(longest, files)
    except InputError as error:
        if not dry:
            raise
        problems.append(str(error))
    size = corpus_size(longest, leaves, files)
    problems += find_problems(longest, leaves, size and size.n_train)
    planner = Estimator(longest, leaves, size, Rates(device) if dry else None)
    left = [s for s in longest.steps if not s.artifacts.is_done]
    try:
        check_disk(longest, sum(planner.of(s).disk or 0.0 for s in left))
    except InputError as error:
        problems.append(str(error))
    if dry:
        _print_estimates(longest, leaves, files, planner, device)
        for problem in problems:
            print(f"  not fit to run: {problem}")
    if problems:
        raise InputError(problems[0])


def check_prepared(longest: Plan) -> None:
    """Raise InputError for what the prepared corpus shows not to fit.

    Arguments
    ---------
    longest : Plan
        With all steps that it may come to have.

    Raises
    ------
    InputError
        Too few utterances or speakers, sounds that are not there, or a crop
        longer than every utterance.
    """
    leaves = check_plan(longest)
    size = corpus_size(longest, leaves, None)
    problems = find_problems(longest, leaves, size and size.n_train)
    if problems:
        raise InputError(problems[0])
    check_crops(
        longest, leaves, read_manifest(longest.corpus.train, "utterances")
    )


def _print_estimates(
    longest: Plan,
    leaves: Mapping[str, Leaf],
    files: CorpusFiles | None,
    planner: Estimator,
    device: str,
) -> None:
    """Print the true state of each step, and what it takes."""
    plan = load_plan(longest.settings)
    states = states_of(plan, leaves, files)
    lists = planner.size.n_trials if planner.size else ()
    found = {s.name: planner.of(s) for s in plan.steps}
    lines = plan_lines(plan, states, lambda s: found[s.name], list(lists))
    print("\n".join(lines))
    left = [e for name, e in found.items() if states[name][0] != DONE]
    n_used = max(planner.processes(leaves[s.name].settings) for s in plan.steps)
    print("\n".join(_total_lines(left, device, n_used)))


def plan_lines(
    plan: Plan,
    states: Mapping[str, tuple[str, str]],
    estimate: Callable[[Step[Any]], Estimate] | None = None,
    lists: Sequence[str] = (),
) -> list[str]:
    """Return the steps of a plan in lines: state, estimates, what each is.

    Arguments
    ---------
    plan : Plan
        The plan.
    states : mapping of str to (str, str)
        State of each step, and a reason.
    estimate : callable, optional
        Returns the `Estimate` for a step; None: none is printed.
    lists : sequence of str
        Names of the trial lists that are scored.

    Returns
    -------
    list of str
    """
    lines = [f"{len(plan.steps)} steps:"]
    if estimate:
        head = f"{'hours':>9}{'memory':>9}{'disk':>9}"
        lines[0] = f"{lines[0]:39}{head}"
    for step in plan.steps:
        state, reason = states[step.name]
        words = f"  {state:7}{step.name:30}"
        found = Estimate()
        if estimate and state != DONE:
            found = estimate(step)
            words += f"{in_hours(found.hours):>9}"
            words += f"{in_bytes(found.memory):>9}{in_bytes(found.disk):>9}"
        elif estimate:
            words += f"{'-':>9}" * 3
        if step.kind is Kind.SCORE and lists:
            words += f"  lists {' '.join(lists)}"
        elif step.system.row and step.kind.folder_name == "model":
            words += f"  row {step.system.row!r}"
        lines.append(f"{words}  {step.recipe}  {Path(step.hparams).name}")
        if found.source:
            reason = "; ".join(
                filter(None, (reason, f"hours scaled from {found.source}"))
            )
        if reason:
            lines.append(f"         {reason}")
    if not plan.rounds.stopped:
        lines.append(
            "  then, while churn falls, further rounds; see max_rounds"
        )
    return lines


def _total_lines(
    found: Sequence[Estimate], device: str, processes: int
) -> list[str]:
    """Return the sums of estimates, and what machine they are for."""
    sums = []
    for name, words in (("hours", in_hours), ("disk", in_bytes)):
        values = [getattr(each, name) for each in found]
        known = sum(value for value in values if value is not None)
        n_lost = sum(value is None for value in values)
        if n_lost == len(found):
            sums.append("unknown" if found else "none")
            continue
        more = f" and {n_lost} steps unknown" if n_lost else ""
        sums.append(f"{words(known)}{more}")
    known = [e.memory for e in found if e.memory is not None]
    memory = "memory: unknown" if found else "memory: none"
    if known:
        memory = f"at most {in_bytes(max(known))} of memory in a process"
    lines = [f"  remaining time: {sums[0]}; {memory}; disk: {sums[1]}"]
    if known:
        lines.append(
            f"  at the speed of this machine now, {processes} process(es) on "
            f"{device}; time for augmentation, heads, losses and checkpoints "
            "comes on top"
        )
    return lines


def simple_states(plan: Plan) -> dict[str, tuple[str, str]]:
    """Return what the folders of the steps tell at a glance."""
    found = {}
    for step in plan.steps:
        state = RESUME if step.artifacts.is_begun else TO_DO
        found[step.name] = (DONE if step.artifacts.is_done else state, "")
    return found


class Watch:
    """Watch of a run: which step begins, the time gone and the time left.

    Arguments
    ---------
    settings : RunRounds
        The plan. Time counts from now.
    """

    def __init__(self, settings: RunRounds):
        self.leaves = check_plan(longest_plan(settings))
        self.size: Size | None = None
        self.began = time.monotonic()

    def line(self, step: Step[Any], plan: Plan) -> str:
        """Return the line that a step begins with.

        Arguments
        ---------
        step : Step
            One of the plan's.
        plan : Plan
            As it is now. What is left is known from its steps that are done.
        """
        if self.size is None and plan.corpus.is_done:
            self.size = corpus_size(plan, self.leaves, None)
        number = plan.steps.index(step)
        planner = Estimator(plan, self.leaves, self.size)
        left, is_whole = planner.left(plan.steps[number:])
        return progress_line(
            number + 1,
            len(plan.steps),
            f"{step.words} ({step.name})",
            time.monotonic() - self.began,
            left,
            is_whole and plan.rounds.stopped,
        )
