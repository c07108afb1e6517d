"""Where a model comes from, read off the receipts by their hashes.

A receipt names the SHA-256 of what its stage read and wrote. Walking from a
file to the stage that wrote it, to what that read, and so on, gives the very
steps that led to it and no others, whatever else lies in the run's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechbrain_ext.files import InputError, PathLike, read_json
from speechbrain_ext.receipts import RECEIPT, describe_file

# A run's stages lie this deep, e.g. round1/model/stage.json.
_PLACES = (RECEIPT, f"*/{RECEIPT}", f"*/*/{RECEIPT}")


def read_lineage(sha256: str, folder: PathLike) -> list[dict[str, Any]]:
    """Receipts of all steps that led to a file, the earliest first.

    Arguments
    ---------
    sha256 : str
        Of the file.
    folder : str or os.PathLike
        Where the stages' folders are, up to two levels below.

    Returns
    -------
    list of dict
        The receipts, each with its ``folder`` relative to the given one;
        empty when no stage there wrote the file.

    Example
    -------
    >>> from speechbrain_ext.files import write_json
    >>> root = getfixture("tmp_path")
    >>> def entry(sha): return {"path": "x", "sha256": sha}
    >>> write_json(root / "a" / "stage.json", {"recipe": "prepare",
    ...     "inputs": {}, "outputs": {"train.csv": entry("1")}})
    >>> write_json(root / "b" / "stage.json", {"recipe": "train",
    ...     "inputs": {"x": entry("1")}, "outputs": {"w.ckpt": entry("2")}})
    >>> [receipt["recipe"] for receipt in read_lineage("2", root)]
    ['prepare', 'train']
    """
    folder = Path(folder)
    makers: dict[str, dict[str, Any]] = {}
    for place in _PLACES:
        for path in sorted(folder.glob(place)):
            receipt = read_json(path)
            receipt["folder"] = path.parent.relative_to(folder).as_posix()
            for name, output in receipt.get("outputs", {}).items():
                # Models of one architecture share their YAML.
                if not name.endswith(".yaml"):
                    makers.setdefault(output["sha256"], receipt)
    found: dict[str, dict[str, Any]] = {}
    _visit(sha256, makers, found, set())
    return list(found.values())


def _visit(
    sha256: str,
    makers: dict[str, dict[str, Any]],
    found: dict[str, dict[str, Any]],
    begun: set[str],
) -> None:
    """Put the maker of a file, after those of what it read, into ``found``."""
    receipt = makers.get(sha256)
    if receipt is None or receipt["folder"] in begun:
        return
    begun.add(receipt["folder"])
    for given in receipt["inputs"].values():
        _visit(given["sha256"], makers, found, begun)
    found[receipt["folder"]] = receipt


def check_made_from(
    folder: PathLike, name: str, path: PathLike, words: str
) -> None:
    """Refuse a stage that did not read this very file.

    Arguments
    ---------
    folder : str or os.PathLike
        The stage's output folder.
    name : str
        The input, as the stage's receipt calls it.
    path : str or os.PathLike
        The file.
    words : str
        What is wrong if it was another, for the message.

    Raises
    ------
    InputError
        There is no receipt, or it names other bytes.

    Example
    -------
    >>> check_made_from("nowhere", "embedder", "a.ckpt", "wrong")
    Traceback (most recent call last):
    speechbrain_ext.files.InputError: nowhere/stage.json: no such file; run ...
    """
    receipt = read_json(Path(folder) / RECEIPT)
    given = receipt.get("inputs", {}).get(name, {}).get("sha256")
    if given != describe_file(path)["sha256"]:
        raise InputError(f"{folder} was not made from {path}: {words}")


def check_unchanged(folder: PathLike, names: list[str]) -> None:
    """Refuse outputs of a stage that are not as its receipt has them.

    Arguments
    ---------
    folder : str or os.PathLike
        The stage's output folder.
    names : list of str
        Outputs of it.

    Raises
    ------
    InputError
        One is unknown to the receipt, missing or changed.
    """
    outputs = read_json(Path(folder) / RECEIPT).get("outputs", {})
    for name in names:
        path = Path(folder) / name
        known = outputs.get(name, {}).get("sha256")
        if known != describe_file(path)["sha256"]:
            raise InputError(
                f"{path} is not what its stage wrote, see {RECEIPT} beside "
                "it; run that stage again with --overwrite=True"
            )
