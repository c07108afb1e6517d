"""Files that a stage, or a command, must refuse: damaged, or foreign.

The stages of `CHAIN` run on good input first, so that a case fails for what
was done to it alone. Then each file that a stage reads, or has written, is
harmed as disks, other tools and strangers harm it.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.kill_campaign import EMBEDDER
from speechbrain_ext.utils.shipped import HPARAMS

# Made by a case's code, should it run.
CANARY = "ran"
_RUNS = f"touch {CANARY}"


@dataclasses.dataclass
class Case:
    """One bad input.

    Arguments
    ---------
    program : str
        A recipe, or a command of ``sbext``.
    name : str
        What is bad.
    words : list of str
        Of the command line.
    key : str, optional
        What the error must name.
    harm : callable, optional
        Called in the case's folder before the command.
    """

    program: str
    name: str
    words: list[str]
    key: str = ""
    harm: Callable[[], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of the chain.

    Arguments
    ---------
    made : str
        Folder that it writes.
    recipe : str
        Which program it is; its first YAML by name, or the one of that name.
    text : str
        Its options.
    reads : list of str
        Files that are harmed before it; ``*`` stands for the first found.
    writes : str, optional
        A file that is harmed after it.
    leaf : str, optional
        Name of its YAML, if it is not the recipe's.
    """

    made: str
    recipe: str
    text: str
    reads: list[str]
    writes: str = ""
    leaf: str = ""

    def words(self, output: str) -> list[str]:
        """Return its command line, which writes to a folder."""
        leaf = HPARAMS / f"{self.leaf or self.recipe}.yaml"
        return [str(leaf), *self.text.split(), f"--output_folder={output}"]


