"""Whole runs of other plans: the paper's, DINO, a pre-trained encoder."""

import json

import tiny_whisper
import torch
from ruamel.yaml import YAML
from small_run import EMBEDDER, PLAN, TINY, call

from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.models.embedder_folder import load_embedder
from speechbrain_ext.utils.yaml_trees import read_yaml


def test_debug_runs_every_step_of_the_papers_plan(tmp_path):
    plan = "hparams/plans/voxceleb.yaml"
    folder = f"--output_folder={tmp_path}/exp"
    done = call(plan, "--debug", folder, "--noprogressbar")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folder = tmp_path / "exp_debug"
    scores = folder / "results" / "runs" / "voxceleb_debug" / "scores"
    systems = [
        json.loads(path.read_text())["system"]
        for path in sorted(scores.glob("*.json"))
    ]
    assert list(dict.fromkeys(system["name"] for system in systems)) == [
        "DINO",
        "+ pseudo-labels",
        "+ loss gate",
        "round 1",
        "round 2",
        "+ large margin",
        "topline (true labels)",
        "topline + large margin",
    ]
    caveats = {system["caveat"].partition("; ")[2] for system in systems}
    assert len(caveats) == 2 and "" in caveats
    assert all(s["caveat"].startswith("debug") for s in systems)
    for system in ("round1", "round2", "large_margin"):
        fits = json.loads((folder / system / "model/gate.json").read_text())
        assert len(fits) == 3
    assert not (folder / "topline" / "model" / "gate.json").exists()
    assert "over that of topline + large margin, raw" in done.stdout
    assert (folder / "report.html").exists()


def test_debug_runs_a_plan_without_trials(tmp_path):
    folder = f"--output_folder={tmp_path}/exp"
    plan = "hparams/plans/folder.yaml"
    done = call(plan, "--debug", folder, "--noprogressbar")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    model = tmp_path / "exp_debug" / "round2" / "model" / "embedder"
    assert done.stdout.splitlines()[-1] == f"model:  {model}"
    assert model.exists()
    page = (tmp_path / "exp_debug" / "report.html").read_text()
    assert "<h3>Cluster sizes</h3>" in page


def test_a_small_run_may_begin_with_dino(tmp_path):
    tree = read_yaml(PLAN)
    crops = {"global_crop": 0.8, "local_crop": 0.4}
    tree["stages"]["bootstrap"] = {
        "recipe": "train_dino",
        "hparams": "train_dino_ecapa_small.yaml",
        "set": {"n_epochs": 1, "batch_size": 8, **crops},
    }
    plan = tmp_path / "plan.yaml"
    with open(plan, "w", encoding="utf-8") as stream:
        YAML().dump(tree, stream)
    stages = {kind: TINY[kind] for kind in ("prepare", "labels", "score")}
    done = call(
        plan,
        f"--output_folder={tmp_path / 'run'}",
        f"--stages={json.dumps(stages)}",
        f"--embedder={json.dumps(EMBEDDER)}",
        "--topline=False",
        "--n_rounds=0",
        "--backends=raw",
        "--noprogressbar",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "-- DINO, raw, on toy: EER" in done.stdout
    page = (tmp_path / "run" / "report.html").read_text()
    assert "DINO after epoch 1" in page


ENCODER = """
base: plans/base.yaml
run: tiny
output_folder: !PLACEHOLDER
encoder_source: openai/whisper-tiny
embedder: {encoder_source: !ref <encoder_source>}
round_embedder:
    {encoder_source: !ref <encoder_source>, n_heads: 2, compression_size: 4,
     embedding_size: 8}
n_rounds: 1
large_margin: False
topline: False
backends: raw
n_clusters: 4
stages:
    prepare: {recipe: prepare_toy, hparams: prepare_toy.yaml}
    bootstrap:
        recipe: embed_pretrained
        hparams: embed_pretrained.yaml
        set: {choice_crop: 0.4, num_workers: 0}
    extract: {set: {num_workers: 0}}
    train: {set: {gate: null, correct_from_epoch: null, num_workers: 0}}
"""


def test_a_run_may_begin_with_a_pre_trained_encoder_as_it_is(tmp_path):
    """Its first clusters are of no training; the encoder is given once."""
    encoder, plan = tmp_path / "whisper", tmp_path / "plan.yaml"
    tiny_whisper.whole().save_pretrained(encoder)
    plan.write_text(ENCODER)
    stages = {k: TINY[k] for k in ("prepare", "labels", "train", "score")}
    done = call(
        plan,
        f"--encoder_source={encoder}",
        f"--output_folder={tmp_path}/run",
        f"--results_folder={tmp_path}/results",
        f"--stages={json.dumps(stages)}",
        "--noprogressbar",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    row = "-- pre-trained encoder, no training, raw, on toy: EER"
    assert row in done.stdout and "-- round 1, raw" in done.stdout
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Choice of the layer, bootstrap" in page
    curves = tmp_path / "results" / "runs" / "tiny" / "curves"
    assert (curves / "bootstrap_layers.csv").is_file()
    model = tmp_path / "run" / "published" / "export" / "model"
    trained = load_embedder(tmp_path / "run" / "round1" / "model" / "embedder")
    wav = torch.randn(16000) / 10
    found = SpeakerVerifier.from_pretrained(model).embed(wav)
    similar = torch.as_tensor(found).flatten() @ trained.embed(wav[None])[0]
    assert similar / trained.embed(wav[None]).norm() > 0.999
