"""Work that all recipes share: settings, stage record, log, skipping.

Command line to checked hparams, a folder with a log, the archived script and
the resolved YAML, skip or resume by record, and the record at the end.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.utils.distributed import infer_device, run_on_main
from speechbrain.utils.logger import setup_logging
from speechbrain.utils.run_opts import RunOptions
from speechbrain.utils.seed import seed_everything

from speechbrain_ext.commands.command_line import work_begins
from speechbrain_ext.commands.folder_lock import LOCK, FolderLock
from speechbrain_ext.commands.recipe_help import asks_for_help, recipe_help
from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.stage_records import (
    LOG,
    REQUEST,
    RESOLVED,
    check_as_made,
    is_begun,
    is_finished,
    move_aside,
    write_record,
)
from speechbrain_ext.utils.devices import checked_device, keep_freed_memory
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    PathLike,
    copy_file,
    remove_leftovers,
    write_json,
    write_text,
)
from speechbrain_ext.utils.precision import mixed_precision
from speechbrain_ext.utils.provenance import describe_input
from speechbrain_ext.utils.settings import Settings
from speechbrain_ext.utils.terminal import console_logging, hide_progress_bars
from speechbrain_ext.utils.yaml_trees import find_yaml, parse_options, plain

logger = logging.getLogger(__name__)


def parse_command_line(argv: list[str]) -> tuple[str, RunOptions, str]:
    """Read a command line as SpeechBrain does; report errors in one line.

    Arguments
    ---------
    argv : list of str
        The YAML file, run options and overrides.

    Returns
    -------
    tuple
        The YAML file, the run options, and the overrides as YAML.

    Raises
    ------
    InputError
        A run option has a value that it does not take.

    Example
    -------
    >>> parse_command_line(["a.yaml", "--max_grad_norm=x"])
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: max_grad_norm is x; it must be ...
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return RunOptions.from_command_line_args(argv)
    except SystemExit as stop:
        if not stop.code:
            raise
    text = said.getvalue().strip().rpartition("error: ")[2]
    choice = re.match(
        r"argument --(\w+): invalid choice: '(.*)' \(choose from (.*)\)$", text
    )
    if choice:
        key, value, known = choice.groups()
        known = known.replace("'", "")
        raise InputError(
            f"{key} is {value}; it must be one of {known}; correct --{key}"
        )
    found = re.match(r"argument --(\w+): invalid (\w+) value: '(.*)'$", text)
    if not found:
        raise InputError(f"the command line is wrong: {text}; see --help")
    key, kind, value = found.groups()
    rule = {"int": "a whole number", "float": "a number"}.get(kind, kind)
    raise InputError(f"{key} is {value}; it must be {rule}; correct --{key}")


def split_command_line(
    argv: list[str], keys: Iterable[str]
) -> tuple[list[str], str]:
    """Split a command line into SpeechBrain's run options and overrides.

    SpeechBrain's own parser turns ``=`` in a value into a blank, and takes
    ``--max_grad=3`` for an option, which it then ignores. Run options that
    are also keys of the recipe are checked like keys. A key without a value,
    as ``--dry_run``, is true; with an empty one, as ``--dry_run=``, null.

    Arguments
    ---------
    argv : list of str
        The YAML file, run options and overrides.
    keys : iterable of str
        The recipe's.

    Returns
    -------
    tuple
        The command line without overrides, and the overrides as YAML.

    Example
    -------
    >>> words = "a.yaml --debug --seed=1 --dry_run --folder a=b".split()
    >>> rest, overrides = split_command_line(words, [])
    >>> rest
    ['a.yaml', '--debug']
    >>> print(overrides)
    seed: 1
    dry_run: true
    folder: a=b
    """
    options = (RunOptions().as_dict().keys() | {"help"}) - set(keys)
    rest: list[str] = []
    found: list[tuple[str, list[str]]] = []
    is_override = False
    for word in argv:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            is_override = name not in options
        if not is_override:
            rest.append(word)
        elif word.startswith("--"):
            found.append((name, [value] if equals else []))
        else:
            # A value apart from its key, as in `--seed 1`.
            found[-1][1].append(word)
    lines = (f"{name}: {' '.join(v) if v else 'true'}" for name, v in found)
    return rest, "\n".join(line.strip() for line in lines)


