"""Two processes of half the batch train as one process of all of it.

In float64, where rounding is far below any fault, on every processor. In
float32 rounding grows from step to step, by how much depends on the processor:
there the first steps alone are compared.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import record_losses
import soundfile
import torch
from tiny_whisper import MHFA, SHORT
from tones import SMALL, without_speakers, write_tones

from speechbrain_ext.dataio.manifest import write_manifest

# Relative. With AVX-512 losses and curves agreed to 1e-13 in float64, and
# losses in float32, over the first steps, to 2e-6.
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}
N_FIRST = 3  # steps

COMMON = {
    "embedder": SMALL,
    "num_workers": 0,
    "n_warmup_epochs": 0,
    "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 2,
    "device": "cpu",
    "distributed_backend": "gloo",
}
# 20 utterances, three batches an epoch: the last two utterances are dropped.
DINO = {
    "head": "{hidden_size: 32, bottleneck_size: 16, n_prototypes: 64}",
    "global_crop": 0.3,
    "local_crop": 0.15,
    "n_local": 2,
    "batch_size": 6,
    "n_epochs": 4,
    "lr": 2e-3,
    "momentum": 0.8,
}
# 16 of them are trained on: four batches an epoch.
SPEAKER = {
    "crop": 0.4,
    "batch_size": 4,
    "n_epochs": 4,
    "valid_fraction": 0.2,
    "lr": 3e-4,
}
# The queue goes round four times. No projection: its BatchNorm would ignore
# the embeddings' bias, whose gradient were rounding.
CONTRASTIVE = {
    "method": "moco",
    "n_keys": 18,
    "momentum": 0.8,
    "crop": 0.3,
    "batch_size": 6,
    "n_epochs": 4,
    "lr": 3e-4,
}
TRAININGS = {
    "train_dino": ("train_dino_ecapa", DINO),
    "train_contrastive": ("train_contrastive_ecapa", CONTRASTIVE),
    "train_speaker": ("train_speaker_ecapa", SPEAKER),
}

# Augmentation, positives and the EER, in three epochs.
SSPS = {
    "positives": "ssps",
    "n_epochs": 3,
    "n_ssps_epochs": 2,
    "ssps_clusters": 4,
    "eer_interval": 1,
}
MORE = {**SSPS, "recompute_blocks": True}

# SimCLR, whose negatives are of all processes, with the same.
SIMCLR = {**SSPS, "method": "simclr", "loss": "{margin: 0.1}"}

# Gate, correction, weights, a capped sampler and distinct speakers: six batches
# an epoch.
NOISY = {
    "valid_fraction": 0,
    "n_epochs": 6,
    "gate": "soft",
    "gate_fit": "mixture",
    "gate_from_epoch": 4,
    "correct_from_epoch": 5,
    "correct_confidence": 0.3,
    "label_confidence": 0.2,
    "max_per_class": 6,
    "one_per_class": "true",
    "margin_rise": "[1, 2]",
}

# A Whisper whose windows are shorter than the crops.
WHISPER = {
    "embedder_yaml": "embedders/whisper_mhfa.yaml",
    "embedder": json.dumps({**MHFA, "encoder_config": SHORT}),
    "lr_parts": "{encoder: 1e-4}",
    "l2_sp_weight": 0.01,
    "n_epochs": 2,
}

# Two copies of the states of the same, frozen, with correction.
STATES = {
    **WHISPER,
    "embedder": json.dumps({**MHFA, "encoder_config": SHORT, "freeze": "all"}),
    "lr_parts": "{}",
    "l2_sp_weight": 0,
    "state_copies": 2,
    "n_epochs": 3,
    "gate": "soft",
    "gate_fit": "mixture",
    "gate_from_epoch": 2,
    "correct_from_epoch": 2,
    "correct_confidence": 0.26,
}

# After a checkpoint, in mid-epoch.
N_KILLED = {"train_dino": 5, "train_contrastive": 5, "train_speaker": 6}
N_NOISY_KILLED = 28
N_WHISPER_KILLED = 6


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rows = write_tones(folder, n_utterances=5)
    write_manifest(folder / "labels.csv", rows, "pseudo_labels")
    (folder / "noisy").mkdir()
    table = pd.DataFrame(write_tones(folder / "noisy", n_utterances=7))
    table["margin"] = np.linspace(0.1, 0.2, len(table))
    table.loc[[0, 9, 18], "spk_id"] = ["s2", "s0", "s1"]
    write_manifest(folder / "noisy" / "labels.csv", table, "pseudo_labels")
    rows = without_speakers(rows)
    write_manifest(folder / "train.csv", rows, "utterances")
    generator = np.random.default_rng(1)
    for kind in ("noise", "music", "speech", "rir"):
        (folder / "augment" / kind).mkdir(parents=True)
        wav = generator.normal(size=3000) * np.exp(-np.arange(3000) / 900)
        soundfile.write(folder / "augment" / kind / "0.wav", wav / 9, 16000)
    lines = ["1 s0-0.wav s0-1.wav", "1 s1-0.wav s1-1.wav"]
    lines += ["0 s0-0.wav s1-0.wav", "0 s2-0.wav s1-1.wav"]
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder


def more(corpus, folder, name="more", recipe="train_dino", options=MORE):
    """A training on views with all that one may have."""
    sounds = {"augment_folder": corpus / "augment"}
    watch = {
        "eer_trials": corpus / "list.txt",
        "eer_annotation": corpus / "train.csv",
    }
    whole = job(corpus, folder / name, recipe, **options, **sounds, **watch)
    return {**whole, "name": name}


def simclr(corpus, folder):
    """The same with SimCLR."""
    return more(corpus, folder, "simclr", "train_contrastive", SIMCLR)


def noisy(corpus, folder):
    """A training on labels of which some are wrong."""
    others = {**NOISY, "data_folder": corpus / "noisy"}
    others["train_annotation"] = corpus / "noisy" / "labels.csv"
    whole = job(corpus, folder / "noisy", "train_speaker", **others)
    return {**whole, "name": "noisy"}


def whisper(corpus, folder):
    """A training of Whisper's layers, MHFA and the classifier."""
    whole = job(corpus, folder / "whisper", "train_speaker", **WHISPER)
    return {**whole, "name": "whisper"}


