"""Run the whole loop: bootstrap, rounds, tuning, upper bound, report.

Every step is a recipe of its own, started as a process with its own folder;
this driver only decides what comes next. A step whose stage record shows it
done is skipped, one that was interrupted resumes. To run it:

> python recipes/run_rounds.py hparams/plans/quickstart.yaml
> python recipes/run_rounds.py hparams/plans/minivox.yaml --data_folder=MINIVOX
> torchrun is started by the driver: --launcher=auto for all GPUs of the
  machine, or --launcher="[torchrun, --standalone, --nproc_per_node, '4']"

With ``--n_rounds=auto`` rounds go on until few labels change: after each, the
plan grows or ends. ``--dry_run=True`` prints the plan, what it takes and what
is not fit; ``--from_stage=round1/model`` moves that step and all later ones
aside and does them again; ``--debug`` runs the whole plan on synthetic voices,
models tiny.
With ``--start_embedder=FOLDER`` or ``--start_embeddings=FILE`` no bootstrap is
trained: the first clusters are of that.
"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from speechbrain.utils.run_opts import RunOptions

from speechbrain_ext.clustering.stopping import AUTO
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.experiment.artifacts import ScoreArtifacts
from speechbrain_ext.experiment.debug_plan import debug_plan, debug_values
from speechbrain_ext.experiment.dry_run import (
    Watch,
    check_prepared,
    check_run,
    plan_lines,
    simple_states,
)
from speechbrain_ext.experiment.late_values import late_values
from speechbrain_ext.experiment.launch import (
    AUTO_LAUNCHER,
    how_ended,
    launcher_words,
    recipe_words,
    run_recipe,
)
from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.plan import Plan, load_plan, longest_plan
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.experiment.recipe_settings import settings_of
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.experiment.stage_records import move_aside
from speechbrain_ext.experiment.steps import Kind, Step
from speechbrain_ext.report.clips import FOLDER as CLIPS
from speechbrain_ext.report.run_report import write_run_report
from speechbrain_ext.utils.errors import InputError, StepError
from speechbrain_ext.utils.files import (
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)
from speechbrain_ext.utils.provenance import recorded_command
from speechbrain_ext.verification.results import read_result


def check_first(steps: list[Step[Any]], name: str | None) -> None:
    """Raise InputError if ``from_stage`` names no step of the plan."""
    names = [step.name for step in steps]
    if name is not None and name not in names:
        raise InputError(
            f"from_stage is {name!r}; this plan has no such step; give one "
            f"of {names}"
        )


def restart_from(steps: list[Step[Any]], name: str, note: Path) -> None:
    """Move the folders of a step and of all later steps aside, once.

    ``note`` remembers it until the plan has ended: the same command typed
    again after a kill goes on instead of starting over again.
    """
    names = [step.name for step in steps]
    if note.exists() and read_json(note) == {"from_stage": name}:
        return
    # In reverse order: after a kill in between, earlier steps remain.
    for step in reversed(steps[names.index(name) :]):
        aside = move_aside(step.folder)
        if aside:
            print(f"moved {step.folder} to {aside}")
    write_json(note, {"from_stage": name})


def given_options(run_opts: RunOptions) -> list[str]:
    """Return the words of the SpeechBrain run options that each step gets."""
    words = []
    # A debug plan is already small: its steps run without --debug.
    for key in sorted(run_opts.overridden_args - {"param_file", "debug"}):
        value = run_opts[key]
        if value is not None and value is not False:
            words.append(f"--{key}" if value is True else f"--{key}={value}")
    return words


def launcher_of(
    step: Step[Any], values: dict[str, Any], settings: RunRounds
) -> list[str]:
    """Return the words that start a step's processes; none: this Python."""
    if not step.kind.launched:
        return []
    kind = settings_of(step.recipe)
    given = read_leaf(kind, step.hparams, values).settings
    return launcher_words(settings.launcher, getattr(given, "batch_size", None))


