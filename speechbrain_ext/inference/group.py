"""Tell who is who in a folder of files of one speaker each:

> sbext group MODEL folder out

MODEL is a folder that export_model wrote, its id on the hub, or the name of a
model that comes with the package. It writes
``out/groups.csv`` (``ID,group,similarity,other``: an ID is a file's path below
the folder) and ``out/groups.html``, a page to listen to. The number of
speakers is estimated unless ``--n_speakers`` gives it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from speechbrain_ext.commands.arguments import parser_of
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.inference.grouping import Groups
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import check_own_table, write_text
from speechbrain_ext.utils.templates import render

TABLE, PAGE = "groups.csv", "groups.html"
_HEADER = "ID,group,similarity,other"
_UNSURE = 0.1  # cosine by which a file is nearer to its speaker than to others


def main(argv: list[str] | None = None) -> None:
    """Embed the files below a folder, group them, write table and page.

    Arguments
    ---------
    argv : list of str, optional
        The words after the program; the process's own when None.

    Raises
    ------
    InputError
        No file can be embedded, there are fewer than speakers, or the output
        would replace another table.
    """
    given = parser_of("group").parse_args(argv)
    output = checked_output(given.output)
    verifier = SpeakerVerifier.from_pretrained(given.model, given.device)
    files, groups = verifier.group(
        given.folder, given.n_speakers, keep_going=True, progress=True
    )
    table = table_of(files.names, groups, given.folder)
    output.mkdir(parents=True, exist_ok=True)
    page = page_of(table, given.folder, output, files.bad)
    write_text(output / TABLE, _in_utf8(table.to_csv(index=False)))
    write_text(output / PAGE, _in_utf8(page))
    print(
        f"{groups.n_speakers} speakers in {len(table):,} files; "
        f"{len(files.bad):,} files were left out; listen: {output / PAGE}"
    )


def _in_utf8(text: str) -> str:
    """Escape what is not UTF-8: the names of some files."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def checked_output(path: str) -> Path:
    """Return the output folder; raise InputError if it would replace a table.

    Raises
    ------
    InputError
        It is a file, or has another table of that name.

    Example
    -------
    >>> checked_output(str(getfixture("tmp_path"))).is_dir()
    True
    """
    output = Path(path)
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; name a folder for the output")
    check_own_table(output / TABLE, _HEADER)
    return output


def table_of(paths: list[str], groups: Groups, folder: str) -> pd.DataFrame:
    """Return the table of files, in order of group and similarity.

    Arguments
    ---------
    paths : list of str
        Of the files.
    groups : Groups
        Of their embeddings.
    folder : str
        That IDs are relative to.

    Returns
    -------
    pandas.DataFrame
        ``ID``, ``group`` (speaker1, ...), ``similarity`` and ``other``.

    Example
    -------
    >>> from speechbrain_ext.inference import group_embeddings
    >>> voices = np.eye(2)[[0, 1, 1]]
    >>> groups = group_embeddings(voices, n_speakers=2)
    >>> table_of(["f/a.wav", "f/b.wav", "f/c.wav"], groups, "f").group.tolist()
    ['speaker1', 'speaker1', 'speaker2']
    """
    width = len(str(groups.n_speakers))
    table = pd.DataFrame(
        {
            "ID": [os.path.relpath(path, folder) for path in paths],
            "group": [f"speaker{k + 1:0{width}}" for k in groups.labels],
            "similarity": groups.similarity.round(4),
            "other": groups.other.round(4),
        }
    )
    order = np.lexsort((-groups.similarity, groups.labels))
    return table.iloc[order].reset_index(drop=True)


def page_of(
    table: pd.DataFrame, folder: str, output: Path, bad: dict[str, str]
) -> str:
    """Return the page to listen to, as HTML.

    Its audio is the files themselves, by their path from the page.
    """
    start = os.path.relpath(folder, output)
    groups = []
    for name, rows in table.groupby("group", sort=True):
        files = [_entry(row, start) for row in rows.itertuples()]
        groups.append({"name": name, "files": files})
    return render(
        "speechbrain_ext.inference",
        PAGE,
        title=f"Who is who in {os.path.basename(os.path.abspath(folder))}",
        n_files=len(table),
        groups=groups,
        bad=bad,
    )


def _entry(row: Any, start: str) -> dict[str, Any]:
    """Return what the page says of a file."""
    path = os.path.join(start, row.ID)
    return {
        "name": row.ID,
        "address": quote(os.fsencode(path.replace(os.sep, "/"))),
        "similarity": row.similarity,
        "unsure": row.similarity - row.other < _UNSURE,
    }


if __name__ == "__main__":
    run(main)
