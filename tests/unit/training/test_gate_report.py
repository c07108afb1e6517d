"""Files on the loss gate: complete, and absent without a gate."""

import json

import numpy as np
import pandas as pd
import torch

from speechbrain_ext.losses.aam_softmax import AAMSoftmax
from speechbrain_ext.losses.noisy_labels import NoisyLabels
from speechbrain_ext.training.gate_report import write_gate_files


def test_history_plots_and_label_states_are_written(tmp_path):
    torch.manual_seed(0)
    noisy = NoisyLabels(20, "hard")
    rows = torch.arange(20)
    noisy.decide(1, rows, rows % 3, torch.randn(20, 4), AAMSoftmax(4, 3), None)
    noisy.close(1)
    ids = np.array([f"u{n}" for n in range(20)])
    names = write_gate_files(tmp_path, noisy, ids, ["a", "b", "c"])
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    history = json.loads((tmp_path / "gate.json").read_text())
    assert [entry["epoch"] for entry in history] == [1]
    states = pd.read_csv(tmp_path / "label_states.csv", keep_default_na=False)
    assert states.columns.tolist() == [
        "ID",
        "epoch",
        "log_loss",
        "weight",
        "kept",
        "corrected",
        "confirmed",
    ]
    assert states.ID.tolist() == ids.tolist()
    assert states.kept.all() and (states.corrected == "").all()
    assert not states.confirmed.any()
    for name in ("gate_fits.png", "gate_shares.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_without_a_gate_nothing_is_written(tmp_path):
    noisy = NoisyLabels(20)
    assert write_gate_files(tmp_path, noisy, np.arange(20), []) == []
    assert not list(tmp_path.iterdir())