_SMALL = json.dumps(EMBEDDER).replace(" ", "")
_MODEL = ["embedder/hyperparams.yaml", "embedder/embedding_model.ckpt"]
_TRAINING = (
    "--data_folder=toy --num_workers=0 --n_epochs=1 --batch_size=8 "
    "--augment_folder=toy/augment --device=cpu "
    "--n_warmup_epochs=0 "
    f"--embedder_yaml=embedders/ecapa.yaml --embedder={_SMALL}"
)
_UNLABELLED = f"--train_annotation=toy/train.csv {_TRAINING}"
CHAIN = [
    Stage(
        "tested",
        "extract_embeddings",
        "--embedder_folder=embedder --annotation=toy/test.csv "
        "--data_folder=toy --num_workers=0 --chunk_size=8",
        [*_MODEL, "toy/test.csv", "toy/test/**/*.wav"],
        "embeddings.npy",
    ),
    Stage(
        "vectors",
        "extract_embeddings",
        "--embedder_folder=embedder --annotation=toy/train.csv "
        "--data_folder=toy --num_workers=0 --chunk_size=8",
        [],
        "embeddings.csv",
    ),
    Stage(
        "labels",
        "make_pseudo_labels",
        "--embeddings_folder=vectors --train_annotation=toy/train.csv "
        "--n_centroids=6 --n_clusters=3",
        ["vectors/embeddings.npy", "vectors/embeddings.csv", "toy/train.csv"],
        "pseudo_labels.csv",
    ),
    Stage(
        "scores",
        "score_trials",
        "--embeddings_folder=tested --trials={'toy':'toy/trials/toy.txt'} "
        "--backends=[raw,raw+linear] --cohort_folder=vectors --run=toy "
        "--cohort_labels=labels/pseudo_labels.csv --n_bootstrap=5 --corpus=toy",
        [
            "tested/embeddings.npy",
            "tested/stage.json",
            "toy/trials/toy.txt",
            "labels/pseudo_labels.csv",
        ],
        "result_toy_raw.json",
    ),
    Stage(
        "compared",
        "compare_scores",
        "--first=scores --second=scores --second_backend=raw+linear "
        "--trials=toy/trials/toy.txt --n_bootstrap=5 --oracle=toy/oracle.csv",
        [
            "scores/scores_toy_raw.npy",
            "scores/result_toy_raw.json",
            "toy/trials/toy.txt",
            "toy/oracle.csv",
        ],
    ),
    Stage(
        "as_pt",
        "convert_embeddings",
        "--embeddings=tested --to_format=pt",
        ["tested/embeddings.npy", "tested/embeddings.csv"],
        "embeddings.pt",
    ),
    Stage(
        "as_kaldi",
        "convert_embeddings",
        "--embeddings=tested --to_format=kaldi",
        [],
    ),
    Stage(
        "from_pt",
        "convert_embeddings",
        "--embeddings=as_pt/embeddings.pt --to_format=npy",
        ["as_pt/embeddings.pt"],
    ),
    Stage(
        "from_kaldi",
        "convert_embeddings",
        "--embeddings=as_kaldi/embeddings.ark --to_format=npy",
        ["as_kaldi/embeddings.ark"],
    ),
    Stage(
        "true_labels",
        "make_oracle_labels",
        "--train_annotation=toy/train.csv --oracle=toy/oracle.csv",
        ["toy/train.csv", "toy/oracle.csv"],
        "pseudo_labels.csv",
    ),
    Stage(
        "kaldi_labels",
        "convert_labels",
        "--labels=labels/pseudo_labels.csv --to_format=kaldi --data_folder=toy",
        ["labels/pseudo_labels.csv"],
    ),
    Stage(
        "whitened",
        "whiten_embedder",
        "--embedder_folder=embedder --embeddings_folder=vectors",
        [*_MODEL, "vectors/stage.json"],
        "embedder/embedding_model.ckpt",
    ),
    Stage(
        "joined",
        "join_embedders",
        "--embedder_folders=[embedder,embedder]",
        _MODEL,
        "embedder/embedding_model.ckpt",
    ),
    Stage(
        "exported",
        "export_model",
        "--embedder_folder=embedder --embeddings_folder=tested "
        "--scores_folder=scores --for_speechbrain=False",
        [*_MODEL, "tested/stage.json", "scores/result_toy_raw.json"],
        "model/model.safetensors",
    ),
    Stage(
        "prepared",
        "prepare_folder",
        "--data_folder=voices --num_workers=1",
        ["voices/a.wav"],
        "train.csv",
    ),
    Stage(
        "vox_lists",
        "prepare_voxceleb",
        "--data_folder=vox --train_wav=train --test_wav=test "
        "--trials={'O':'o.txt'} --num_workers=1",
        ["vox/o.txt", "vox/test/t1/x/1.wav", "vox/train/s1/x/1.wav"],
        "test.csv",
    ),
    Stage(
        "pretrained",
        "embed_pretrained",
        "--train_annotation=toy/train.csv --data_folder=toy --num_workers=0 "
        "--augment_folder=toy/augment --embedder={'encoder_source':'encoder'} "
        "--choice_crop=0.3 --device=cpu",
        ["encoder/config.json", "encoder/model.safetensors", "toy/train.csv"],
        "embedder/embedding_model.ckpt",
    ),
    Stage(
        "dino",
        "train_dino",
        f"{_UNLABELLED} --global_crop=0.5 --local_crop=0.3 "
        "--head={'hidden_size':8,'bottleneck_size':4,'n_prototypes':16}",
        ["toy/train.csv", "toy/train/**/*.wav", "toy/augment/noise/*.wav"],
        "embedder/embedding_model.ckpt",
        "train_dino_ecapa_small",
    ),
    Stage(
        "contrastive",
        "train_contrastive",
        f"{_UNLABELLED} --crop=0.5",
        ["toy/train.csv", "toy/augment/rir/*.wav"],
        "embedder/embedding_model.ckpt",
        "train_contrastive_ecapa_small",
    ),
    Stage(
        "speaker",
        "train_speaker",
        "--train_annotation=labels/pseudo_labels.csv --crop=0.5 "
        f"--init_from=embedder {_TRAINING}",
        ["labels/pseudo_labels.csv", *_MODEL],
        "embedder/embedding_model.ckpt",
        "train_speaker_ecapa",
    ),
]


# What may become of a file.


def _replace(path: str, content: bytes) -> None:
    # The stages' files are links: none is changed in place.
    os.unlink(path)
    Path(path).write_bytes(content)


def _with(content: bytes) -> Callable[[str], None]:
    return lambda path: _replace(path, content)


