"""Bad values and files for every recipe and command; each is refused in a line.

Values are derived from the settings classes; files are those of a small chain
of stages, each damaged, or replaced by something foreign. Every case is a fork
of one Python that has imported everything, in a folder of its own, with a
deadline. To run it:

> python benchmarks/bad_inputs.py --folder=exp/bad_inputs

Typed again, it runs those cases once more that have not ended as they should.
"""

from __future__ import annotations

import argparse
import collections
import gc
import importlib
import json
import os
import re
import runpy
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers import WhisperConfig, WhisperModel

from benchmarks.bad_files import (
    CANARY,
    CHAIN,
    Case,
    bad_files,
    bad_models,
    bad_plans,
    left_out,
)
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
from speechbrain_ext.__main__ import PROGRAMS
from speechbrain_ext.experiment import launch
from speechbrain_ext.experiment.recipe_settings import (
    RECIPE_SETTINGS,
    settings_of,
)
from speechbrain_ext.models.embedder import build_embedder, save_embedder
from speechbrain_ext.utils.files import read_json, write_json
from speechbrain_ext.utils.shipped import HPARAMS

_ROOT = Path(__file__).parents[1]
_LIMIT = 30.0  # seconds of a case
_VALUES_A_KEY = 3
_SBEXT = "speechbrain_ext"
# Exit statuses of input, of the system and of memory.
_OF_USERS = (2, 3, 4)
_MODEL = _ROOT / "pretrained" / "minivox_whisper"
_WHISPER = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 10,
    "max_source_positions": 50,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "max_target_positions": 8,
    "vocab_size": 12,
    **{f"{name}_token_id": 0 for name in ("pad", "bos", "eos")},
    "decoder_start_token_id": 0,
}
# Why a case that is accepted is right, by "program, what is bad".
DEFENDED = {
    r"/stage.json: .*, done$": "without its record a stage is not finished: "
    "it is done again",
    r"[^/]+/[^:]+: .*, done$": "an output that is not as recorded is made "
    "again",
    r"prepare_\w+, .*\.wav: ": "a file that cannot be used is left out of the "
    "corpus, and rejects.csv names it with the reason",
    r"(embed|group), voices/": "a file that cannot be used is left out and "
    "named",
    r"embed, model/config.json: threshold": "embeddings are made without a "
    "threshold, which is checked by what decides",
    r", its YAML: (empty|null|\{\})$": "a YAML may leave out all: the command "
    "line gives what it must",
    r"train_speaker, embedder/hyperparams.yaml: ": "--init_from reads weights "
    "alone",
    r", (embedder|encoder)/\S+: a flipped bit$": "no record with a hash lies "
    "beside this folder; other finite weights are a model, too",
    r", (tested|vectors)/stage.json: ": "embeddings of other tools have no "
    "record",
}


def bad_values() -> Iterator[Case]:
    """Yield cases of wrong types and ranges, of each key of each recipe."""
    for recipe in RECIPE_SETTINGS:
        keys = settings_of(recipe).keys()
        pattern = "plans/*.yaml" if recipe == "run_rounds" else f"{recipe}*"
        leaf = min(HPARAMS.glob(pattern))
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


# Processes.


def program_of(name: str) -> list[str]:
    """Return the words that start a recipe, or a command of ``sbext``."""
    if name in RECIPE_SETTINGS:
        return [str(launch.RECIPES / f"{name}.py")]
    return ["-m", _SBEXT, name]


def become(program: str, words: list[str]) -> int:
    """Run a program in this fork; return its exit status."""
    first, *rest = program_of(program)
    try:
        if rest:
            sys.argv = ["sbext", *rest[1:], *words]
            sys.modules.pop(f"{_SBEXT}.__main__", None)
            runpy.run_module(_SBEXT, run_name="__main__", alter_sys=True)
        else:
            sys.argv = [first, *words]
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
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")
        os.chdir(folder)
        if case.harm is not None:
            try:
                case.harm()
            except OSError as error:
                print(f"the campaign itself failed: {error}", flush=True)
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
    if status not in _OF_USERS or (case.key and status != 2):
        return f"status {status}"
    return "one clear line" if case.key in lines[-1] else "another error"


# Campaign.


