"""Public names of the rooms: importable, lazy, documented, used by YAMLs."""

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys

import pytest
from house import PACKAGE, ROOT

PROMISED = {
    "speechbrain_ext": "SpeakerVerifier",
    "speechbrain_ext.losses": (
        "AAMSoftmax DINOLoss L2SP LossGate MoCoLoss NTXentLoss NoisyLabels "
        "correct_labels rdino_regularizer"
    ),
    "speechbrain_ext.models": (
        "ContextAwareMHFA DINOHead Embedder MHFA MomentumTeacher Projection "
        "RawWaveform SpeakerEncoder SpeechEncoder WeightedSumECAPA "
        "WeightedSumTDNN build_embedder load_embedder save_embedder"
    ),
    "speechbrain_ext.augment": "Augment",
    "speechbrain_ext.clustering": (
        "choose_n_clusters cut_tree kmeans ward_tree"
    ),
    "speechbrain_ext.verification": (
        "Estimate Result as_norm cosine_scores equal_error_rate min_dcf"
    ),
}
ROOMS = [
    "speechbrain_ext",
    *sorted(
        f"speechbrain_ext.{path.parent.name}"
        for path in PACKAGE.glob("*/__init__.py")
    ),
]
NAMES = [
    (room, name)
    for room in ROOMS
    for name in getattr(importlib.import_module(room), "__all__", ())
]
# The rooms that a script of a user's own is written with.
LIBRARY = [(room, name) for room, name in NAMES if room in PROMISED]
YAMLS = sorted(ROOT.glob("hparams/**/*.yaml"))
# Not loaded by the verifier, nor by a room's name alone.
HEAVY = "faiss matplotlib sklearn tensorboard"


@pytest.mark.parametrize("room", PROMISED)
def test_a_room_has_the_names_that_it_promises(room):
    public = importlib.import_module(room).__all__
    assert set(PROMISED[room].split()) <= set(public)


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_a_public_name_is_imported_through_its_room(room, name):
    module = importlib.import_module(room)
    thing = getattr(module, name)
    assert callable(thing) and name in dir(module)


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_a_public_name_is_not_that_of_a_module_of_its_room(room, name):
    """After an import of the module, the room's name would be the module."""
    assert importlib.util.find_spec(f"{room}.{name}") is None


@pytest.mark.parametrize("room", ROOMS)
def test_an_unknown_name_of_a_room_is_an_attribute_error(room):
    module = importlib.import_module(room)
    if hasattr(module, "__all__"):
        with pytest.raises(AttributeError, match="has no"):
            getattr(module, "no_such_name")  # noqa: B009


def parameters(thing):
    """Arguments that a user gives to a class or function."""
    function = thing.__init__ if inspect.isclass(thing) else thing
    if function is object.__init__:
        return []
    names = list(inspect.signature(function).parameters)
    return [name for name in names if name not in ("self", "args", "kwargs")]


def section(text, title):
    """Body of a section of a docstring, or None."""
    found = re.search(
        rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, re.M | re.S
    )
    return found and found[1]


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_a_public_name_says_what_it_is(room, name):
    text = inspect.getdoc(getattr(importlib.import_module(room), name)) or ""
    first = text.partition("\n")[0]
    assert first.endswith((".", ":")) and len(first) < 80, first


@pytest.mark.parametrize(("room", "name"), LIBRARY)
def test_a_public_name_has_a_whole_docstring(room, name):
    thing = getattr(importlib.import_module(room), name)
    text = inspect.getdoc(thing) or ""
    example = section(text, "Example")
    assert example and ">>> " in example and name in example
    wanted = parameters(thing)
    arguments = section(text, "Arguments") or ""
    said = " ".join(re.findall(r"^[\w*, ]+(?= :)", arguments, re.M))
    said_names = set(re.findall(r"\w+", said))
    assert set(wanted) <= said_names, set(wanted) - said_names
    if inspect.isfunction(thing):
        assert section(text, "Returns")


@pytest.mark.parametrize(("room", "name"), LIBRARY)
def test_public_methods_say_what_they_take(room, name):
    thing = getattr(importlib.import_module(room), name)
    if not inspect.isclass(thing):
        return
    for method_name, method in vars(thing).items():
        if method_name.startswith("_") or not inspect.isfunction(method):
            continue
        text = inspect.getdoc(method) or ""
        assert text, method_name
        several = len(parameters(method)) > 1
        if several and method_name not in ("set_extra_state",):
            arguments = section(text, "Arguments")
            assert arguments, f"{name}.{method_name}"


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.stem)
def test_yamls_name_rooms_and_no_modules(path):
    text = path.read_text("utf-8")
    for named in re.findall(r"speechbrain_ext[\w.]*", text):
        parts = named.rstrip(".").split(".")
        if len(parts) == 1:
            continue
        room = ".".join(parts[:2])
        assert room in ROOMS, named
        assert len(parts) == 3, f"{named} is not room.Name"
        assert parts[2] in importlib.import_module(room).__all__, named


def test_the_verifier_and_the_losses_load_nothing_heavy():
    code = (
        "import sys; from speechbrain_ext import SpeakerVerifier; "
        "from speechbrain_ext.losses import AAMSoftmax, DINOLoss; "
        f"print([m for m in {HEAVY.split()} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