def start(step: Step[Any], plan: Plan, options: list[str]) -> None:
    """Run one step until it ends; a failure stops the plan."""
    settings = plan.settings
    late = {}
    if step.late:
        late = late_values(plan.corpus, settings.data_folder)
    values = step.values(late)
    words = recipe_words(
        step.recipe,
        step.hparams,
        values,
        launcher_of(step, values, settings),
        options,
    )
    code = run_recipe(words)
    if code:
        print(f"its command: {shlex.join(words)}", flush=True)
        raise StepError(
            f"step {step.name} {how_ended(code)}, see above and "
            f"{step.folder / 'log.txt'}; once the cause is removed the same "
            "command goes on from here",
            code,
        )


def show(step: Step[Any]) -> None:
    """Print a scored step's error rates."""
    if isinstance(step.artifacts, ScoreArtifacts):
        for path in step.artifacts.results():
            result = read_result(path)
            print(
                f"-- {result.system.name}, {result.system.backend}, on "
                f"{result.trials.name}: EER {result.eer.value:.2f} %, "
                f"minDCF {result.min_dcf.value:.4f}"
            )


def follow(settings: RunRounds, options: list[str], watch: Watch) -> Plan:
    """Run the steps of a plan that may grow; return the final plan.

    The export is left for later: it follows the report.
    """
    n_done = 0
    while n_done < len((plan := load_plan(settings)).steps):
        step = plan.steps[n_done]
        if step.kind is not Kind.EXPORT:
            print(f"\n== {watch.line(step, plan)}", flush=True)
            start(step, plan, options)
            show(step)
        if step.kind is Kind.PREPARE and plan.corpus.train.exists():
            check_prepared(longest_plan(settings))
        n_done += 1
    if settings.n_rounds == AUTO:
        rounds = plan.rounds
        print(f"\n-- stopped after round {rounds.n_rounds}: {rounds.reason}")
    return plan


def main(argv: list[str] | None = None) -> None:
    """Make the plan, check it, run it and write its report."""
    recipe = RecipeRun(__file__, RunRounds, argv, debug=debug_values())
    settings: RunRounds = recipe.settings
    if recipe.run_opts.debug:
        print(
            "--debug: synthetic voices and tiny models; data_folder is not read"
        )
        settings = debug_plan(settings)
        recipe.folder = Path(settings.output_folder)
    if recipe.options.device is not None and settings.launcher == AUTO_LAUNCHER:
        # A device that is given is one process's.
        settings = dataclasses.replace(settings, launcher=[])
    longest = longest_plan(settings)
    first = settings.from_stage
    check_first(longest.steps, first)
    device = recipe.device
    check_run(longest, settings.dry_run, device)
    if settings.dry_run:
        return
    recipe.claim()
    if settings.overwrite:
        first = longest.steps[0].name
    note = Path(settings.output_folder) / "restart.json"
    if first is not None:
        restart_from(longest.steps, first, note)
    remove_half_written(settings)
    folder = Path(settings.output_folder)
    write_text(folder / "plan.yaml", recipe.leaf.text)
    with recorded_command(folder, recipe.command):
        run_plan(settings, given_options(recipe.options))
    note.unlink(missing_ok=True)
    recipe.release()


def remove_half_written(settings: RunRounds) -> None:
    """Remove what killed drivers left; each step sees to its own folder."""
    folder = Path(settings.output_folder)
    remove_leftovers(folder, below=False)
    remove_leftovers(folder / CLIPS)
    remove_leftovers(Path(settings.results_folder) / "runs" / settings.run)


def run_plan(settings: RunRounds, options: list[str]) -> None:
    """Run all steps of a plan and write its report."""
    plan = load_plan(settings)
    print("\n".join(plan_lines(plan, simple_states(plan))))
    watch = Watch(settings)
    plan = follow(settings, options, watch)
    write_run_report(plan)
    # The report is kept even if the model cannot be exported.
    if plan.export is not None:
        print(f"\n== {watch.line(plan.export, plan)}", flush=True)
        start(plan.export, plan, options)
    print(f"\nmodel:  {plan.model_folder}")


if __name__ == "__main__":
    run(main)