class RecipeRun:
    """One run of one recipe.

    Arguments
    ---------
    script : str
        The recipe's ``__file__``.
    kind : type
        Its settings class.
    argv : list of str, optional
        Command line without the program: the YAML file, then SpeechBrain run
        options and ``--key=value`` overrides; ``sys.argv[1:]`` when None.
    debug : mapping, optional
        Values of the YAML's keys that ``--debug`` changes.

    Raises
    ------
    InputError
        A key is unknown, missing, of another type or out of range, or this
        machine has no such device.

    Example
    -------
    >>> import dataclasses
    >>> from speechbrain_ext.utils.settings import Settings, setting
    >>> @dataclasses.dataclass(kw_only=True)
    ... class Count(Settings):
    ...     recipe = "count"
    ...     n_words: int = setting(3, "how many", low=1)
    >>> folder = getfixture("tmp_path")
    >>> leaf = folder / "count.yaml"
    >>> _ = leaf.write_text(f"output_folder: {folder}/out\\n")
    >>> run = RecipeRun("count.py", Count, [str(leaf), "--n_words=4"])
    >>> run.settings.n_words
    4
    """

    def __init__(
        self,
        script: str,
        kind: type[Settings],
        argv: list[str] | None = None,
        debug: Mapping[str, Any] | None = None,
    ):
        self.script = Path(script)
        argv = list(sys.argv[1:] if argv is None else argv)
        self.command = ["python", script, *argv]
        is_given = bool(argv) and not argv[0].startswith("-")
        if asks_for_help(argv):
            leaf = find_yaml(argv[0]) if is_given else None
            print(recipe_help(kind, self.script, leaf))
            sys.exit()
        if not is_given:
            raise InputError(
                f"usage: python {self.script} HPARAMS.yaml [--key=value ...]; "
                f"no YAML file was given, see hparams/{self.script.stem}*.yaml "
                "and --help"
            )
        self._refuse_options(kind, argv)
        argv, overrides = split_command_line(argv, kind.keys())
        name, self.run_opts, unknown = parse_command_line(argv)
        self._join_processes()
        given = parse_options(f"{overrides}\n{unknown}")
        preset = debug if self.run_opts.debug else None
        self.leaf = read_leaf(kind, name, given, preset)
        self.settings: Any = self.leaf.settings
        if self.options.device is not None:
            checked_device(self.options.device)
        hide_progress_bars(self.options.noprogressbar)
        self.folder = Path(self.settings.output_folder)
        self.request: dict[str, Any] = {}
        self.resumed = False
        self._start = time.monotonic()
        self._lock: FolderLock | None = None

    def _join_processes(self) -> None:
        """Begin to work with the other processes of torchrun, if any."""
        try:
            sb.utils.distributed.ddp_init_group(self.run_opts)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"distributed_backend is {self.run_opts.distributed_backend}; "
                f"these processes cannot work together: {reason}; start no "
                "more than there are GPUs, or give --distributed_backend=gloo"
            ) from None

    @staticmethod
    def _refuse_options(kind: type[Settings], argv: list[str]) -> None:
        for word in argv:
            option, _, value = word[2:].partition("=")
            if word.startswith("--") and option in kind.refused_options:
                raise InputError(
                    f"{option} is {value or 'true'}; it would change nothing, "
                    f"since {kind.refused_options[option]}; leave --{option} "
                    "out"
                )

    @property
    def options(self) -> RunOptions:
        """SpeechBrain's run options, from the YAML and the command line."""
        given = {n: self.run_opts[n] for n in self.run_opts.overridden_args}
        return RunOptions.from_dictionary({**self.leaf.options, **given})

    @property
    def applied_precision(self) -> str:
        """Precision in which a recipe applies a model: ``fp32`` by default.

        ``eval_precision`` if it is given, ``precision`` otherwise: a plan may
        so train in one and embed in another.
        """
        options = self.options
        if "eval_precision" in options.overridden_args:
            return options.eval_precision
        return options.precision

    @property
    def device(self) -> str:
        """Device that a model is applied on: a GPU if there is one."""
        return self.options.device or infer_device()

    def applying(self) -> AbstractContextManager[Any]:
        """Return the context in which a recipe applies a model."""
        return mixed_precision(self.applied_precision, self.device)

    def applied_request(self) -> dict[str, Any]:
        """Return what `applied_precision` adds to a request, if anything."""
        precision = self.applied_precision
        return {} if precision == "fp32" else {"applied_precision": precision}

    def is_done(
        self,
        inputs: Mapping[str, PathLike] | None = None,
        check: Callable[[], None] | None = None,
        **extra: Any,
    ) -> bool:
        """Begin the stage; return True if its record shows it finished.

        Otherwise the folder is opened (log, archived script, resolved YAML,
        ``request.json``) and the seed set; work found unfinished there is
        the recipe's to resume.

        Arguments
        ---------
        inputs : mapping of str to path, optional
            Files read, hashed into the request.
        check : callable, optional
            Called by the first process if the stage is not finished, before
            anything is written; it raises InputError for bad input.
        **extra : Any
            Further parts of the request (plain values).

        Returns
        -------
        bool
            Whether to skip.
        """
        options = self._deciding_options()
        if options:
            extra["run_options"] = options
        done = run_on_main(self._begin, args=[inputs or {}, extra, check])
        if not done:
            self._state_work()
        self._log()
        if done:
            logger.info(f"{self.script.stem}: {self.folder} is done, skipped")
        else:
            if checked_device(self.options.device).type == "cpu":
                keep_freed_memory()
            seed_everything(self.settings.seed, verbose=False)
        return done

    def _deciding_options(self) -> dict[str, Any]:
        """Return the non-default SpeechBrain options that change the result."""
        default = RunOptions()
        given = {**default.as_dict(), **self.leaf.options}
        for name in self.run_opts.overridden_args:
            given[name] = self.run_opts[name]
        if given["test_only"]:
            raise InputError(
                "--test_only trains nothing, and this recipe only trains; "
                "leave it out, or run extract_embeddings and score_trials"
            )
        if self.settings.deciding_options:
            self._check_half_precision()
        return {
            name: str(given[name])
            for name in self.settings.deciding_options
            if given[name] != default[name] and name not in self.settings.keys()
        }

    def _check_half_precision(self) -> None:
        """Raise InputError if a training on a CPU is to be in float16."""
        if checked_device(self.options.device).type != "cpu":
            return
        for key in ("precision", "eval_precision"):
            if self.options[key] == "fp16":
                raise InputError(
                    f"{key} is fp16; a training on a CPU takes fp32 or bf16; "
                    f"give --{key}=bf16"
                )

    def _begin(
        self, inputs: Mapping, extra: dict, check: Callable[[], None] | None
    ) -> bool:
        described = {
            name: describe_input(path, keep=self.folder)
            for name, path in inputs.items()
        }
        for entry in described.values():
            check_as_made(entry["path"], entry["sha256"])
        self.request = {
            "recipe": self.script.stem,
            "inputs": described,
            "hparams": self.leaf.record,
            **extra,
        }
        self.request = plain(self.request)
        overwrite = self.settings.overwrite
        # A finished folder may be read-only, and is not locked.
        if not overwrite and is_finished(self.folder, self.request):
            self._remove_lock_file()
            return True
        if check is not None:
            check()
        self.claim()
        # A folder begun by this command is kept: after a kill it resumes.
        if overwrite and not is_begun(self.folder, self.request):
            if move_aside(self.folder):
                self.claim()
        # Another command may have finished it until now.
        if is_finished(self.folder, self.request):
            self.release()
            return True
        self.resumed = (self.folder / REQUEST).exists()
        if self.resumed:
            remove_leftovers(self.folder)
        copy_file(self.script, self.folder / self.script.name)
        write_text(self.folder / RESOLVED, self.leaf.text)
        write_json(self.folder / REQUEST, self.request)
        return False

    def claim(self) -> None:
        """Lock the output folder, so that no other command writes there.

        Raises
        ------
        InputError
            Another command works there.
        """
        self.release()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.folder)
        self._state_work()

    def release(self) -> None:
        """Free the output folder, if this process has locked it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _state_work(self) -> None:
        work_begins(self.folder, self.settings.again, self.folder / LOG)

    def _remove_lock_file(self) -> None:
        """Remove what a command leaves that is killed as it ends."""
        if (self.folder / LOCK).exists():
            with contextlib.suppress(OSError, InputError):
                FolderLock(self.folder, wait=0).release()

    def _log(self) -> None:
        log = self.folder / LOG
        # What is done may lie in a read-only folder.
        writable = os.access(log if log.exists() else log.parent, os.W_OK)
        if writable and sb.utils.distributed.if_main_process():
            setup_logging(sb.core.DEFAULT_LOG_CONFIG, console_logging(str(log)))
            logger.debug(f"command: {shlex.join(self.command)}")
            # These libraries log every font and every kernel at DEBUG level.
            for chatty in ("matplotlib", "numba", "faiss", "PIL"):
                logging.getLogger(chatty).setLevel(logging.WARNING)

    def objects(self) -> dict[str, Any]:
        """Build the objects of the hparams, with the seed set."""
        seed_everything(self.settings.seed, verbose=False)
        return self.leaf.objects()

    @property
    def world_size(self) -> int:
        """Number of processes that torchrun started; 1 without torchrun."""
        # Not WORLD_SIZE: schedulers set it for unrelated processes too.
        if sb.utils.distributed.is_distributed_initialized():
            return torch.distributed.get_world_size()
        return 1

    def finish(self, outputs: list[str], **facts: Any) -> None:
        """Write the stage record: outputs (names in the folder) and facts."""
        # What this Python does next is no longer this recipe's.
        hide_progress_bars(False)
        seconds = time.monotonic() - self._start
        run_on_main(
            write_record,
            args=[
                self.folder,
                self.request,
                outputs,
                seconds,
                {"resumed": self.resumed, **plain(facts)},
            ],
        )
        self.release()
        logger.info(f"{self.script.stem}: {self.folder} in {seconds:.0f} s")
