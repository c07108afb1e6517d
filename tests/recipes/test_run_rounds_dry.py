"""The paper's plan on a tree of VoxCeleb's shape: said in full, or refused."""

import json
import re

import numpy as np
import pytest
import soundfile
import torch
from tiny_wavlm import TINY

from recipes import run_rounds
from speechbrain_ext.experiment import estimates
from speechbrain_ext.models.step_cost import Cost
from speechbrain_ext.utils.errors import InputError

PLAN = "hparams/plans/voxceleb.yaml"
LISTS = {
    "O": "veri_test2.txt",
    "E": "list_test_all2.txt",
    "H": "list_test_hard2.txt",
}
DEV = "dev/aac/id000{}/21Uxsk56VDQ/0000{}.wav"
TEST = "id1027{}/5r0dWxy17C8/0000{}.wav"
TRIALS = [
    f"1 {TEST.format(0, 1)} {TEST.format(0, 2)}",
    f"0 {TEST.format(0, 1)} {TEST.format(1, 1)}",
    f"1 {TEST.format(1, 2)} {TEST.format(1, 1)}",
]
SMALL = {
    "width": 8,
    "width_last": 16,
    "attention_channels": 8,
    "embedding_size": 8,
}
# What lets the plan of a million utterances run on eight.
FITTING = {
    "bootstrap": {"set": {"batch_size": 4}},
    "labels": {"set": {"n_centroids": 6}},
    "train": {"set": {"batch_size": 4}},
    "large_margin": {"set": {"batch_size": 4}},
    "score": {"set": {"top_k": 2}},
}


