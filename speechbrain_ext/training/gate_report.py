"""Files about the loss gate: its history, plots and label states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from speechbrain_ext.losses.noisy_labels import NoisyLabels
from speechbrain_ext.training.plots import gate_fits, gate_shares
from speechbrain_ext.utils.files import atomic_path, write_json
from speechbrain_ext.utils.plotting import save_png


def write_gate_files(
    folder: Path, noisy_labels: NoisyLabels, ids: np.ndarray, names: list[str]
) -> list[str]:
    """Write ``gate.json``, its plots and ``label_states.csv``.

    Arguments
    ---------
    folder : pathlib.Path
        Where to.
    noisy_labels : NoisyLabels
        After the last epoch.
    ids : numpy.ndarray
        IDs of the training manifest [N].
    names : list of str
        Of the classes.

    Returns
    -------
    list of str
        The names written; none without a gate.
    """
    if noisy_labels.gate is None:
        return []
    history = noisy_labels.gate.history
    write_json(folder / "gate.json", history)
    save_png(gate_fits(history), folder / "gate_fits.png")
    save_png(gate_shares(history), folder / "gate_shares.png")
    with atomic_path(folder / "label_states.csv") as part:
        states = pd.DataFrame(noisy_labels.states(ids, names))
        states.to_csv(part, index=False)
    return "gate.json gate_fits.png gate_shares.png label_states.csv".split()
