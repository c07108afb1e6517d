"""The whole loop: bootstrap, rounds, large-margin tuning, topline, report.

Every step is a recipe of its own, started as a process with its own folder;
this driver only decides what comes next. A step whose receipt shows it done
is skipped, one that was interrupted resumes. To run it:

> python recipes/run_rounds.py hparams/plans/quickstart.yaml
> python recipes/run_rounds.py hparams/plans/minivox.yaml --data_folder=MINIVOX
> torchrun is started by the driver: --launcher="[torchrun, --standalone, \
      --nproc_per_node, 8]"

With ``--n_rounds=auto`` rounds go on until the labels come to rest: after each
the plan grows, or ends. ``--dry_run=True`` prints the plan;
``--from_stage=round1/model`` moves that step and all later ones aside and does
them again; ``--debug`` runs the whole plan on synthetic voices, models tiny.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from speechbrain.utils.run_opts import RunOptions

from speechbrain_ext.experiment.debug_plan import debug_plan, debug_words
from speechbrain_ext.experiment.plan import (
    Step,
    load_plan,
    longest_plan,
    rounds_of,
)
from speechbrain_ext.experiment.receipts import RECEIPT, REQUEST, move_aside
from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.experiment.run_report import model_folder, write_run_report
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json, write_json
from speechbrain_ext.utils.yaml_trees import (
    check_keys,
    check_overrides,
    read_yaml,
)

RECIPES = Path(__file__).parent
# Training on a CPU under load: glibc hands memory back to the kernel after
# every layer and OpenMP threads spin while they wait. Measured on 2 cores
# with other work beside it: 12 s a DINO step without these, 1.1 s with.
CPU_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}


def check_steps(steps: list[Step]) -> None:
    """Refuse misspelt keys and hidden true speakers before any work."""
    for step in steps:
        script = RECIPES / f"{step.recipe}.py"
        if not script.is_file():
            raise InputError(
                f"step {step.name}: no recipe {step.recipe!r} in {RECIPES}; "
                "correct `recipe` in the plan's YAML"
            )
        tree = read_yaml(step.hparams)
        check_keys(script, step.hparams, tree)
        check_overrides(step.hparams, tree, step.options)
        if {**tree, **step.options}.get("positives") == "oracle":
            raise InputError(
                f"step {step.name}: positives is 'oracle', so every later row "
                "would owe to true speakers and not say so; train_contrastive "
                "has that diagnostic by itself, here give ssps or utterance"
            )
        if "embedder" in step.options:
            path = step.options.get("embedder_yaml") or tree["embedder_yaml"]
            check_overrides(path, read_yaml(path), step.options["embedder"])


def print_plan(steps: list[Step]) -> None:
    """What is done, begun and still to do, one line a step."""
    print(f"{len(steps)} steps:")
    for step in steps:
        state = "to do"
        if (step.folder / RECEIPT).exists():
            state = "done"
        elif (step.folder / REQUEST).exists():
            state = "resume"
        print(f"  {state:7}{step.name:28}{step.recipe}  {step.hparams}")


def restart_from(steps: list[Step], name: str, note: Path) -> None:
    """Move a step's folder and those of all later steps aside, once.

    ``note`` remembers it until the plan has ended: the same command typed
    again after a kill goes on instead of starting over again.
    """
    names = [step.name for step in steps]
    if name not in names:
        raise InputError(
            f"--from_stage={name} is not a step of this plan; it has {names}"
        )
    if note.exists() and read_json(note) == {"from_stage": name}:
        return
    # The last first: after a kill in between, earlier steps still stand.
    for step in reversed(steps[names.index(name) :]):
        aside = move_aside(step.folder)
        if aside:
            print(f"moved {step.folder} to {aside}")
    write_json(note, {"from_stage": name})


def command(step: Step, launcher: list[str], run_opts: RunOptions) -> list[str]:
    """The words of a step's command line."""
    words = [sys.executable]
    if step.launched and launcher:
        words = [str(word) for word in launcher]
    words = [*words, str(RECIPES / f"{step.recipe}.py"), str(step.hparams)]
    for key, value in step.values().items():
        words.append(f"--{key}={json.dumps(value)}")
    for key in sorted(run_opts.overridden_args - {"param_file"}):
        value = run_opts[key]
        words.append(f"--{key}" if value is True else f"--{key}={value}")
    return words


def start(step: Step, launcher: list[str], run_opts: RunOptions) -> None:
    """Run one step to its end; a failure stops the plan."""
    words = command(step, launcher, run_opts)
    print(f"\n== {step.name}\n{shlex.join(words)}", flush=True)
    package = str(RECIPES.parent)
    paths = [package, os.environ.get("PYTHONPATH", "")]
    environment = {
        **CPU_ENVIRONMENT,
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    code = subprocess.run(words, env=environment).returncode
    if code:
        raise InputError(
            f"step {step.name} ended with status {code}, see above and "
            f"{step.folder / 'log.txt'}; after the cause is mended the same "
            "command goes on from here"
        )


def show(step: Step) -> None:
    """Print a scored step's error rates as soon as they exist."""
    for path in sorted(step.folder.glob("result_*.json")):
        row = read_json(path)
        print(
            f"-- {row['system']}, {row['backend']}, on {row['trials']}: "
            f"EER {row['eer_percent']:.2f} %, minDCF {row['min_dcf']:.4f}"
        )


def main(argv: list[str] | None = None) -> None:
    """Plan, check, do, report."""
    stage = Stage(__file__, debug_words(sys.argv[1:] if argv is None else argv))
    settings: dict[str, Any] = stage.settings
    if stage.run_opts.debug:
        settings = debug_plan(settings)
        # The small plan is run whole: its steps are not cut short as well.
        stage.run_opts.overridden_args.discard("debug")
    longest = longest_plan(settings)
    check_steps(longest)
    first = settings["from_stage"]
    if settings["overwrite"]:
        first = longest[0].name
    note = Path(settings["output_folder"]) / "restart.json"
    if first is not None and not settings["dry_run"]:
        restart_from(longest, first, note)
    print_plan(load_plan(settings))
    if not rounds_of(settings).stopped:
        print("  then, while churn falls, further rounds; see max_rounds")
    if settings["dry_run"]:
        return
    steps = follow(settings, stage.run_opts)
    write_run_report(settings, steps)
    # The report stands, whether or not the model is fit to be shared.
    for step in filter(is_export, steps):
        start(step, settings["launcher"], stage.run_opts)
    print(f"\nmodel:  {model_folder(settings, steps)}")
    note.unlink(missing_ok=True)


def is_export(step: Step) -> bool:
    """Whether a step makes the folder that is shared."""
    return step.recipe == "export_model"


def follow(settings: dict[str, Any], run_opts: RunOptions) -> list[Step]:
    """Do step after step of a plan that may grow; all that it became.

    But the export, which follows the report.
    """
    n_done = 0
    while n_done < len(steps := load_plan(settings)):
        if not is_export(steps[n_done]):
            start(steps[n_done], settings["launcher"], run_opts)
            show(steps[n_done])
        n_done += 1
    if settings["n_rounds"] == "auto":
        rounds = rounds_of(settings)
        print(f"\n-- stopped after round {rounds.n_rounds}: {rounds.reason}")
    return steps


if __name__ == "__main__":
    run(main)
