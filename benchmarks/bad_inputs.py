"""Bad values and files for every recipe and command; each is refused in a line.

Values are derived from the settings classes; files are those of a small chain
of stages, each damaged, or replaced by something foreign. Every case is a fork
of one Python that has imported everything, in a folder of its own, with a
deadline. To run it:

> python benchmarks/bad_inputs.py --folder=exp/bad_inputs
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import gc
import importlib
import json
import os
import runpy
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.bad_values import (
    asked_for,
    option,
    out_of_range,
    required,
    wrong_arguments,
    wrong_types,
)
from benchmarks.kill_campaign import EMBEDDER, STAGES
from benchmarks.measuring import machine
from speechbrain_ext.experiment import launch
from speechbrain_ext.experiment.recipe_settings import (
    RECIPE_SETTINGS,
    settings_of,
)
from speechbrain_ext.models.embedder import build_embedder, save_embedder
from speechbrain_ext.utils.files import write_json

_ROOT = Path(__file__).parents[1]
_LIMIT = 30.0  # seconds of a case
_VALUES_A_KEY = 3
_MODEL = _ROOT / "pretrained" / "minivox_whisper"
# Why a case that is accepted is right: by ending of its name.
_NO_RECORD = (
    "what is no record does not show the stage finished: it runs and writes one"
)
DEFENDED: dict[str, str] = {
    f"out/stage.json: {shape!r}": _NO_RECORD
    for shape in ("[]", "null", "{}", "", "{")
}
_ALL_DEFAULTS = "a YAML may leave out all: the command line gives what it must"
DEFENDED |= {"its YAML: empty": _ALL_DEFAULTS, "its YAML: null": _ALL_DEFAULTS}


@dataclasses.dataclass
class Case:
    """One bad input.

    Arguments
    ---------
    program : str
        A recipe, or a command of ``speechbrain_ext.inference``.
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
    harm: Callable[[], None] | None = None


def bad_values() -> Iterator[Case]:
    """Yield cases of wrong types and ranges, of each key of each recipe."""
    for recipe in RECIPE_SETTINGS:
        keys = settings_of(recipe).keys()
        folder = _ROOT / "hparams"
        pattern = "plans/*.yaml" if recipe == "run_rounds" else f"{recipe}*"
        leaf = min(folder.glob(pattern))
        given = {**asked_for(leaf), **required(keys)}
        given["output_folder"] = "out"
        for key, fact in keys.items():
            types, ranges = wrong_types(fact), out_of_range(fact)
            bad = [*ranges[:_VALUES_A_KEY], *types[:_VALUES_A_KEY]]
            bad += wrong_arguments(fact)[:_VALUES_A_KEY]
            for value in bad:
                words = [option(k, v) for k, v in given.items() if k != key]
                words = [str(leaf), *words, f"--{key}={value}"]
                yield Case(recipe, f"--{key}={value}", words, key)


# Files: a chain of small stages, and what may become of each file.

