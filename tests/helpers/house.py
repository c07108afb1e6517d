"""What stands in the repository: recipes, their YAMLs, tracked files."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "speechbrain_ext"
DRIVER = "run_rounds"
# Plans of the driver: named for what is run, not for the recipe.
PLANS = (
    "quickstart",
    "folder",
    "minivox",
    "minivox_wavlm",
    "minivox_whisper",
    "minivox_whisper_extra",
    "minivox_whisper_mhfa",
    "minivox_whisper_tuned",
    "voxceleb",
)
# What plans are made of, beside them.
PLAN_PARTS = (
    "base",
    "small",
    "minivox_corpus",
    "minivox_recogniser",
    "minivox_after_whisper",
    "debug",
)


def recipes() -> dict[str, Path]:
    """Recipe scripts by stem."""
    return {path.stem: path for path in sorted(ROOT.glob("recipes/*.py"))}


def leaves() -> list[Path]:
    """YAMLs that a recipe is run with: those of recipes, and plans."""
    found = [*ROOT.glob("hparams/*.yaml"), *ROOT.glob("hparams/plans/*.yaml")]
    return sorted(path for path in found if path.stem not in PLAN_PARTS)


def recipe_of(leaf: Path) -> str | None:
    """The recipe that a YAML is for: the longest stem that begins its own."""
    if leaf.stem in PLANS:
        return DRIVER
    fitting = [
        stem for stem in recipes() if f"{leaf.stem}_".startswith(f"{stem}_")
    ]
    return max(fitting, key=len, default=None)
