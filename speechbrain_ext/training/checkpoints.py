"""Checkpoints that are complete, unchanged and in the order of training."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speechbrain.utils.checkpoints import (
    CKPT_PREFIX,
    METAFNAME,
    Checkpoint,
    Checkpointer,
)
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from speechbrain_ext.utils.distributed import from_first_process
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import (
    move_synced,
    read_json,
    sha256,
    write_json,
    wrong_shape,
)

logger = logging.getLogger(__name__)

# Two: the one before replaces one that is damaged.
N_KEPT = 2
HASHES = "hashes.json"
_PARTIAL, _DAMAGED = "partial", "damaged-"


def progress(checkpoint: Checkpoint) -> tuple[int, bool, int]:
    """Return the place of a checkpoint in a training, to order them by.

    Epoch, whether it had ended, and the batches of it. Times are not looked
    at: the clock may have been set back.

    Example
    -------
    >>> early = Checkpoint("a", {"epoch": 2, "end-of-epoch": True}, {})
    >>> late = Checkpoint("b", {"epoch": 3, "end-of-epoch": False,
    ...     "step": 5, "unixtime": 0}, {})
    >>> progress(early) < progress(late)
    True
    """
    meta = checkpoint.meta
    ended = bool(meta.get("end-of-epoch"))
    return meta.get("epoch", 0), ended, meta.get("step", 0)


class WholeCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer, safe against kills, damage and clocks.

    SpeechBrain writes the file that marks a folder as a checkpoint first,
    so a run that is killed while saving would resume from an incomplete one.
    Here a checkpoint is saved under ``partial`` and moved when it is complete.
    It has a file of hashes: one whose files have changed since is not loaded,
    and the one before is. The newest is the one of the most training, by
    ``epoch`` and ``step`` of its meta, not the one of the latest time.

    Example
    -------
    >>> import torch
    >>> folder = getfixture("tmp_path")
    >>> checkpointer = WholeCheckpointer(folder, {"model": torch.nn.PReLU()})
    >>> checkpointer.save_checkpoint(name="a").path == folder / "CKPT+a"
    True
    >>> sorted(path.name for path in (folder / "CKPT+a").iterdir())
    ['CKPT.yaml', 'hashes.json', 'model.ckpt']
    """

    def save_checkpoint(
        self,
        meta: dict[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        verbosity: int = logging.INFO,
    ) -> Checkpoint | None:
        """Save a checkpoint; arguments are `Checkpointer.save_checkpoint`'s."""
        folder = self.checkpoints_dir / _PARTIAL
        if if_main_process():
            # An interrupted save may have left it.
            shutil.rmtree(folder, ignore_errors=True)
        ddp_barrier()
        partial = Checkpointer(
            folder,
            self.recoverables,
            custom_save_hooks=self.custom_save_hooks,
        ).save_checkpoint(
            meta or {},
            end_of_epoch,
            name or _name(meta or {}, end_of_epoch),
            logging.DEBUG,
        )
        # Files that other processes wrote are there now.
        ddp_barrier()
        whole = None
        if partial is not None:
            write_json(partial.path / HASHES, _hashes(partial.path))
            path = self.checkpoints_dir / partial.path.name
            self._discard(path)
            move_synced(partial.path, path)
            shutil.rmtree(folder)
            files = {k: path / f.name for k, f in partial.paramfiles.items()}
            whole = Checkpoint(path, partial.meta, files)
            logger.log(verbosity, f"saved {path}")
        # Processes list the folder next and must see the same files.
        ddp_barrier()
        return whole

    def find_checkpoints(
        self,
        importance_key: Callable[[Checkpoint], Any] | None = None,
        max_key: str | None = None,
        min_key: str | None = None,
        ckpt_predicate: Callable[[Checkpoint], bool] | None = None,
        max_num_checkpoints: int | None = None,
    ) -> list[Checkpoint]:
        """List checkpoints by `progress`, the newest first, if by nothing else.

        Arguments are `Checkpointer.find_checkpoints`'s.
        """
        if importance_key is None and max_key is None and min_key is None:
            importance_key = progress
        return super().find_checkpoints(
            importance_key,
            max_key,
            min_key,
            ckpt_predicate,
            max_num_checkpoints,
        )

    def save_and_keep_only(
        self,
        meta: dict[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        num_to_keep: int = N_KEPT,
        keep_recent: bool = True,
        importance_keys: Any = (),
        max_keys: Any = (),
        min_keys: Any = (),
        ckpt_predicate: Callable[[Checkpoint], bool] | None = None,
        verbosity: int = logging.INFO,
    ) -> None:
        """Save a checkpoint and delete all but the newest, by `progress`.

        Arguments are `Checkpointer.save_and_keep_only`'s.
        """
        self.save_checkpoint(meta, end_of_epoch, name, verbosity)
        recent = [progress] if keep_recent else []
        rules: list[dict[str, Any]] = [
            *({"importance_key": key} for key in (*importance_keys, *recent)),
            *({"max_key": key} for key in max_keys),
            *({"min_key": key} for key in min_keys),
        ]
        old, kept = set(), set()
        for rule in rules:
            found = self.find_checkpoints(**rule, ckpt_predicate=ckpt_predicate)
            old |= {checkpoint.path for checkpoint in found}
            kept |= {checkpoint.path for checkpoint in found[:num_to_keep]}
        ddp_barrier()
        if if_main_process():
            for path in sorted(old - kept):
                self._discard(path)
            # Newer work is saved: what was damaged is of no use any more.
            for path in sorted(self.checkpoints_dir.glob(f"{_DAMAGED}*")):
                self._discard(path)
        ddp_barrier()

    def recover_if_possible(self, *args: Any, **options: Any) -> Any:
        """Load the newest checkpoint that is as it was saved.

        Arguments are `Checkpointer.recover_if_possible`'s.

        Raises
        ------
        InputError
            All checkpoints are damaged.
        """
        error = from_first_process(self._set_damaged_aside)
        if error:
            raise InputError(error)
        return super().recover_if_possible(*args, **options)

    def _set_damaged_aside(self) -> str:
        """Rename damaged checkpoints; return an error if all are damaged."""
        root = self.checkpoints_dir
        shutil.rmtree(root / _PARTIAL, ignore_errors=True)
        folders = sorted(root.glob(f"{CKPT_PREFIX}+*"))
        found = {folder: damage_of(folder) for folder in folders}
        wrong = {folder: said for folder, said in found.items() if said}
        lines = [f"{folder / said}" for folder, said in wrong.items()]
        if wrong and len(wrong) == len(found):
            return (
                f"{lines[0]}, and no other checkpoint is whole; delete the "
                f"folder {root}, and the same command trains from the start"
            )
        for folder, line in zip(wrong, lines, strict=True):
            aside = root / f"{_DAMAGED}{folder.name}"
            self._discard(aside)
            os.replace(folder, aside)
            logger.warning(
                f"{line}; this checkpoint is left out, training goes on from "
                "the other"
            )
        return ""

    def _discard(self, folder: Path) -> None:
        """Delete a checkpoint; a kill in between leaves no half of it."""
        if folder.exists():
            partial = self.checkpoints_dir / _PARTIAL
            partial.mkdir(exist_ok=True)
            aside = partial / f"{_DAMAGED}{folder.name}"
            os.replace(folder, aside)
            shutil.rmtree(aside)
            if not any(partial.iterdir()):
                partial.rmdir()


def damage_of(folder: Path) -> str:
    """Return which file of a checkpoint is damaged and how; empty: none.

    Arguments
    ---------
    folder : pathlib.Path
        Of a checkpoint. One of an earlier version, which wrote no hashes, is
        taken as it is.

    Returns
    -------
    str
        In words, the file's name first.

    Example
    -------
    >>> import torch
    >>> saver = WholeCheckpointer(getfixture("tmp_path"),
    ...     {"model": torch.nn.PReLU()})
    >>> folder = saver.save_checkpoint(name="a").path
    >>> damage_of(folder)
    ''
    >>> _ = (folder / "model.ckpt").write_bytes(b"")
    >>> damage_of(folder)
    'model.ckpt is empty'
    """
    if not (folder / HASHES).is_file():
        return "" if _is_older(folder) else f"{HASHES} is missing"
    try:
        hashes = read_json(folder / HASHES)
    except InputError:
        return f"{HASHES} is not JSON"
    wrong = wrong_shape(hashes, {METAFNAME: str})
    if wrong:
        return f"{HASHES} is damaged: {wrong}"
    for name, wanted in hashes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if not path.stat().st_size:
            return f"{name} is empty"
        if sha256(path) != wanted:
            return f"{name} has other bytes than were saved"
    return ""


def _is_older(folder: Path) -> bool:
    """Return whether a checkpoint is of a version that wrote no hashes."""
    path = folder / METAFNAME
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    return "end-of-epoch" in text and "step" not in text


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.iterdir())}


def _name(meta: dict[str, Any], end_of_epoch: bool) -> str:
    """Return the name of a checkpoint, which says where the training is."""
    if "epoch" not in meta:
        return str(time.time_ns())
    within = "" if end_of_epoch else f"-batch{meta.get('step', 0)}"
    return f"epoch{meta['epoch']}{within}"
