"""Folders that come with the package: recipes, their YAMLs, a model.

In a clone they lie beside the package, in an installed wheel inside it.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from speechbrain_ext.utils.files import PathLike

PACKAGE = Path(__file__).parents[1]
INSTALLED = (PACKAGE / "hparams").is_dir()
SHIPPED = PACKAGE if INSTALLED else PACKAGE.parent
RECIPES = SHIPPED / "recipes"
HPARAMS = SHIPPED / "hparams"
PLANS = HPARAMS / "plans"
MODELS = SHIPPED / "pretrained"


def import_folders() -> list[str]:
    """Return what a Python needs on its path to import this package.

    Returns
    -------
    list of str
        The clone; empty where the package is installed.

    Example
    -------
    >>> len(import_folders()) == (not INSTALLED)
    True
    """
    return [] if INSTALLED else [str(PACKAGE.parent)]


def shipped_model(name: PathLike) -> Path | None:
    """Return the folder of a model that comes with the package, by its name.

    Arguments
    ---------
    name : str or os.PathLike
        Such as ``minivox_whisper`` or ``pretrained/minivox_whisper``.

    Returns
    -------
    pathlib.Path or None
        None: no such model comes with it.

    Example
    -------
    >>> shipped_model("minivox_whisper").name
    'minivox_whisper'
    >>> shipped_model("owner/minivox_whisper") is None
    True
    """
    parts = Path(name).parts
    if len(parts) == 2 and parts[0] == MODELS.name:
        parts = parts[1:]
    return _models().get(parts[0]) if len(parts) == 1 else None


def _models() -> dict[str, Path]:
    return {path.name: path for path in MODELS.glob("*") if path.is_dir()}


def shipped_models_like(name: str) -> list[str]:
    """Return the names of shipped models that a name may be meant for.

    Example
    -------
    >>> shipped_models_like("minivox_wisper")
    ['minivox_whisper']
    """
    return difflib.get_close_matches(Path(name).name, _models())


def comment_of(path: Path) -> str:
    """Return the first sentence of the comment that a YAML begins with.

    Arguments
    ---------
    path : pathlib.Path
        The YAML file.

    Example
    -------
    >>> comment_of(PLANS / "voxceleb.yaml")[:16]
    "The paper's plan"
    """
    words = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        words += line.lstrip("# ").split()
        if words and words[-1].endswith((".", ":")):
            break
    text = " ".join(words)
    for end in (". ", ": "):
        text = text.partition(end)[0]
    return text.rstrip(".:")


def shipped_leaves(recipe: str) -> list[Path]:
    """Return the YAMLs that come with a recipe; its own is the first.

    Arguments
    ---------
    recipe : str
        Stem of its script. Those of ``run_rounds`` are the plans.

    Example
    -------
    >>> [path.stem for path in shipped_leaves("train_dino")]
    ['train_dino_ecapa', 'train_dino_ecapa_small']
    """
    if recipe == "run_rounds":
        # The others in the folder are parts that plans are made of.
        return [
            path
            for path in sorted(PLANS.glob("*.yaml"))
            if "\nrun:" in path.read_text("utf-8")
        ]
    own = [HPARAMS / f"{recipe}.yaml"]
    kinds = sorted(HPARAMS.glob(f"{recipe}_*.yaml"))
    return [path for path in (*own, *kinds) if path.is_file()]