def states(corpus, folder):
    """A training of MHFA and the classifier on states that are kept."""
    sounds = {"augment_folder": corpus / "augment"}
    options = {**STATES, **sounds}
    whole = job(corpus, folder / "states", "train_speaker", **options)
    return {**whole, "name": "states"}


def job(corpus, folder, recipe, **others):
    """A training for record_losses.py."""
    leaf, options = TRAININGS[recipe]
    annotation = "labels.csv" if recipe == "train_speaker" else "train.csv"
    options = {
        "train_annotation": corpus / annotation,
        "data_folder": corpus,
        "output_folder": folder / recipe,
        **COMMON,
        **options,
        **others,
    }
    argv = [f"hparams/{leaf}.yaml", "--noprogressbar"]
    argv += [f"--{key}={value}" for key, value in options.items()]
    return {"name": recipe, "recipe": recipe, "argv": argv, "dtype": "float64"}


def all_jobs(corpus, folder):
    """Each training once."""
    jobs = [job(corpus, folder, recipe) for recipe in TRAININGS]
    jobs += [more(corpus, folder), simclr(corpus, folder)]
    jobs += [noisy(corpus, folder), whisper(corpus, folder)]
    return [*jobs, states(corpus, folder)]


def first_steps(corpus, folder):
    """Each training in float32, killed after a few steps."""
    return [
        {
            **whole,
            "name": f"first {whole['name']}",
            "dtype": "float32",
            "kill_after": N_FIRST,
        }
        for whole in all_jobs(corpus, folder / "first")
    ]