_HPARAMS = _ROOT / "hparams"
# Recipe, its words, and the files that it reads.
CHAIN: list[tuple[str, str, list[str]]] = [
    (
        "extract_embeddings",
        "--embedder_folder=embedder --annotation=toy/test.csv "
        "--data_folder=toy --num_workers=0 --chunk_size=8",
        [
            "embedder/hyperparams.yaml",
            "embedder/embedding_model.ckpt",
            "toy/test.csv",
        ],
    ),
    (
        "make_pseudo_labels",
        "--embeddings_folder=vectors --train_annotation=toy/train.csv "
        "--n_centroids=6 --n_clusters=3",
        ["vectors/embeddings.npy", "vectors/embeddings.csv", "toy/train.csv"],
    ),
    (
        "score_trials",
        "--embeddings_folder=tested --trials={test:toy/trials/toy.txt} "
        "--n_bootstrap=5",
        ["tested/embeddings.npy", "toy/trials/toy.txt", "tested/stage.json"],
    ),
    (
        "convert_embeddings",
        "--embeddings=tested --to_format=pt",
        ["tested/embeddings.npy", "tested/embeddings.csv"],
    ),
    (
        "convert_embeddings",
        "--embeddings=as_pt/embeddings.pt --to_format=npy",
        ["as_pt/embeddings.pt"],
    ),
    (
        "convert_embeddings",
        "--embeddings=as_kaldi/embeddings.ark --to_format=npy",
        ["as_kaldi/embeddings.ark"],
    ),
    (
        "make_oracle_labels",
        "--train_annotation=toy/train.csv --oracle=toy/oracle.csv",
        ["toy/train.csv", "toy/oracle.csv"],
    ),
    (
        "convert_labels",
        "--labels=labels/pseudo_labels.csv --to_format=kaldi",
        ["labels/pseudo_labels.csv"],
    ),
    (
        "whiten_embedder",
        "--embedder_folder=embedder --embeddings_folder=vectors",
        ["embedder/hyperparams.yaml", "embedder/embedding_model.ckpt"],
    ),
    (
        "join_embedders",
        "--embedder_folders=[embedder,embedder]",
        ["embedder/hyperparams.yaml", "embedder/embedding_model.ckpt"],
    ),
    (
        "prepare_folder",
        "--data_folder=voices --num_workers=1",
        ["voices/a.wav"],
    ),
]


def _replace(path: str, content: bytes) -> None:
    # The stages' files are links: none is changed in place.
    os.unlink(path)
    Path(path).write_bytes(content)


