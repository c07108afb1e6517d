"""README and docs as a user types them, page by page, on corpora of seconds.

A block that cannot be run says why: ``<!-- not run: WHY -->`` before it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import warm
from docs_pages import LANGUAGES, ROOT, blocks, lines_of
from house import recipes
from tones import write_tones

from speechbrain_ext import __main__ as sbext

EXAMPLES = ROOT / "pretrained" / "minivox_whisper"
# What begins a command that is run; `make` is tried on fresh machines.
OURS = ("python recipes/", "torchrun", "python -m speechbrain_ext", "sbext ")
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
    "my_training": {
        "num_workers": 0,
        "noprogressbar": None,
        "device": "cpu",
        "crop": 0.5,
    },
    "quickstart": {"dry_run": True},
    "minivox": {"dry_run": True},
    "minivox_whisper": {"dry_run": True},
    "folder": {"dry_run": True},
    "voxceleb": {"dry_run": True},
}


def command_of(words):
    """Recipe and the YAML's stem, as far as a command has them."""
    if "sbext" in words or "speechbrain_ext" in words:
        at = next(
            n
            for n, w in enumerate(words)
            if w.endswith("sbext") or w == "speechbrain_ext"
        )
        names = {sbext.command_of(name): name for name in recipes()}
        recipe, given = names.get(words[at + 1]), words[at + 2]
        if recipe and given.startswith("-"):
            given = sbext.shipped_leaves(recipe)[0].stem
        return recipe, Path(given).stem if recipe else None
    scripts = [Path(word).stem for word in words if word.endswith(".py")]
    leaves = [Path(word).stem for word in words if word.endswith(".yaml")]
    return (scripts or [None])[0], (leaves or [None])[0]


def shrunk(words):
    """The words of a command, with the options that make it short."""
    short = SHRINK.get(command_of(words)[1], {})
    kept = [w for w in words if w[2:].split("=")[0] not in short]
    if kept[0] == "torchrun":
        at = kept.index("--nproc_per_node=8")
        kept[at] = "--nproc_per_node=1"
        kept = [sys.executable, "-m", "torch.distributed.run", *kept[1:]]
        kept.append("--distributed_backend=gloo")
    elif kept[0] == "sbext":
        kept[:1] = [sys.executable, "-m", "speechbrain_ext"]
    else:
        kept[0] = sys.executable
    for key, value in short.items():
        kept.append(f"--{key}" if value is None else f"--{key}={value}")
    return kept


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A clone to run in: outputs go to its own ``exp``."""
    folder = tmp_path_factory.mktemp("docs")
    names = ("recipes", "hparams", "speechbrain_ext", "results", "pretrained")
    for name in names:
        (folder / name).symlink_to(ROOT / name)
    for name, number in (("a", 1), ("b", 2)):
        shutil.copy(EXAMPLES / f"example{number}.wav", folder / f"{name}.wav")
    (folder / "SPEECH").mkdir()
    write_tones(folder / "SPEECH", n_speakers=2, n_utterances=10)
    for part in ("dev/id1/s", "wav/id2/s"):
        (folder / "VOXCELEB" / part).mkdir(parents=True)
        write_tones(folder / "VOXCELEB" / part, n_speakers=2, n_utterances=2)
    names = [f"id2/s/s{speaker}-{n}.wav" for speaker, n in ((0, 0), (0, 1))]
    (folder / "VOXCELEB" / "O.txt").write_text(
        f"1 {names[0]} {names[1]}\n0 {names[0]} id2/s/s1-0.wav\n"
    )
    return folder


def install(folder):
    """Write what pip leaves of a package whose pyproject.toml is in a folder.

    Returns the folder to put on the path.
    """
    facts = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    project, packages = facts["project"], folder / "site-packages"
    (group,) = project["entry-points"]
    info = packages / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    for name in facts["tool"]["setuptools"]["py-modules"]:
        (folder / f"{name}.py").rename(packages / f"{name}.py")
    (info / "METADATA").write_text(
        f"Name: {project['name']}\nVersion: {project['version']}\n"
    )
    points = "".join(
        f"{name} = {value}\n"
        for name, value in project["entry-points"][group].items()
    )
    (info / "entry_points.txt").write_text(f"[{group}]\n{points}")
    return packages


def commands():
    """Words of the commands that are run, without variables before them."""
    for block in blocks():
        if block.language == "bash" and block.why is None:
            for line in lines_of(block):
                yield shlex.split(line, comments=True)


def test_every_block_is_run_or_says_why_not():
    wrong = []
    for block in blocks():
        if block.language not in LANGUAGES:
            wrong.append(f"{block.page}: a block of {block.language!r}")
        if block.language == "bash" and block.why is None:
            wrong += [
                f"{block.page}: {line}"
                for line in lines_of(block)
                if not re.sub(r"^([A-Z_]+=\S* )*", "", line).startswith(OURS)
            ]
    assert not wrong, "\n".join(wrong)


def test_every_recipe_and_program_has_a_command():
    shown = set()
    for words in commands():
        shown |= {command_of(words)[0], *words[:2]}
    # It needs two finished runs: tests/unit/report/test_compare_runs.py.
    assert shown >= {*recipes(), *sbext.PROGRAMS} - {"compare"}


def run(words, **options):
    """The launcher as a user starts it; all else without its imports."""
    if "torch.distributed.run" in words:
        return subprocess.run(words, capture_output=True, text=True, **options)
    return warm.run(words, **options)


def test_the_blocks_work_as_printed_in_their_order(home):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    seen = set()
    for block in blocks():
        if block.file:
            (home / block.file).write_text(block.text)
            if block.file == "pyproject.toml":
                path = f"{install(home)}{os.pathsep}{environment['PYTHONPATH']}"
                environment["PYTHONPATH"] = path
        elif block.why is not None:
            continue
        elif block.language == "python":
            words = [sys.executable, "-c", block.text]
            done = warm.run(words, cwd=home, env=environment)
            assert done.returncode == 0, block.text + done.stderr[-3000:]
        elif block.language == "bash":
            for line in lines_of(block):
                words = shlex.split(line, comments=True)
                planned = "--dry_run=True" in shrunk(words)
                key = command_of(words) if planned else line
                # A plan is planned once; test_docs_commands reads all.
                if key not in seen:
                    check_line(line, home, environment)
                seen.add(key)


def check_line(line, home, environment):
    """Run a line, made short; a dry run may say what is not there."""
    words = shlex.split(line, comments=True)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        added = [value, environment.get(name)]
        environment = {
            **environment,
            name: os.pathsep.join(filter(None, added)),
        }
    done = run(shrunk(words), cwd=home, env=environment)
    planned = command_of(words)[0] == "run_rounds" and " steps:" in done.stdout
    if not (planned and "not fit to run: " in done.stdout):
        assert done.returncode == 0, line + "\n" + done.stderr[-3000:]