def launch(jobs, folder):
    """Run jobs in two processes; what each of them recorded."""
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        + ["--nproc_per_node=2", record_losses.__file__, path, folder],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{r}.json").read_text()) for r in (0, 1)]


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    """Each training in this one process."""
    folder = tmp_path_factory.mktemp("alone")
    jobs = all_jobs(corpus, folder) + first_steps(corpus, folder)
    return folder, {job["name"]: record_losses.run(job) for job in jobs}


@pytest.fixture(scope="module")
def pair(corpus, tmp_path_factory):
    """Each training in two processes, killed in its second epoch, resumed."""
    folder = tmp_path_factory.mktemp("pair")
    jobs = first_steps(corpus, folder)
    for recipe in TRAININGS:
        whole = job(corpus, folder, recipe)
        killed = {"name": f"killed {recipe}", "kill_after": N_KILLED[recipe]}
        odd = job(corpus, folder / "odd", recipe, batch_size=3)
        jobs += [{**whole, **killed}, whole, {**odd, "name": f"odd {recipe}"}]
    left = job(corpus, folder / "left", "train_speaker")
    jobs.append({**left, "name": "left", "kill_after": 2})
    killed = {"name": "killed noisy", "kill_after": N_NOISY_KILLED}
    whole = noisy(corpus, folder)
    jobs += [more(corpus, folder), simclr(corpus, folder)]
    jobs += [{**whole, **killed}, whole]
    whole = whisper(corpus, folder)
    killed = {"name": "killed whisper", "kill_after": N_WHISPER_KILLED}
    jobs += [{**whole, **killed}, whole]
    whole = states(corpus, folder)
    killed = {"name": "killed states", "kill_after": N_WHISPER_KILLED}
    jobs += [{**whole, **killed}, whole]
    return folder, launch(jobs, folder)


def losses_of(found, recipe):
    """A process's losses before and after the kill."""
    return found[f"killed {recipe}"]["losses"] + found[recipe]["losses"]


def assert_follow(halves, expected, dtype="float64"):
    """The mean of two processes' losses is that of one, step by step."""
    means = np.mean(halves, axis=0)
    np.testing.assert_allclose(means, expected, rtol=TOLERANCE[dtype])


def assert_same_tables(first, second):
    """The same numbers, but for rounding."""
    pd.testing.assert_frame_equal(
        first, second, rtol=TOLERANCE["float64"], atol=TOLERANCE["float64"]
    )


@pytest.mark.parametrize("recipe", TRAININGS)
def test_two_processes_learn_as_one(alone, pair, recipe):
    expected = alone[1][recipe]["losses"]
    halves = np.array([losses_of(found, recipe) for found in pair[1]])
    assert halves.shape == (2, len(expected))
    assert len(expected) > 2 * N_KILLED[recipe]
    assert_follow(halves, expected)
    # Each had utterances of its own.
    assert (np.abs(halves[0] / halves[1] - 1) > 0.01).mean() > 0.8


@pytest.mark.parametrize(
    "name", [*TRAININGS, "more", "simclr", "noisy", "whisper", "states"]
)
def test_in_float32_the_first_steps_of_two_processes_equal_those_of_one(
    alone, pair, name
):
    expected = alone[1][f"first {name}"]["losses"]
    assert len(expected) == N_FIRST
    halves = [found[f"first {name}"]["losses"] for found in pair[1]]
    assert_follow(halves, expected, "float32")
    # In other bits than float64: it is float32 indeed.
    assert expected != alone[1][name]["losses"][:N_FIRST]


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("more", "train_dino"), ("simclr", "train_contrastive")],
)
def test_augmentation_positives_and_eer_do_not_depend_on_processes(
    alone, pair, name, recipe
):
    expected = alone[1][name]["losses"]
    assert_follow([found[name]["losses"] for found in pair[1]], expected)
    curves = [
        pd.read_csv(folder / name / recipe / "train_curve.csv")
        for folder in (alone[0], pair[0])
    ]
    assert curves[0].eer.notna().all()
    assert_same_tables(*curves)


