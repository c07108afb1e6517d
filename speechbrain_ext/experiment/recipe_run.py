"""What every recipe does around its own work.

Command line to checked hparams, a folder with a log, the archived script and
the resolved YAML, skip or resume by receipt, and the receipt at the end.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.utils.distributed import run_on_main
from speechbrain.utils.logger import setup_logging
from speechbrain.utils.run_opts import RunOptions
from speechbrain.utils.seed import seed_everything

from speechbrain_ext.experiment.receipts import (
    LOG,
    REQUEST,
    RESOLVED,
    check_request,
    is_begun,
    move_aside,
    write_receipt,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, write_json, write_text
from speechbrain_ext.utils.provenance import describe_file
from speechbrain_ext.utils.settings import (
    check_keys,
    check_overrides,
    load_yaml_objects,
    parse_yaml,
    plain,
    read_yaml,
    resolve,
)

logger = logging.getLogger(__name__)

# They steer the stage and not its result.
_NOT_IN_REQUEST = (
    "output_folder overwrite data_folder num_workers train_receipt "
    "collapse_patience eer_trials eer_annotation eer_interval push private "
    "dry_run"
).split()
# Run options that decide the result; the others only how it is reached.
_DECIDING = (
    "debug debug_batches debug_epochs precision eval_precision max_grad_norm "
    "grad_accumulation_factor optimizer_step_limit skip_nonfinite_grads "
    "remove_vector_weight_decay"
).split()


class Stage:
    """One run of one recipe.

    Arguments
    ---------
    script : str
        The recipe's ``__file__``.
    argv : list of str, optional
        Command line without the program: the YAML file, then SpeechBrain run
        options and ``--key=value`` overrides; ``sys.argv[1:]`` when None.

    Raises
    ------
    InputError
        The YAML or an override has a key the recipe does not know, or lacks
        one that it reads.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> script = folder / "count.py"
    >>> _ = script.write_text("n = settings['n_words']")
    >>> leaf = folder / "count.yaml"
    >>> _ = leaf.write_text(
    ...     f"seed: 1\\noverwrite: False\\noutput_folder: {folder}/out\\n"
    ...     "n_words: 3\\n"
    ... )
    >>> stage = Stage(str(script), [str(leaf), "--n_words=4"])
    >>> stage.settings["n_words"]
    4
    """

    def __init__(self, script: str, argv: list[str] | None = None):
        self.script = Path(script)
        argv = list(sys.argv[1:] if argv is None else argv)
        if not argv or argv[0].startswith("-"):
            raise InputError(
                f"usage: python {self.script} HPARAMS.yaml [--key=value ...]; "
                f"no YAML file was given, see hparams/{self.script.stem}*.yaml"
            )
        self.hparams_file, self.run_opts, self.overrides = (
            RunOptions.from_command_line_args(argv)
        )
        sb.utils.distributed.ddp_init_group(self.run_opts)
        tree = read_yaml(self.hparams_file)
        check_overrides(self.hparams_file, tree, self.overrides)
        check_keys(self.script, self.hparams_file, tree)
        self.resolved = resolve(self.hparams_file, self.overrides)
        self.settings: dict[str, Any] = plain(parse_yaml(self.resolved))
        self.folder = Path(self.settings["output_folder"])
        self.request: dict[str, Any] = {}
        self.resumed = False
        self._start = time.time()

    def is_done(
        self,
        inputs: dict[str, PathLike] | None = None,
        **extra: Any,
    ) -> bool:
        """Begin: True when the receipt shows this very work finished.

        Otherwise the folder is opened (log, archived script, resolved YAML,
        ``request.json``) and the seed set; work found unfinished there is
        the recipe's to resume.

        Arguments
        ---------
        inputs : dict of str to path, optional
            Files read, hashed into the request.
        **extra : Any
            Further parts of the request (plain values).

        Returns
        -------
        bool
            Whether to skip.
        """
        tree = plain(parse_yaml(self.resolved), tags=True)
        settings = {
            key: value
            for key, value in tree.items()
            if key not in _NOT_IN_REQUEST
            and key not in RunOptions().keys()
            and not _names_input(value, inputs or {})
        }
        options = self._deciding_options()
        if options:
            extra["run_options"] = options
        done = run_on_main(self._begin, args=[settings, inputs or {}, extra])
        self._log()
        if done:
            logger.info(f"{self.script.stem}: {self.folder} is done, skipped")
        else:
            seed_everything(int(self.settings["seed"]), verbose=False)
        return done

    def _deciding_options(self) -> dict[str, Any]:
        """SpeechBrain run options that change the result, if not default."""
        default = RunOptions()
        given = {**default.as_dict(), **self.settings}
        for name in self.run_opts.overridden_args:
            given[name] = self.run_opts[name]
        if given["test_only"]:
            raise InputError(
                "--test_only trains nothing, and this recipe only trains; "
                "leave it out, or run extract_embeddings and score_trials"
            )
        return {
            name: str(given[name])
            for name in _DECIDING
            if given[name] != default[name]
        }

    def _begin(self, settings: dict, inputs: dict, extra: dict) -> bool:
        self.request = {
            "recipe": self.script.stem,
            "inputs": {
                name: describe_file(path) for name, path in inputs.items()
            },
            "hparams": settings,
            **extra,
        }
        self.request = plain(self.request)
        if self.settings["overwrite"]:
            # Not what this very command began: after a kill it goes on.
            if not is_begun(self.folder, self.request):
                move_aside(self.folder)
        if check_request(self.folder, self.request):
            return True
        self.resumed = (self.folder / REQUEST).exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.script, self.folder / self.script.name)
        write_text(self.folder / RESOLVED, self.resolved)
        write_json(self.folder / REQUEST, self.request)
        return False

    def _log(self) -> None:
        log = self.folder / LOG
        if log.parent.is_dir() and sb.utils.distributed.if_main_process():
            setup_logging(
                sb.core.DEFAULT_LOG_CONFIG,
                {"handlers": {"file_handler": {"filename": str(log)}}},
            )
            # These narrate every font and every compiled kernel at DEBUG.
            for chatty in ("matplotlib", "numba", "faiss", "PIL"):
                logging.getLogger(chatty).setLevel(logging.WARNING)

    def load(self) -> dict[str, Any]:
        """The hparams with their objects built, seeded."""
        seed_everything(int(self.settings["seed"]), verbose=False)
        return load_yaml_objects(self.hparams_file, self.overrides)

    @property
    def world_size(self) -> int:
        """Processes started by torchrun; 1 without it."""
        # Not WORLD_SIZE: schedulers set it for processes that do not meet.
        if sb.utils.distributed.is_distributed_initialized():
            return torch.distributed.get_world_size()
        return 1

    def share(self, size: int) -> int:
        """This process's part of a ``batch_size``, which counts them all."""
        if size % self.world_size:
            raise InputError(
                f"batch_size {size} cannot be shared by {self.world_size} "
                f"processes; give a multiple of {self.world_size}"
            )
        return size // self.world_size

    def finish(self, outputs: list[str], **facts: Any) -> None:
        """Write the receipt: outputs (names in the folder) and facts."""
        seconds = time.time() - self._start
        run_on_main(
            write_receipt,
            args=[
                self.folder,
                self.request,
                outputs,
                seconds,
                {"resumed": self.resumed, **plain(facts)},
            ],
        )
        logger.info(f"{self.script.stem}: {self.folder} in {seconds:.0f} s")


def _names_input(value: Any, inputs: dict[str, PathLike]) -> bool:
    """Whether a setting is the path of an input, or of a folder above it.

    Inputs count by their bytes: where they lie may change.
    """
    if not isinstance(value, str) or not value:
        return False
    paths = [Path(path) for path in inputs.values()]
    return any(Path(value) in (path, *path.parents) for path in paths)
