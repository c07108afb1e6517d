"""Figures of training steps: a line under the progress bar, TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping

from speechbrain.utils.distributed import if_main_process
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from speechbrain_ext.utils.files import PathLike


class StepLogger:
    """Shows every step and writes some of them; silent in other processes.

    Arguments
    ---------
    folder : str or os.PathLike
        Of the TensorBoard event files.
    first_step : int
        Where this process begins; what an earlier one, since killed, wrote of
        later steps is hidden.
    interval : int
        Steps between those that are written.
    shown : bool
        Whether there is a line.

    Example
    -------
    >>> monitor = StepLogger(getfixture("tmp_path"), first_step=0, shown=False)
    >>> monitor.step(1, {"loss": 2.5})
    >>> monitor.epoch(1, {"loss": 2.5, "eer": 20.0})
    """

    def __init__(
        self,
        folder: PathLike,
        first_step: int,
        interval: int = 20,
        shown: bool = True,
    ):
        self.interval = interval
        self.writer = None
        if if_main_process():
            self.writer = SummaryWriter(str(folder), purge_step=first_step + 1)
        self.line = tqdm(
            bar_format="{desc}",
            position=1,
            leave=False,
            disable=not (shown and if_main_process()),
        )

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a step, counted from 1."""
        words = ", ".join(f"{k} {v:.3g}" for k, v in figures.items())
        self.line.set_description_str(words, refresh=False)
        self.line.update()
        if step % self.interval == 0:
            self._write("step", step, figures)

    def epoch(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of an epoch, whose last step is ``step``."""
        self._write("epoch", step, figures)
        if self.writer is not None:
            self.writer.flush()

    def _write(self, group: str, step: int, figures: Mapping) -> None:
        if self.writer is not None:
            for name, value in figures.items():
                self.writer.add_scalar(f"{group}/{name}", value, step)
