"""Command lines of the programs that take no YAML.

They are apart from the programs, which import much: to be helped, or told
what was mistyped, nobody waits for that.
"""

from __future__ import annotations

import argparse

_PURPOSES = {
    "verify": "Tell whether two files are of the same speaker.",
    "embed": "Embed all audio files below a folder: an array of a row for "
    "each, and a table that names the rows. Files that cannot be embedded are "
    "left out and named.",
    "group": "Tell who is who in a folder of files of one speaker each: a "
    "table, and a page to listen to.",
    "compare": "Write a page with two runs side by side: error rates, in a "
    "paired test where they scored the same trials, settings that differ, "
    "clusters and times.",
}
_EXAMPLES = {
    "verify": "minivox_whisper a.wav b.wav",
    "embed": "minivox_whisper SPEECH embeddings.npy",
    "group": "minivox_whisper SPEECH groups",
    "compare": "exp/first exp/second",
}
_TREE = "folder of audio files, at any depth"


def parser_of(program: str) -> argparse.ArgumentParser:
    """Return the parser of a program's command line.

    Arguments
    ---------
    program : str
        ``verify``, ``embed``, ``group`` or ``compare``.

    Example
    -------
    >>> given = parser_of("verify").parse_args(["model", "a.wav", "b.wav"])
    >>> given.first, given.prior
    ('a.wav', None)
    """
    parser = argparse.ArgumentParser(
        f"sbext {program}",
        description=_PURPOSES[program],
        epilog=f"example: sbext {program} {_EXAMPLES[program]}",
    )
    if program == "compare":
        _add_runs(parser)
        return parser
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder that export_model wrote, its id on the hub, or "
        "minivox_whisper, which comes with the package",
    )
    _ADDED[program](parser)
    parser.add_argument(
        "--device",
        help="device to compute on: cpu, cuda:0, ...; default: a GPU if there "
        "is one",
    )
    return parser


def _add_runs(parser: argparse.ArgumentParser) -> None:
    for name in ("first", "second"):
        words = f"output folder of the {name} run, as run_rounds left it"
        parser.add_argument(name, metavar=name.upper(), help=words)
    parser.add_argument(
        "--page",
        default="comparison.html",
        help="the page to write; default: comparison.html",
    )


def _add_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="FIRST", help="first audio file")
    parser.add_argument("second", metavar="SECOND", help="second audio file")
    parser.add_argument(
        "--prior",
        type=float,
        help="prior probability of the same speaker, between 0 and 1; "
        "default: the model's",
    )


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help=_TREE)
    parser.add_argument(
        "output",
        metavar="OUT.npy",
        help="array to write, float32; OUT.csv names its rows",
    )
    parser.add_argument(
        "--num_workers",
        type=int,
        default=0,
        help="number of processes that read audio; default 0: the main "
        "process alone",
    )


def _add_group(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help=_TREE)
    parser.add_argument(
        "output", metavar="OUT", help="folder to write table and page to"
    )
    parser.add_argument(
        "--n_speakers",
        type=int,
        help="number of speakers; default: it is estimated",
    )


_ADDED = {"verify": _add_pair, "embed": _add_folder, "group": _add_group}
