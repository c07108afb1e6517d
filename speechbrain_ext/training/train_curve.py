"""Training curve: one row for each epoch, checkpointed, written as CSV."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import if_main_process

from speechbrain_ext.utils.files import PathLike, atomic_path


@register_checkpoint_hooks
class TrainCurve:
    """Statistics by epoch, each row once even after kills and resumes.

    Arguments
    ---------
    path : str or os.PathLike
        The CSV file, rewritten at every epoch.

    Example
    -------
    >>> path = getfixture("tmp_path") / "train_curve.csv"
    >>> curve = TrainCurve(path)
    >>> curve.append(epoch=1, loss=2.5)
    >>> path.read_text().split()
    ['epoch,loss', '1,2.5']
    """

    def __init__(self, path: PathLike):
        self.path = Path(path)
        self.rows: list[dict[str, float]] = []

    def append(self, **statistics: float) -> None:
        """Add an epoch's statistics and write the file."""
        self.rows.append(statistics)
        self._write()

    def _write(self) -> None:
        if if_main_process() and self.rows:
            with atomic_path(self.path) as part:
                pd.DataFrame(self.rows).to_csv(part, index=False)

    @mark_as_saver
    def _save(self, path: PathLike) -> None:
        Path(path).write_text(json.dumps(self.rows), encoding="utf-8")

    @mark_as_loader
    def _load(self, path: PathLike, end_of_epoch: bool) -> None:
        del end_of_epoch
        self.rows = json.loads(Path(path).read_text(encoding="utf-8"))
        # A killed run may have written an epoch that is trained again.
        self._write()
