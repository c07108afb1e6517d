"""The README as a user types it, in its order, on corpora of seconds."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from tones import write_tones

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")
ECAPA = "{width: 8, width_last: 16, attention_channels: 8, embedding_size: 8}"
CONFIG = (
    "encoder_source: null, encoder_config: {hidden_size: 16, "
    "num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32, "
    "conv_dim: [8, 8], conv_stride: [20, 16], conv_kernel: [20, 16], "
    "num_conv_pos_embeddings: 8, num_conv_pos_embedding_groups: 2}"
)
TRAINING = {
    "n_epochs": 1,
    "batch_size": 8,
    "num_workers": 0,
    "noprogressbar": None,
    "device": "cpu",
}
# What makes a command one of seconds; the rest is as printed.
SHRINK = {
    "prepare_toy": {
        "n_speakers": 6,
        "n_test_speakers": 2,
        "n_sessions": 2,
        "n_utterances": 2,
        "min_seconds": 1.0,
        "max_seconds": 1.3,
        "n_trials": 20,
        "n_sounds": 2,
    },
    "prepare_folder": {"min_duration": 0.1},
    "prepare_voxceleb": {
        "min_duration": 0.1,
        "train_wav": "dev",
        "trials": "{O: O.txt}",
    },
    "train_dino_ecapa_small": {
        **TRAINING,
        "embedder": ECAPA,
        "global_crop": 0.8,
        "local_crop": 0.5,
    },
    "train_contrastive_ecapa_small": {
        **TRAINING,
        "embedder": ECAPA,
        "crop": 0.5,
    },
    "train_contrastive_encoder": {
        **TRAINING,
        "embedder": f"{{freeze: all, width: 8, width_last: 16, {CONFIG}}}",
        "crop": 0.8,
    },
    "extract_embeddings": {"num_workers": 0},
    "make_pseudo_labels": {"n_centroids": 12, "n_clusters": 4},
    "score_trials": {"top_k": 2},
    "train_speaker_ecapa": {**TRAINING, "embedder": ECAPA, "crop": 0.8},
    "train_speaker_encoder_mhfa": {
        **TRAINING,
        "embedder": f"{{n_heads: 2, compression_size: 4, {CONFIG}}}",
        "crop": 0.8,
    },
    "train_speaker_encoder_ecapa": {
        **TRAINING,
        "embedder": ECAPA[:-1] + f", {CONFIG}}}",
        "crop": 0.8,
    },
    "embed_pretrained": {
        "embedder": f"{{{CONFIG}}}",
        "choice_crop": 0.4,
        "num_workers": 0,
        "noprogressbar": None,
        "device": "cpu",
    },
    "quickstart": {"dry_run": True},
    "minivox": {"dry_run": True},
    "minivox_whisper": {"dry_run": True},
    "folder": {"dry_run": True},
    "voxceleb": {"dry_run": True},
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def commands():
    lines = "".join(blocks("bash")).splitlines()
    ours = ("python recipes/", "torchrun", "python -m speechbrain_ext")
    return [line for line in lines if line.startswith(ours)]


def shrunk(line):
    """The words of a command, with the options that make it short."""
    words = shlex.split(line)
    leaves = [Path(w).stem for w in words if w.endswith(".yaml")]
    short = SHRINK.get(leaves[0], {}) if leaves else {}
    kept = [w for w in words if w[2:].split("=")[0] not in short]
    if kept[0] == "torchrun":
        at = kept.index("--nproc_per_node=8")
        kept[at] = "--nproc_per_node=1"
        kept = [sys.executable, "-m", "torch.distributed.run", *kept[1:]]
        kept.append("--distributed_backend=gloo")
    else:
        kept[0] = sys.executable
    for key, value in short.items():
        kept.append(f"--{key}" if value is None else f"--{key}={value}")
    return kept


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A clone to run in: outputs go to its own ``exp``."""
    folder = tmp_path_factory.mktemp("readme")
    names = ("recipes", "hparams", "speechbrain_ext", "results", "pretrained")
    for name in names:
        (folder / name).symlink_to(ROOT / name)
    (folder / "SPEECH").mkdir()
    write_tones(folder / "SPEECH", n_speakers=2, n_utterances=2)
    for part in ("dev/id1/s", "wav/id2/s"):
        (folder / "VOXCELEB" / part).mkdir(parents=True)
        write_tones(folder / "VOXCELEB" / part, n_speakers=2, n_utterances=2)
    names = [f"id2/s/s{speaker}-{n}.wav" for speaker, n in ((0, 0), (0, 1))]
    (folder / "VOXCELEB" / "O.txt").write_text(
        f"1 {names[0]} {names[1]}\n0 {names[0]} id2/s/s1-0.wav\n"
    )
    return folder


def test_every_recipe_has_a_command_in_the_readme():
    shown = set(re.findall(r"recipes/(\w+)\.py", "".join(commands())))
    assert shown == {path.stem for path in (ROOT / "recipes").glob("*.py")}


def run(words, **options):
    """The launcher as a user starts it; all else without its imports."""
    if "torch.distributed.run" in words:
        return subprocess.run(words, capture_output=True, text=True, **options)
    return warm.run(words, **options)


def test_the_commands_work_as_printed_in_their_order(home):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    for line in commands():
        words = shrunk(line)
        done = run(words, cwd=home, env=environment)
        planned = "recipes/run_rounds.py" in words and " steps:" in done.stdout
        # A dry run has printed the plan, and says what is not there.
        if not (planned and "not fit to run: " in done.stdout):
            assert done.returncode == 0, line + "\n" + done.stderr[-3000:]
    for code in blocks("python"):
        words = [sys.executable, "-c", code]
        done = warm.run(words, cwd=home, env=environment)
        assert done.returncode == 0, code + "\n" + done.stderr[-3000:]
