"""Checkpoints that are either complete or absent."""

from __future__ import annotations

import logging
import shutil
import time
from typing import Any

from speechbrain.utils.checkpoints import Checkpoint, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from speechbrain_ext.utils.files import move_synced

logger = logging.getLogger(__name__)


class WholeCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer, made safe against a kill while it saves.

    SpeechBrain writes the file that marks a folder as a checkpoint first,
    so a run that is killed while saving would resume from an incomplete one.
    Here a checkpoint is saved under ``partial`` and moved when it is complete.

    Example
    -------
    >>> import torch
    >>> folder = getfixture("tmp_path")
    >>> checkpointer = WholeCheckpointer(folder, {"model": torch.nn.PReLU()})
    >>> checkpointer.save_checkpoint(name="a").path == folder / "CKPT+a"
    True
    >>> sorted(path.name for path in (folder / "CKPT+a").iterdir())
    ['CKPT.yaml', 'model.ckpt']
    """

    def save_checkpoint(
        self,
        meta: dict[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        verbosity: int = logging.INFO,
    ) -> Checkpoint | None:
        """Save a checkpoint; arguments are `Checkpointer.save_checkpoint`'s."""
        folder = self.checkpoints_dir / "partial"
        if if_main_process():
            # An interrupted save may have left it.
            shutil.rmtree(folder, ignore_errors=True)
        ddp_barrier()
        partial = Checkpointer(
            folder,
            self.recoverables,
            custom_save_hooks=self.custom_save_hooks,
        ).save_checkpoint(
            meta or {}, end_of_epoch, name or str(time.time_ns()), logging.DEBUG
        )
        whole = None
        if partial is not None:
            path = self.checkpoints_dir / partial.path.name
            move_synced(partial.path, path)
            folder.rmdir()
            files = {k: path / f.name for k, f in partial.paramfiles.items()}
            whole = Checkpoint(path, partial.meta, files)
            logger.log(verbosity, f"saved {path}")
        # Processes list the folder next and must see the same files.
        ddp_barrier()
        return whole
