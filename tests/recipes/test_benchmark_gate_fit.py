"""The table of the gate's fits: labels by size, and what each fit would do."""

import json

import numpy as np
import pytest

from benchmarks import gate_fit
from speechbrain_ext.losses.loss_gate import FITS
from speechbrain_ext.losses.two_gaussians import Mixture

LOW, HIGH = np.linspace(-2, -1, 40), np.linspace(2, 2.4, 20)


@pytest.mark.parametrize("fit", ["mixture", "valley"])
def test_a_fit_of_two_modes_rejects_the_upper(fit):
    gate = gate_fit.gate_of(fit, np.concatenate([LOW, HIGH]), None)
    assert -1 < gate.threshold < 2


def test_a_drawn_fit_has_the_threshold_of_its_gaussians():
    pair = Mixture((0.5, 0.5), (0.0, 4.0), (1.0, 1.0))
    assert gate_fit.gate_of("drawn", LOW, pair).threshold == 2
    assert gate_fit.gate_of("drawn", LOW, None).threshold == np.inf


def test_the_table_has_a_row_for_each_size(tmp_path):
    argv = [
        f"--output_folder={tmp_path / 'out'}",
        f"--output={tmp_path / 'fits.json'}",
        "--toy={n_speakers: 4, n_test_speakers: 2, n_sessions: 2, "
        "n_utterances: 5, min_seconds: 0.6, max_seconds: 0.8, n_trials: 20, "
        "n_sounds: 1, num_workers: 1}",
        "--embedder={width: 8, width_last: 16, attention_channels: 8, "
        "embedding_size: 8}",
        *"--share 0.25 --per_speaker 4 10 --n_epochs 2 --crop 0.5".split(),
        *"--batch_size 8".split(),
    ]
    gate_fit.main(argv)
    rows = json.loads((tmp_path / "fits.json").read_text())["rows"]
    assert [row["n_utterances"] for row in rows] == [16, 40]
    for row in rows:
        assert row["two modes"] in (0, 1)
        for fit in FITS:
            if not row[f"{fit}: threshold"]:
                assert row[f"{fit}: caught (of wrong)"] == 0
                assert row[f"{fit}: lost (of right)"] == 0
    assert (tmp_path / "fits.png").exists()