def write_wav(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(size=16000)
    soundfile.write(path, 0.1 * noise, 16000)


@pytest.fixture
def tree(tmp_path):
    """VoxCeleb, MUSAN, RIRS_NOISES and an encoder, as they unpack."""
    for speaker in range(4):
        for number in (1, 2):
            write_wav(tmp_path / "vox" / DEV.format(10 + speaker, number))
            name = TEST.format(speaker % 2, number)
            write_wav(tmp_path / "vox" / "wav" / name)
    for file in LISTS.values():
        (tmp_path / "vox" / file).write_text("\n".join(TRIALS) + "\n")
    for kind in ("music", "noise", "speech"):
        write_wav(tmp_path / "musan" / kind / "a.wav")
    for room in ("smallroom", "mediumroom", "largeroom"):
        write_wav(tmp_path / "RIRS_NOISES/simulated_rirs" / room / "a.wav")
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    config = {"model_type": "wavlm", **TINY}
    (encoder / "config.json").write_text(json.dumps(config))
    (encoder / "model.safetensors").write_bytes(b"weights")
    return tmp_path


@pytest.fixture
def measured(monkeypatch):
    """Costs of an embedder, without the seconds to measure them."""
    cost = Cost(0.01, 0.004, 1e6, 1000, 1000, 8)
    monkeypatch.setattr(estimates, "training_cost", lambda *_: cost)


def start(tree, *options, stages=None):
    """Run the plan in this process; all steps fail, for none is to begin."""
    stages = {**(stages or {}), "prepare": {"set": {"trials": LISTS}}}
    rounds = {"encoder_source": str(tree / "encoder"), "n_heads": 2}
    run_rounds.main(
        [
            PLAN,
            f"--data_folder={tree / 'vox'}",
            f"--musan={tree / 'musan'}",
            f"--rirs={tree / 'RIRS_NOISES'}",
            f"--output_folder={tree / 'exp'}",
            f"--embedder={json.dumps(SMALL)}",
            f"--round_embedder={json.dumps(rounds)}",
            f"--stages={json.dumps(stages)}",
            *options,
        ]
    )


def test_the_papers_sequence_is_printed_with_estimates(tree, capsys):
    start(tree, "--dry_run=True", "--n_clusters=4", stages=FITTING)
    lines = capsys.readouterr().out.splitlines()
    rows = [
        m.group(1) for m in (re.search(r"row '(.*)'", t) for t in lines) if m
    ]
    assert rows == [
        "DINO",
        "+ pseudo-labels",
        "+ loss gate",
        "round 1",
        "round 2",
        "round 3",
        "+ large margin",
        "topline (true labels)",
        "topline + large margin",
    ]
    scored = [line for line in lines if "score_trials" in line]
    assert len(scored) == len(rows) + 1  # and the published model
    assert all("lists O E H" in line for line in scored)
    trained = [line for line in lines if " train_" in line]
    assert len(trained) == len(rows)
    for line in trained:
        assert line.startswith("  to do ")
        assert re.search(r"( h|min) .*B .*B ", line), line
    assert any(line.startswith("  remaining time: ") for line in lines)
    assert ", 1 process(es) on cpu; " in lines[-1]
    assert not (tree / "exp").exists()


WRONG = [
    (TRIALS[1], "line 4: the pair .* is there twice .*allow_repeats"),
    (f"1 {TEST.format(0, 1)} {TEST.format(0, 1)}", "line 4: .* with itself"),
    (f"0 {TEST.format(0, 1)} id9/none.wav", "line 4: 'id9/none.wav' is not in"),
    (f"yes {TEST.format(0, 1)}", "line 4: .* is not a trial"),
]


@pytest.mark.parametrize(
    ("line", "message", "dry_run"),
    [(*WRONG[0], True), *((*each, False) for each in WRONG)],
)
def test_a_wrong_line_stops_the_run_before_any_step(
    tree, capsys, measured, monkeypatch, dry_run, line, message
):
    def begin(step, plan, options):
        raise AssertionError(f"{step.name} began")

    monkeypatch.setattr(run_rounds, "start", begin)
    path = tree / "vox" / LISTS["E"]
    path.write_text("\n".join([*TRIALS, line]) + "\n")
    with pytest.raises(InputError, match=message) as stop:
        start(tree, f"--dry_run={dry_run}")
    assert str(stop.value).startswith(f"{path} ")
    assert "\n" not in str(stop.value)
    said = capsys.readouterr().out
    assert ("round3/model" in said) == dry_run
    # The estimates are there all the same.
    assert not dry_run or re.search(r"round3/model .* min .*B .*B ", said)
    assert not (tree / "exp" / "corpus").exists()


def test_a_repeat_is_counted_if_the_plan_says_so(tree, measured):
    path = tree / "vox" / LISTS["H"]
    path.write_text("\n".join([*TRIALS, TRIALS[0]]) + "\n")
    score = {"set": {"allow_repeats": True, "top_k": 2}}
    stages = {**FITTING, "score": score}
    start(tree, "--dry_run=True", "--n_clusters=4", stages=stages)


LOST = [
    ("musan/noise/a.wav", "musan/noise holds no recording"),
    ("encoder/model.safetensors", "the folder has no weights"),
    ("vox/veri_test2.txt", "veri_test2.txt is not a file"),
]


@pytest.mark.parametrize(("name", "message"), LOST)
def test_what_is_missing_is_named(tree, capsys, measured, name, message):
    (tree / name).unlink()
    with pytest.raises(InputError, match=message):
        start(tree, "--dry_run=True", "--n_clusters=4", stages=FITTING)
    said = capsys.readouterr().out
    assert "not fit to run: " in said
    if name.endswith("veri_test2.txt"):
        # Without a corpus nothing was estimated, and nothing is claimed.
        assert "time: unknown; memory: unknown; disk: unknown" in said
        assert "speed of this machine" not in said


def test_too_few_utterances_for_the_plan_are_all_told(tree, capsys, measured):
    with pytest.raises(InputError, match="batch_size is 128; there are 8"):
        start(tree, "--dry_run=True")
    said = capsys.readouterr().out
    assert "not fit to run: n_clusters is 7500; 8 utterances allow 7" in said


UTTERANCES = [
    f"id000{speaker}/21Uxsk56VDQ/0000{number}.wav"
    for speaker in range(10, 14)
    for number in (1, 2)
]
GIVEN = [
    (UTTERANCES, torch.ones(2, 4), "has shape .2, 4. .*; save one"),
    (UTTERANCES[:5], torch.ones(4), "3 of 8 utterances have no embedding"),
    (UTTERANCES, torch.full((4,), torch.nan), "holds NaN or infinity"),
]


@pytest.mark.parametrize(("ids", "row", "message"), GIVEN)
def test_given_embeddings_are_read_before_the_corpus_is_prepared(
    tree, ids, row, message
):
    torch.save(dict.fromkeys(ids, row), tree / "dino.pt")
    with pytest.raises(InputError, match=message):
        start(tree, f"--start_embeddings={tree / 'dino.pt'}")
    assert not (tree / "exp").exists()
