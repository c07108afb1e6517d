"""The contrastive table: its cells, their caveats, skipped when done."""

import json

import pytest
from tiny_wavlm import TINY
from tiny_whisper import whole

from benchmarks import cells, contrastive
from recipes import make_oracle_labels
from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.training.settings import TrainContrastive
from speechbrain_ext.utils.errors import InputError


def test_the_table_has_every_encoder_back_end_and_choice_of_positives():
    found = contrastive.all_cells()
    assert len(found) == 2 * 3 * (3 + 1) + 2
    assert found["tuned MHFA ssps"] == {
        "encoder": "tuned",
        "back-end": "MHFA",
        "positives": "ssps",
        "method": "simclr",
    }
    assert found["ECAPA moco"]["method"] == "moco"


def test_all_cells_of_the_table_have_the_same_training_settings():
    keys = (
        "lr_schedule",
        "lr_end",
        "n_warmup_epochs",
        "max_grad_norm",
        "clip_per_tensor",
        "loss",
    )
    given = dict.fromkeys(
        ("output_folder", "train_annotation", "data_folder"), "somewhere"
    )
    given["n_epochs"] = 20
    first, *others = (
        read_leaf(TrainContrastive, leaf, given).settings
        for leaf in contrastive.LEAF.values()
    )
    for other in others:
        for key in keys:
            assert getattr(first, key) == getattr(other, key), key


def test_means_leave_out_missing_values():
    rows = [{"a": 1.0, "b": None}, {"a": 2.0, "b": None}]
    assert cells.mean_of(rows) == {"a": 1.5, "b": None}


def test_an_unknown_cell_is_named(tmp_path):
    with pytest.raises(InputError, match="cells .'warm'. are not of"):
        contrastive.main([f"--output_folder={tmp_path}", "--cells", "warm"])


TINY_WAVLM = {
    "encoder_source": None,
    "encoder_config": TINY,
}


def test_finished_cells_are_skipped_the_second_time(tmp_path):
    argv = [
        f"--output_folder={tmp_path / 'out'}",
        f"--output={tmp_path / 'table.json'}",
        "--toy={n_speakers: 4, n_test_speakers: 2, n_sessions: 2, "
        "n_utterances: 3, min_seconds: 0.6, max_seconds: 0.8, n_trials: 20, "
        "n_sounds: 1, num_workers: 1}",
        f"--wavlm={json.dumps(TINY_WAVLM)}",
        *"--n_epochs 1 --n_ssps_epochs 1 --ssps_clusters 8 --n_keys 16".split(),
        *"--batch_size 8 --crop 0.5 --cells".split(),
        *("tuned TDNN oracle", "frozen MHFA ssps", "ECAPA moco"),
    ]
    contrastive.main(argv)
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["positives"] for row in rows] == ["oracle", "ssps", "utterance"]
    assert all(0 <= row["eer toy"] <= 100 for row in rows)
    assert [row["caveat"] for row in rows] == [
        "synthetic voices; encoder of random weights, not pre-trained; true "
        "speakers chose the positives: true labels were used in training",
        "synthetic voices; encoder of random weights, not pre-trained",
        "synthetic voices",
    ]
    # Only what was tuned has moved.
    assert [row.get("layer_1", 0) > 0 for row in rows] == [True, False, False]
    assert (tmp_path / "table.png").exists()
    receipts = {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("stage.json")
    }
    assert len(receipts) == 1 + 3 * 3 + 3  # any two are compared
    contrastive.main(argv)
    for path, when in receipts.items():
        assert path.stat().st_mtime_ns == when
    assert json.loads((tmp_path / "table.json").read_text())["rows"] == rows


def test_a_cell_on_labels_is_compared_with_one_on_pairs(tmp_path):
    """The same encoder and length; how far its layers moved is known too."""
    encoder = tmp_path / "encoder"
    whole().save_pretrained(encoder)
    out = tmp_path / "out"
    shared = [
        f"--output_folder={out}",
        f"--output={tmp_path / 'table.json'}",
        f"--wavlm={{encoder_source: {encoder}, n_layers: 1}}",
        *"--n_epochs 1 --batch_size 8 --crop 0.5".split(),
    ]
    toy = (
        "--toy={n_speakers: 4, n_test_speakers: 2, n_sessions: 2, "
        "n_utterances: 3, min_seconds: 0.6, max_seconds: 0.8, n_trials: 20, "
        "n_sounds: 1, num_workers: 1}"
    )
    cell = "tuned TDNN pseudo-labels"
    with pytest.raises(InputError, match="--labels is not given"):
        contrastive.main([*shared, toy, "--cells", cell])
    cells.start(
        "prepare_toy",
        "prepare_toy.yaml",
        output_folder=str(out / "corpus"),
        **cells.yaml_values(toy.removeprefix("--toy=")),
    )
    make_oracle_labels.main(
        [
            "hparams/make_oracle_labels.yaml",
            f"--train_annotation={out / 'corpus' / 'train.csv'}",
            f"--oracle={out / 'corpus' / 'oracle.csv'}",
            f"--output_folder={tmp_path / 'labels'}",
        ]
    )
    labels = f"--labels={tmp_path / 'labels' / 'pseudo_labels.csv'}"
    names = ["tuned TDNN utterance", cell]
    contrastive.main([*shared, toy, labels, "--cells", *names])
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["method"] for row in table["rows"]] == ["simclr", "aam"]
    # Only what was kept of the encoder, which moved in both.
    for row in table["rows"]:
        assert row["layer_1"] > 0 and "layer_2" not in row
    (compared,) = table["comparisons"]
    assert compared["first"] == "tuned TDNN utterance, raw"
    assert compared["second"] == f"{cell}, raw"
    rates = [row["eer toy"] for row in table["rows"]]
    assert compared["eer_percent"] == pytest.approx(rates, abs=1e-3)
