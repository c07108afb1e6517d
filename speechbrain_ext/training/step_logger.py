"""Logging of steps: a line under the progress bar, and TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping

from speechbrain.utils.distributed import if_main_process
from torch.utils.tensorboard import SummaryWriter

from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.terminal import progress_bar, statistics_in_words


class StepLogger:
    """Logger that shows every step and writes some steps to TensorBoard.

    Only the main process logs.

    Arguments
    ---------
    folder : str or os.PathLike
        Of the TensorBoard event files.
    first_step : int
        The step that training starts or resumes from. What a killed run wrote
        of later steps is hidden.
    interval : int
        Interval in steps between the steps that are written.
    shown : bool
        Whether to show the line.

    Example
    -------
    >>> logger = StepLogger(getfixture("tmp_path"), first_step=0, shown=False)
    >>> logger.begin_epoch(1, n_epochs=2)
    >>> logger.step(1, {"loss": 2.5})
    >>> logger.epoch(1, {"loss": 2.5, "eer": 20.0})
    """

    def __init__(
        self,
        folder: PathLike,
        first_step: int,
        interval: int = 20,
        shown: bool = True,
    ):
        self.interval = interval
        self.place = ""
        self.writer = None
        if if_main_process():
            self.writer = SummaryWriter(str(folder), purge_step=first_step + 1)
        self.line = progress_bar(
            bar_format="{desc}",
            position=1,
            leave=False,
            shown=shown,
        )

    def begin_epoch(self, epoch: int, n_epochs: int) -> None:
        """Begin an epoch, counted from 1, which the line names."""
        self.place = f"epoch {epoch} of {n_epochs}: "

    def step(self, step: int, statistics: Mapping[str, float]) -> None:
        """Log a step, counted from 1."""
        words = self.place + statistics_in_words(statistics)
        self.line.set_description_str(words, refresh=False)
        self.line.update()
        if step % self.interval == 0:
            self._write("step", step, statistics)

    def epoch(self, step: int, statistics: Mapping[str, float]) -> None:
        """Log an epoch, whose last step is ``step``."""
        self._write("epoch", step, statistics)
        if self.writer is not None:
            self.writer.flush()

    def _write(self, group: str, step: int, statistics: Mapping) -> None:
        if self.writer is not None:
            for name, value in statistics.items():
                self.writer.add_scalar(f"{group}/{name}", value, step)