def test_gate_and_correction_do_not_depend_on_processes_nor_on_a_kill(
    alone, pair
):
    expected = alone[1]["noisy"]["losses"]
    assert len(pair[1][0]["killed noisy"]["losses"]) == N_NOISY_KILLED
    assert_follow([losses_of(found, "noisy") for found in pair[1]], expected)
    first, second = (
        pd.read_csv(folder / "noisy" / "train_speaker" / "label_states.csv")
        for folder in (alone[0], pair[0])
    )
    # Written to four decimals.
    pd.testing.assert_frame_equal(first, second, rtol=0, atol=1.5e-4)
    # It did gate, and correct.
    assert not first.kept.all() and first.corrected.notna().any()


@pytest.mark.parametrize("name", ["whisper", "states"])
def test_a_whisper_does_not_depend_on_processes_nor_on_a_kill(
    alone, pair, name
):
    expected = alone[1][name]["losses"]
    assert len(pair[1][0][f"killed {name}"]["losses"]) == N_WHISPER_KILLED
    assert_follow([losses_of(found, name) for found in pair[1]], expected)
    first, second = (
        torch.load(
            folder
            / name
            / "train_speaker"
            / "embedder"
            / "embedding_model.ckpt"
        )
        for folder in (alone[0], pair[0])
    )
    for name, value in first.items():
        torch.testing.assert_close(
            value, second[name], rtol=1e-8, atol=1e-8, msg=name
        )


@pytest.mark.parametrize("recipe", TRAININGS)
def test_a_kill_in_two_processes_is_resumed_where_it_was(pair, recipe):
    folder, found = pair
    for rank in (0, 1):
        killed = found[rank][f"killed {recipe}"]
        assert killed["stopped"] == "killed"
        assert len(killed["losses"]) == N_KILLED[recipe]
    assert json.loads((folder / recipe / "stage.json").read_text())["resumed"]


def test_one_process_goes_on_where_two_were_killed(alone, pair, corpus):
    folder, found = pair
    assert found[0]["left"]["stopped"] == "killed"
    rest = record_losses.run(job(corpus, folder / "left", "train_speaker"))
    expected = alone[1]["train_speaker"]["losses"][2:]
    assert_follow([rest["losses"]], expected)


@pytest.mark.parametrize("recipe", TRAININGS)
def test_the_curve_covers_all_processes(alone, pair, recipe):
    curves = [
        pd.read_csv(folder / recipe / "train_curve.csv")
        for folder in (alone[0], pair[0])
    ]
    assert len(curves[0]) == TRAININGS[recipe][1]["n_epochs"]
    assert_same_tables(*curves)


@pytest.mark.parametrize("recipe", TRAININGS)
def test_the_embedders_are_the_same(alone, pair, recipe):
    first, second = (
        torch.load(folder / recipe / "embedder" / "embedding_model.ckpt")
        for folder in (alone[0], pair[0])
    )
    assert first.keys() == second.keys()
    # AdamW magnifies rounding where a gradient is 0, as of the bias that the
    # softmax after it ignores; what it makes of it is 1e-10.
    for name, value in first.items():
        assert value.is_floating_point() == (value.dtype == torch.float64)
        torch.testing.assert_close(
            value, second[name], rtol=1e-8, atol=1e-8, msg=name
        )


@pytest.mark.parametrize("recipe", TRAININGS)
def test_a_batch_that_cannot_be_shared_is_refused(pair, recipe):
    folder, found = pair
    for rank in (0, 1):
        stopped = found[rank][f"odd {recipe}"]["stopped"]
        assert stopped.startswith("batch_size is 3; it must be a multiple of")
    assert not (folder / "odd" / recipe / "stage.json").exists()