def _half(path: str) -> None:
    # Not between two records: what is left would be whole.
    content = Path(path).read_bytes()
    _replace(path, content[: len(content) // 2 - 1])


def _folder(path: str) -> None:
    os.unlink(path)
    os.mkdir(path)


def _loop(path: str) -> None:
    os.unlink(path)
    os.symlink(os.path.basename(path), path)


HARMS: dict[str, Callable[[str], None]] = {
    "missing": os.unlink,
    "empty": lambda path: _replace(path, b""),
    "truncated": _half,
    "text": lambda path: _replace(path, b"this is a note\n"),
    "not UTF-8": lambda path: _replace(path, b"\xff\xfe\x00\xe9\n" * 9),
    "[]": lambda path: _replace(path, b"[]"),
    "null": lambda path: _replace(path, b"null"),
    "{}": lambda path: _replace(path, b"{}"),
    "a folder": _folder,
    "a link to itself": _loop,
}


def bad_files() -> Iterator[Case]:
    """Yield cases of each stage's files, damaged or foreign."""
    for recipe, text, files in CHAIN:
        words = [str(_HPARAMS / f"{recipe}.yaml"), *text.split()]
        words.append("--output_folder=out")
        for file in files:
            for how, harm in HARMS.items():
                yield Case(
                    recipe,
                    f"{file}: {how}",
                    words,
                    harm=lambda h=harm, f=file: h(f),
                )
        leaf = HARMS.copy()
        for how in ("empty", "text", "not UTF-8", "[]", "null"):
            copied = f"{recipe}.yaml"
            yield Case(
                recipe,
                f"its YAML: {how}",
                [copied, *words[1:]],
                harm=lambda h=leaf[how], f=copied, w=words[0]: (
                    shutil.copy(w, f) and h(f)
                ),
            )
        yield Case(
            recipe,
            "output_folder: a file",
            words,
            harm=lambda: Path("out").write_text("mine"),  # type: ignore[arg-type, return-value]
        )
        for name in ("stage.json", "request.json"):
            for shape in ("[]", "null", "{}", "", "{"):
                yield Case(
                    recipe,
                    f"out/{name}: {shape!r}",
                    words,
                    harm=lambda n=name, s=shape: (
                        os.mkdir("out") or Path("out", n).write_text(s)
                    ),
                )


def bad_models() -> Iterator[Case]:
    """Yield cases of the three commands: models and audio."""
    commands = {
        "verify": ["model", "voices/a.wav", "voices/b.wav"],
        "embed": ["model", "voices", "out.npy"],
        "group": ["model", "voices", "out"],
    }
    files = ["model/config.json", "model/model.safetensors", "voices/a.wav"]
    for command, words in commands.items():
        for file in files:
            for how, harm in HARMS.items():
                yield Case(
                    command,
                    f"{file}: {how}",
                    words,
                    harm=lambda h=harm, f=file: h(f),
                )
        for name, wav, rate in sounds():
            yield Case(
                command,
                f"voices/a.wav: {name}",
                words,
                harm=lambda w=wav, r=rate: _sound("voices/a.wav", w, r),
            )
        for device in ("x", "meta", "cuda:99", "mps"):
            yield Case(
                command, f"--device={device}", [*words, f"--device={device}"]
            )
    for prior in ("0", "1", "-1", "nan", "x", "2"):
        words = [*commands["verify"], f"--prior={prior}"]
        yield Case("verify", f"--prior={prior}", words)
    for number in ("0", "-1", "x", "1.5", "1000"):
        words = [*commands["group"], f"--n_speakers={number}"]
        yield Case("group", f"--n_speakers={number}", words)


def sounds() -> list[tuple[str, np.ndarray, int]]:
    """Return audio that cannot be right: its name, samples and rate."""
    noise = np.random.default_rng(0).normal(size=16000).astype("float32")
    return [
        ("no sample", noise[:0], 16000),
        ("10 samples", noise[:10], 16000),
        ("NaN", np.full_like(noise, np.nan), 16000),
        ("silent", np.zeros_like(noise), 16000),
        ("constant", np.ones_like(noise) / 2, 16000),
        ("a rate of 1 Hz", noise, 1),
        ("a rate of 2^31 - 1 Hz", noise, 2**31 - 1),
    ]


def _sound(path: str, wav: np.ndarray, rate: int) -> None:
    os.unlink(path)
    soundfile.write(path, wav, rate, subtype="FLOAT")


# Processes.


def program_of(name: str) -> list[str]:
    """Return the words that start a program."""
    if name in RECIPE_SETTINGS:
        return [str(launch.RECIPES / f"{name}.py")]
    return ["-m", f"speechbrain_ext.inference.{name}"]


def become(program: str, words: list[str]) -> int:
    """Run a program in this fork; return its exit status."""
    first, *rest = program_of(program)
    sys.argv = [first, *words]
    try:
        if rest:
            sys.modules.pop(rest[0], None)
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(first, run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return stop.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run_case(case: Case, folder: Path) -> tuple[int | None, str]:
    """Run a case in its folder; return status (None: too long) and words."""
    log = folder / "said.txt"
    process = os.fork()
    if not process:
        os.setsid()
        with open(log, "wb") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        # A caller may have put other objects in their place.
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False)
        os.chdir(folder)
        if case.harm is not None:
            try:
                case.harm()
            except OSError as error:
                print(f"the campaign itself failed: {error}")
                os._exit(1)
        code = become(case.program, case.words)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 0xFF)
    limit = time.monotonic() + _LIMIT
    while time.monotonic() < limit:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            said = log.read_bytes().decode("utf-8", "replace")
            return os.waitstatus_to_exitcode(status), said
        time.sleep(0.003)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None, log.read_bytes().decode("utf-8", "replace")


def outcome(case: Case, status: int | None, said: str) -> str:
    """Classify how a case ended.

    Example
    -------
    >>> outcome(Case("a", "b", [], "n"), 2, "error: n is 0; give 1")
    'one clear line'
    >>> outcome(Case("a", "b", []), 1, "Traceback (most recent call last):")
    'raw traceback'
    """
    if status is None:
        return "hang"
    if said.startswith("the campaign itself failed"):
        raise RuntimeError(f"{case.program}, {case.name}: {said}")
    if "Traceback (most recent call last)" in said:
        return "raw traceback"
    if status == 0:
        return "accepted"
    lines = [line for line in said.splitlines() if line.strip()]
    if not lines or "error: " not in lines[-1]:
        return "no error line"
    return "one clear line" if case.key in lines[-1] else "another error"


# Campaign.


def make_chain(folder: Path) -> None:
    """Make the small corpus, embedder, model and stages that are harmed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    embedder = build_embedder("hparams/embedders/ecapa.yaml", EMBEDDER)
    save_embedder(folder / "embedder", embedder)
    shutil.copytree(_MODEL, folder / "model")
    (folder / "voices").mkdir()
    for name, example in (("a", 1), ("b", 2)):
        shutil.copy(
            _MODEL / f"example{example}.wav", folder / f"voices/{name}.wav"
        )
    toy = " ".join(f"--{k}={v}" for k, v in STAGES["prepare"].items())
    made = [
        ("prepare_toy", toy, "toy"),
        ("extract_embeddings", CHAIN[0][1], "tested"),
        (
            "extract_embeddings",
            CHAIN[0][1].replace("test.csv", "train.csv"),
            "vectors",
        ),
        ("make_pseudo_labels", CHAIN[1][1], "labels"),
        ("convert_embeddings", CHAIN[3][1], "as_pt"),
        (
            "convert_embeddings",
            "--embeddings=tested --to_format=kaldi",
            "as_kaldi",
        ),
    ]
    for recipe, text, output in made:
        leaf = str(_HPARAMS / f"{recipe}.yaml")
        words = [leaf, *text.split(), f"--output_folder={output}"]
        status, said = run_case(Case(recipe, output, words), folder)
        if status:
            sys.exit(f"{recipe} ended with {status} on good input:\n{said}")


def run_campaign(cases: list[Case], folder: Path) -> Iterator[dict[str, Any]]:
    """Run cases, each in a copy of the chain; yield what became of each."""
    chain, place = folder / "chain", folder / "case"
    make_chain(chain)
    for case in cases:
        shutil.rmtree(place, ignore_errors=True)
        if case.key:
            place.mkdir()
        else:
            # Links: no stage changes a file that has its final name.
            shutil.copytree(chain, place, copy_function=os.link)
            (place / "said.txt").unlink()
        status, said = run_case(case, place)
        lines = [line for line in said.splitlines() if line.strip()]
        last = lines[-1] if lines else ""
        yield {
            "program": case.program,
            "case": case.name,
            "outcome": outcome(case, status, said),
            "said": last.replace(str(_ROOT), "")[:300],
        }


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Count cases by program and outcome; list those not refused in a line."""
    counts: dict[str, collections.Counter] = collections.defaultdict(
        collections.Counter
    )
    for each in found:
        counts[each["program"]][each["outcome"]] += 1
    total = collections.Counter(each["outcome"] for each in found)
    accepted = [
        {**each, "reason": reason_of(each["case"])}
        for each in found
        if each["outcome"] == "accepted"
    ]
    return {
        "n_cases": len(found),
        "outcomes": dict(total),
        "by program": {k: dict(v) for k, v in counts.items()},
        "accepted": accepted,
        "faults": [
            each
            for each in found
            if each["outcome"] not in ("accepted", "one clear line")
        ],
    }


def reason_of(name: str) -> str | None:
    """Return why it is right that a case is accepted, None if nobody said."""
    for part, reason in DEFENDED.items():
        if name.endswith(part):
            return reason
    return None


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("exp/bad_inputs"))
    parser.add_argument(
        "--every", type=int, default=1, help="take one case of so many"
    )
    parser.add_argument(
        "--output", default="results/benchmarks/bad_inputs.json"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the campaign and write its result file."""
    arguments = parse(argv)
    os.environ.update(launch.recipe_environment())
    for name in launch._IMPORTED:
        importlib.import_module(name)
    for recipe in RECIPE_SETTINGS:
        importlib.import_module(f"recipes.{recipe}")
    gc.freeze()
    started = time.monotonic()
    cases = [*bad_files(), *bad_models(), *bad_values()][:: arguments.every]
    found = []
    for each in run_campaign(cases, arguments.folder.absolute()):
        found.append(each)
        if len(found) % 50 == 0 or len(found) == len(cases):
            report = {
                "kind": "benchmark",
                "what": "bad values and files for every recipe and command",
                "n_planned": len(cases),
                "every": arguments.every,
                **summary(found),
                "seconds": round(time.monotonic() - started),
                **machine("cpu"),
            }
            write_json(arguments.output, report)
    print(json.dumps(report["outcomes"]), f"written: {arguments.output}")


if __name__ == "__main__":
    main()