def _half(path: str) -> None:
    content = Path(path).read_bytes()
    half = content[: len(content) // 2]
    # Not between two records: what is left would be whole.
    _replace(path, content[: half.rfind(b"\n") + 4] if b"\n" in half else half)


def _flip(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[len(content) * 2 // 3] ^= 4
    _replace(path, bytes(content))


def _folder(path: str) -> None:
    os.unlink(path)
    os.mkdir(path)


def _loop(path: str) -> None:
    os.unlink(path)
    os.symlink(os.path.basename(path), path)


def _lines(change: Callable[[list[str]], list[str]]) -> Callable[[str], None]:
    def harm(path: str) -> None:
        lines = Path(path).read_text("utf-8").splitlines()
        _replace(path, "\n".join([*change(lines), ""]).encode())

    return harm


def _array(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[str], None]:
    def harm(path: str) -> None:
        changed = change(np.load(path))
        os.unlink(path)
        np.save(path, changed, allow_pickle=True)

    return harm


def _claims(path: str) -> None:
    # A header of a petabyte, and no array.
    out = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 256)}
    np.lib.format.write_array_header_1_0(out, header)
    _replace(path, out.getvalue())


def _saved(value: Any) -> Callable[[str], None]:
    def harm(path: str) -> None:
        os.unlink(path)
        torch.save(value, path)

    return harm


class _Attack:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (_RUNS,)


def _sound(wav: np.ndarray, rate: int) -> Callable[[str], None]:
    def harm(path: str) -> None:
        os.unlink(path)
        soundfile.write(path, wav, rate, subtype="FLOAT")

    return harm


_NOISE = np.random.default_rng(0).normal(size=16000).astype("float32")
_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
_DEEP = b"[" * 100_000
ALL: dict[str, Callable[[str], None]] = {
    "missing": os.unlink,
    "empty": _with(b""),
    "truncated": _half,
    "text": _with(b"this is a note\n"),
    "not UTF-8": _with(b"\xff\xfe\x00\xe9\n" * 9),
    "[]": _with(b"[]"),
    "a folder": _folder,
    "a link to itself": _loop,
}
_TENSORS = {
    "a pickle that runs code": _with(pickle.dumps(_Attack())),
    "saved code": _saved(_Attack()),
    "saved numbers": _saved([1, 2]),
    "saved tensors of another shape": _saved({"x": torch.zeros(2, 3)}),
}
_TABLE = {
    "without rows": _lines(lambda lines: lines[:1]),
    "a row twice": _lines(lambda lines: [*lines, lines[1]]),
    "a row cut short": _lines(lambda lines: [*lines, lines[1][:4]]),
    "without its first column": _lines(
        lambda lines: [line.partition(",")[2] for line in lines]
    ),
    "a zero byte": _lines(lambda lines: [*lines, "\0" + lines[1]]),
    "a byte that is not UTF-8": lambda path: _replace(
        path, Path(path).read_bytes() + b"\xe9,1,2,3,4\n"
    ),
}
_SHAPES = {"null": _with(b"null"), "{}": _with(b"{}"), "deep": _with(_DEEP)}
BY_ENDING: dict[str, dict[str, Callable[[str], None]]] = {
    ".npy": {
        "NaN": _array(lambda x: np.full_like(x, np.nan)),
        "of one dimension": _array(np.ravel),
        "of three dimensions": _array(lambda x: x[None, None]),
        "objects": _array(lambda x: x.astype(object)),
        "code": _array(lambda x: np.array([_Attack()], dtype=object)),
        "words": _array(lambda x: x.astype(str)),
        "a row less": _array(lambda x: x[:-1]),
        "a petabyte": _claims,
    },
    ".pt": _TENSORS,
    ".ckpt": {**_TENSORS, "a flipped bit": _flip},
    ".safetensors": {
        "a flipped bit": _flip,
        "a header of 2^60 bytes": _with(b"\0" * 7 + b"\x10" + b"{}"),
    },
    ".csv": _TABLE,
    ".txt": {
        "one column": _with(b"1\n0\n"),
        "a label of 2": _lines(
            lambda lines: ["2" + line[1:] for line in lines]
        ),
        "unknown names": _with(b"1 nobody none\n0 no one\n"),
        "one label": _lines(lambda lines: ["1" + line[1:] for line in lines]),
        "a zero byte": _lines(lambda lines: [*lines, "1 \0 \0"]),
    },
    ".json": _SHAPES,
    ".yaml": {
        **_SHAPES,
        "Python's tag": _with(
            f"a: !!python/object/apply:os.system ['{_RUNS}']\n".encode()
        ),
        "!apply": _with(f"a: !apply:os.system ['{_RUNS}']\n".encode()),
        "!new": _with(f"a: !new:os.system ['{_RUNS}']\n".encode()),
        "a class of the user's": _with(
            b"embedding_model: !new:nosuch.module.Class\n"
        ),
        "a bomb of aliases": _with(_BOMB.encode()),
    },
    ".wav": {
        "no sample": _sound(_NOISE[:0], 16000),
        "10 samples": _sound(_NOISE[:10], 16000),
        "NaN": _sound(np.full_like(_NOISE, np.nan), 16000),
        "silent": _sound(np.zeros_like(_NOISE), 16000),
        "constant": _sound(np.ones_like(_NOISE) / 2, 16000),
        "a rate of 1 Hz": _sound(_NOISE, 1),
        "a rate of 2^31 - 1 Hz": _sound(_NOISE, 2**31 - 1),
    },
}
_OF_YAML = ("empty", "text", "not UTF-8", "[]", "a folder")
_OF_RECORD = ("missing", "empty", "truncated", "text", "[]")
_OF_ARTIFACT = ("missing", "empty", "truncated", "a folder")
# More than a request may find of the same stage.
_OF_PLAN = {
    "an unknown stage": "stages: {nosuch: {recipe: train_dino}}",
    "an unknown recipe": "stages: {bootstrap: {recipe: nosuch}}",
    "an unknown key": "n_round: 3",
    "an unknown key of a step": "stages: {train: {set: {n_epoch: 3}}}",
    "a YAML that is not there": "stages: {train: {hparams: nosuch.yaml}}",
    "stages that are a list": "stages: [prepare]",
    "its own base": "base: plan.yaml",
    "a base that is not there": "base: nosuch.yaml",
    "an embedder that is not there": "start_embedder: nosuch",
    "an embedder of another class": "start_embedder: strange",
    "Python's tag": f"run: !!python/object/apply:os.system ['{_RUNS}']",
    "a function": "run: !name:nosuch.module.f",
    "a reference to nothing": "run: !ref <nosuch>",
    "a key twice": "run: a\nrun: b",
    "a bomb of aliases": _BOMB,
    "a tab": "stages:\n\tprepare: {}",
}


def harms_of(path: str) -> dict[str, Callable[[str], None]]:
    """Return what may become of a file, by its name."""
    return {**ALL, **BY_ENDING.get(Path(path).suffix, {})}


def _harm(harm: Callable[[str], Any], pattern: str) -> None:
    """Harm the first file of a pattern."""
    found = next(iter(sorted(Path().glob(pattern))), None)
    if found is None:
        raise FileNotFoundError(f"{pattern}: there is none")
    harm(str(found))


def _case(
    program: str,
    file: str,
    how: str,
    words: list[str],
    harm: Callable[[str], Any],
) -> Case:
    action = functools.partial(_harm, harm, file)
    return Case(program, f"{file}: {how}", words, harm=action)


def bad_files() -> Iterator[Case]:
    """Yield cases of each stage: what it reads, its YAML, and its folder."""
    for stage in CHAIN:
        recipe, words = stage.recipe, stage.words("out")
        for file in stage.reads:
            for how, harm in harms_of(file).items():
                yield _case(recipe, file, how, words, harm)
        for folder in dict.fromkeys(f.partition("/")[0] for f in stage.reads):
            yield _case(recipe, folder, "a file", words, _file_for_folder)
        yield from _finished(stage)
    # One stage of a recipe for what all of its stages have in common.
    for stage in {stage.recipe: stage for stage in CHAIN}.values():
        yield from _yaml(stage)
        yield from _outputs(stage)


def _file_for_folder(path: str) -> None:
    shutil.rmtree(path)
    Path(path).write_text("mine")


def _finished(stage: Stage) -> Iterator[Case]:
    """Yield cases in which a stage that was done is damaged."""
    words, record = stage.words(stage.made), f"{stage.made}/stage.json"
    harms = {how: ALL[how] for how in _OF_RECORD} | _SHAPES
    for how, harm in harms.items():
        yield _case(stage.recipe, record, f"{how}, done", words, harm)
    if stage.writes:
        file = f"{stage.made}/{stage.writes}"
        for how in _OF_ARTIFACT:
            yield _case(stage.recipe, file, f"{how}, done", words, ALL[how])


def _yaml(stage: Stage) -> Iterator[Case]:
    leaf, *words = stage.words("out")
    copied = Path(leaf).name
    harms = {how: ALL[how] for how in _OF_YAML} | BY_ENDING[".yaml"]
    for how, harm in harms.items():
        yield Case(
            stage.recipe,
            f"its YAML: {how}",
            [copied, *words],
            harm=lambda h=harm: (shutil.copy(leaf, copied), h(copied)),
        )


def _outputs(stage: Stage) -> Iterator[Case]:
    """Yield cases of places where nothing can be written."""
    for output in ("taken", "taken/below", "/proc/out", "a" * 300, ""):
        yield Case(
            stage.recipe,
            f"--output_folder={output[:20]}",
            stage.words(output),
            harm=lambda: Path("taken").write_text("mine"),
        )
    if os.geteuid():
        yield Case(
            stage.recipe,
            "output_folder: of another user",
            stage.words("locked/out"),
            harm=lambda: os.mkdir("locked", 0o500),
        )


def left_out() -> list[str]:
    """Return what this machine does not allow to try, and why."""
    if os.geteuid():
        return []
    return ["folders without permission: the campaign is run by root, who may"]


def bad_plans() -> Iterator[Case]:
    """Yield cases of plans of ``run_rounds``."""
    words = ["plan.yaml", "--output_folder=out", "--dry_run=True"]
    leaf = (HPARAMS / "plans" / "quickstart.yaml").read_text("utf-8")
    for how, text in _OF_PLAN.items():
        key = text.partition(":")[0]
        # In the place of what the plan says of it.
        kept = itertools.takewhile(
            lambda line: not line.startswith("stages:"), leaf.splitlines()
        )
        lines = [ln for ln in kept if not ln.startswith((f"{key}:", "base:"))]
        base = [] if key == "base" else [f"base: {HPARAMS}/plans/small.yaml"]
        lines += [*base, text, ""]
        yield Case(
            "run_rounds",
            f"plan with {how}",
            words,
            harm=functools.partial(
                Path("plan.yaml").write_text, "\n".join(lines)
            ),
        )
    for how in _OF_YAML:
        yield Case(
            "run_rounds",
            f"plan: {how}",
            words,
            harm=lambda h=ALL[how]: (
                Path("plan.yaml").write_text(leaf),
                h("plan.yaml"),
            ),
        )


# Commands of sbext.

_COMMANDS = {
    "verify": ["model", "voices/a.wav", "voices/b.wav"],
    "embed": ["model", "voices", "out.npy"],
    "group": ["model", "voices", "out"],
}
_EXPORT = next(s for s in CHAIN if s.recipe == "export_model").words("out")[1:]
_OPTIONS = {
    "verify": {"prior": ("0", "1", "-1", "nan", "x", "2", "")},
    "embed": {"num_workers": ("-1", "x", "1.5", "")},
    "group": {"n_speakers": ("0", "-1", "x", "1.5", "1000", "")},
}


def bad_models() -> Iterator[Case]:
    """Yield cases of the commands: models, audio, options and names."""
    files = ["model/config.json", "model/model.safetensors", "voices/a.wav"]
    for command, words in _COMMANDS.items():
        for file in files:
            for how, harm in harms_of(file).items():
                yield _case(command, file, how, words, harm)
        for change in ("NaN", "Infinity", '"x"', "-1", "null", "[1]", "1e99"):
            for field in ("sample_rate", "embedding_size", "threshold"):
                yield Case(
                    command,
                    f"model/config.json: {field} is {change}",
                    words,
                    harm=functools.partial(_set, field, json.loads(change)),
                )
        options = _OPTIONS[command] | {
            "device": ("x", "meta", "cuda:99", "mps", ""),
            "no_such_option": ("1",),
        }
        for key, values in options.items():
            for value in values:
                word = f"--{key}={value}"
                yield Case(command, word, [*words, word])
        yield from _bad_names(command, words)
    for file in _MODEL:
        for how, harm in harms_of(file).items():
            yield _case("export", file, how, _EXPORT, harm)
    for word in ("nosuch.yaml", "--no_such_option=1", "--prior=x"):
        yield Case("export", word, [word, *_EXPORT])


def _set(field: str, value: Any) -> None:
    path = Path("model/config.json")
    content = json.loads(path.read_text())
    ours = content["speechbrain_ext"]
    place = ours if field in ours else ours["decision"]
    if field not in place:
        raise FileNotFoundError(f"{path} has no {field}")
    place[field] = value
    _replace(str(path), json.dumps(content).encode())


def _bad_names(command: str, words: list[str]) -> Iterator[Case]:
    """Yield cases of arguments: missing, foreign, and not UTF-8."""
    yield Case(command, "no argument", [])
    yield Case(command, "one argument more", [*words, "x"])
    strange = os.fsdecode(b"\xe9t\xe9")
    for place, name in enumerate(("model", "input", "last argument")):
        foreign = {
            "nothing": "",
            "not there": "nosuch",
            "a file": "taken",
            "below a file": "taken/below",
            "of a name that is not UTF-8": strange,
            "in a folder that is not there": "nosuch/x.npy",
            "too long a name": "a" * 300,
        }
        for how, value in foreign.items():
            yield Case(
                command,
                f"{name}: {how}",
                [*words[:place], value, *words[place + 1 :]],
                harm=lambda: Path("taken").write_text("mine"),
            )
    yield Case(
        command,
        "audio of a name that is not UTF-8",
        [word.replace("a.wav", f"{strange}.wav") for word in words],
        harm=lambda: os.rename("voices/a.wav", f"voices/{strange}.wav"),
    )
