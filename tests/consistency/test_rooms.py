"""The arrows between the rooms of the package, and no circles."""

import ast
import graphlib
from pathlib import Path

import pytest
from house import DRIVER, PACKAGE, ROOT, recipes

# What each room may import from, besides itself.
ARROWS = {
    "utils": "",
    "commands": "utils",
    "dataio": "utils",
    "losses": "utils",
    "augment": "dataio utils",
    "models": "dataio utils",
    "clustering": "dataio utils",
    "verification": "dataio utils",
    "training": "augment clustering dataio losses models utils verification",
    "inference": "clustering commands dataio models utils",
    "experiment": "clustering commands dataio inference training utils "
    "verification",
    "report": "clustering commands dataio experiment training utils "
    "verification",
}
MOST_MODULES = 22
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(PACKAGE.glob("*/**/*.py"))
}
STARTERS = {"subprocess", "runpy", "multiprocessing", "importlib"}


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def own_modules(path: Path) -> set[str]:
    """Modules of the package that a file imports."""
    dotted = {n for n in imported(path) if n.startswith("speechbrain_ext.")}
    return {n if n in MODULES else n.rpartition(".")[0] for n in dotted}


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_the_package_holds_rooms_only():
    folders = {p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    others = {"__init__.py", "__main__.py", "py.typed"}
    assert folders - others == ARROWS.keys()


@pytest.mark.parametrize("room", ARROWS)
def test_a_room_fits_a_screen(room):
    modules = set(PACKAGE.glob(f"{room}/*.py")) - {
        PACKAGE / room / "__init__.py"
    }
    assert len(modules) <= MOST_MODULES


@pytest.mark.parametrize("room", ARROWS)
def test_a_room_says_what_it_may_import_from(room):
    text = ast.get_docstring(
        ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8"))
    )
    words = " ".join(text.split()).rpartition("May import from: ")[2]
    said = set(words.rstrip(".").replace(",", "").split())
    assert said == set(ARROWS[room].split() or "no other room".split())


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_along_the_arrows_only(name):
    room = room_of(name)
    allowed = {room, *ARROWS[room].split()}
    strangers = {
        other
        for other in own_modules(MODULES[name]) - {"speechbrain_ext"}
        if room_of(other) not in allowed
    }
    assert not strangers, f"{name} imports {sorted(strangers)}"


def test_no_imports_go_in_circles():
    graph = {name: own_modules(path) for name, path in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_knows_no_recipe_and_imports_by_full_name(name):
    roots = {dotted.split(".")[0] for dotted in imported(MODULES[name])}
    assert not roots & {"", "recipes", *recipes()}


@pytest.mark.parametrize("stem", sorted(recipes()))
def test_recipes_never_import_each_other(stem):
    roots = {dotted.split(".")[0] for dotted in imported(recipes()[stem])}
    assert not roots & {"", "recipes", *recipes()}


@pytest.mark.parametrize("stem", sorted(recipes()))
def test_only_the_driver_starts_processes(stem):
    roots = {dotted.split(".")[0] for dotted in imported(recipes()[stem])}
    text = recipes()[stem].read_text("utf-8")
    assert not roots & STARTERS and "os.system" not in text
    assert ("experiment.launch" in text) == (stem == DRIVER)