def make_chain(folder: Path) -> None:
    """Make the small corpus, embedder, model and stages that are harmed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    embedder = build_embedder("hparams/embedders/ecapa.yaml", EMBEDDER)
    save_embedder(folder / "embedder", embedder)
    (folder / "strange").mkdir()
    text = "embedding_model: !new:nosuch.module.Class\n"
    (folder / "strange/hyperparams.yaml").write_text(text)
    shutil.copy(folder / "embedder/embedding_model.ckpt", folder / "strange")
    WhisperModel(WhisperConfig(**_WHISPER)).save_pretrained(folder / "encoder")
    shutil.copytree(_MODEL, folder / "model")
    voices = [f"voices/{name}.wav" for name in "ab"]
    voices += [f"vox/train/s{n}/x/1.wav" for n in (1, 2)]
    voices += [f"vox/test/t{n}/{s}/1.wav" for n in (1, 2) for s in "xy"]
    for number, name in enumerate(voices):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_MODEL / f"example{1 + number % 2}.wav", folder / name)
    trials = "1 t1/x/1.wav t1/y/1.wav\n0 t1/x/1.wav t2/x/1.wav\n"
    (folder / "vox/o.txt").write_text(trials)
    toy = [f"--{key}={value}" for key, value in STAGES["prepare"].items()]
    toy = [str(HPARAMS / "prepare_toy.yaml"), "--output_folder=toy", *toy]
    made = [("prepare_toy", toy)]
    made += [(stage.recipe, stage.words(stage.made)) for stage in CHAIN]
    for recipe, words in made:
        status, said = run_case(Case(recipe, "good input", words), folder)
        if status != 0:
            sys.exit(f"{words} ended with {status} on good input:\n{said}")


def all_cases() -> list[Case]:
    """Return the cases of the campaign."""
    return [*bad_files(), *bad_plans(), *bad_models(), *bad_values()]


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
        started = time.monotonic()
        status, said = run_case(case, place)
        ended = outcome(case, status, said)
        if (place / CANARY).exists():
            ended = "code ran"
        lines = [line for line in said.split("\n") if line.strip()]
        lines = [line.rpartition("\r")[2] for line in lines]
        # What a program that goes on says of it comes before its last line.
        words = " / ".join(lines[-3 if ended == "accepted" else -1 :])
        yield {
            "program": case.program,
            "case": case.name,
            "outcome": ended,
            "seconds": round(time.monotonic() - started, 2),
            "said": words.replace(str(_ROOT), "")[:300],
        }


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Count cases by program and outcome; list those not refused in a line."""
    counts: dict[str, collections.Counter] = collections.defaultdict(
        collections.Counter
    )
    accepted: dict[str, list[str]] = collections.defaultdict(list)
    faults = []
    for each in found:
        counts[each["program"]][each["outcome"]] += 1
        if not is_right(each):
            faults.append(each)
        elif each["outcome"] == "accepted":
            reason = reason_of(each["program"], each["case"])
            accepted[str(reason)].append(f"{each['program']}, {each['case']}")
    total = collections.Counter(each["outcome"] for each in found)
    return {
        "n_cases": len(found),
        "outcomes": dict(total),
        "by program": {k: dict(v) for k, v in counts.items()},
        "accepted, with the reason": accepted,
        "faults": faults,
    }


def reason_of(program: str, name: str) -> str | None:
    """Return why it is right that a case is accepted, None if nobody said.

    Example
    -------
    >>> reason_of("train_dino", "its YAML: empty")
    'a YAML may leave out all: the command line gives what it must'
    """
    for pattern, reason in DEFENDED.items():
        if re.search(pattern, f"{program}, {name}"):
            return reason
    return None


def import_all(recipes: Iterable[str]) -> None:
    """Import what recipes and commands do, so that their forks need not."""
    os.environ.update(launch.recipe_environment())
    commands = [f"{_SBEXT}.{module}" for module in PROGRAMS.values()]
    recipes = [f"recipes.{recipe}" for recipe in recipes]
    for name in (*launch._IMPORTED, *commands, *recipes):
        importlib.import_module(name)
    gc.freeze()


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
    folder = arguments.folder.absolute()
    import_all(RECIPE_SETTINGS)
    cases = {name_of(case): case for case in all_cases()[:: arguments.every]}
    kept = folder / "found.json"
    before = read_json(kept) if kept.exists() else {}
    found = {k: v for k, v in before.items() if k in cases and is_right(v)}
    left = {name: case for name, case in cases.items() if name not in found}
    results = run_campaign(list(left.values()), folder) if left else iter(())
    for number, (name, each) in enumerate(zip(left, results, strict=True), 1):
        found[name] = each
        if number % 50 == 0 or number == len(left):
            write_json(kept, found)
    write_json(arguments.output, report(found, len(cases)))
    total = collections.Counter(each["outcome"] for each in found.values())
    print(json.dumps(total), f"written: {arguments.output}")


def name_of(case: Case) -> str:
    """Return what tells a case from all others."""
    return json.dumps([case.program, case.name, *case.words])


def is_right(result: dict[str, Any]) -> bool:
    """Return whether a case ended as it should."""
    if result["outcome"] == "accepted":
        return reason_of(result["program"], result["case"]) is not None
    return result["outcome"] == "one clear line"


def report(found: dict[str, dict[str, Any]], n_planned: int) -> dict[str, Any]:
    """Return the result file's content."""
    return {
        "kind": "benchmark",
        "what": "bad values and files for every recipe and command",
        "n_planned": n_planned,
        "left out": left_out(),
        **summary(list(found.values())),
        "seconds": round(sum(each["seconds"] for each in found.values())),
        **machine("cpu"),
    }


if __name__ == "__main__":
    main()
