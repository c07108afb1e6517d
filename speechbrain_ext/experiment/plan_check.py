"""Checks of a plan before its first step runs: values, files, records."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.clustering.settings import MakePseudoLabels
from speechbrain_ext.dataio.audio import check_crop
from speechbrain_ext.dataio.audio_tree import is_inside
from speechbrain_ext.dataio.corpus_files import CorpusFiles, find_corpus
from speechbrain_ext.dataio.embedding_formats import (
    files_of,
    read_vectors,
    select_utterances,
)
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.settings import PrepareFolder, PrepareVoxCeleb
from speechbrain_ext.dataio.trials import check_pairs
from speechbrain_ext.experiment.artifacts import (
    GivenArtifacts,
    LabelArtifacts,
    ModelArtifacts,
)
from speechbrain_ext.experiment.late_values import late_values, stand_ins
from speechbrain_ext.experiment.launch import recipe_script
from speechbrain_ext.experiment.leaf import Leaf, read_leaf
from speechbrain_ext.experiment.plan import Plan
from speechbrain_ext.experiment.recipe_settings import (
    RECIPE_SETTINGS,
    settings_of,
)
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.experiment.stage_records import DONE, state_of
from speechbrain_ext.experiment.steps import Kind, Role, Step
from speechbrain_ext.training.settings import (
    ModelSettings,
    TrainingSettings,
    TrainSpeaker,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.provenance import describe_input
from speechbrain_ext.utils.shipped import RECIPES
from speechbrain_ext.utils.vectors import check_vectors
from speechbrain_ext.utils.yaml_trees import merged, plain, read_yaml
from speechbrain_ext.verification.settings import ScoreTrials

# Keys of a stage that have other names in a plan.
_OF_PLAN = {
    "protocol": "protocol",
    "backends": "backends",
    "whiten": "whiten_scores",
    "data_folder": "data_folder",
    "augment_folder": "augment_folder",
    "musan": "musan",
    "rirs": "rirs",
}


def check_plan(plan: Plan) -> dict[str, Leaf]:
    """Raise InputError if a step of the plan would reject its settings.

    Arguments
    ---------
    plan : Plan
        With all steps that it may come to have.

    Returns
    -------
    dict of str to Leaf
        The settings of each step, by its name.

    Raises
    ------
    InputError
        One line with the key as the plan has it, its value, the rule and a
        way out.
    """
    late = stand_ins(plan.corpus)
    if plan.corpus.is_done and plan.corpus.train.exists():
        late = late_values(plan.corpus, plan.settings.data_folder)
    leaves = {}
    for step in plan.steps:
        if not recipe_script(step.recipe).is_file():
            raise InputError(
                f"stages.{step.kind.stage}.recipe is {step.recipe!r}; "
                f"{RECIPES} has no such recipe; give one of "
                f"{sorted(RECIPE_SETTINGS)}"
            )
        with _plans_words(step, plan.settings):
            kind = settings_of(step.recipe)
            leaf = read_leaf(kind, step.hparams, step.values(late))
        _check_positives(step, leaf.settings)
        leaves[step.name] = leaf
    return leaves


@contextlib.contextmanager
def _plans_words(step: Step[Any], settings: RunRounds) -> Iterator[None]:
    """Raise a recipe's error with its keys as the plan names them."""
    try:
        yield
    except InputError as error:
        words = in_the_plans_words(str(error), step, settings)
        raise InputError(words) from None


def corpus_files(plan: Plan, leaves: Mapping[str, Leaf]) -> CorpusFiles | None:
    """Find the files of the plan's corpus.

    Arguments
    ---------
    plan : Plan
        The plan.
    leaves : mapping of str to Leaf
        From `check_plan`.

    Returns
    -------
    CorpusFiles or None
        None if the corpus is made of synthetic voices.

    Raises
    ------
    InputError
        A folder or a list cannot be read, or a list names an unknown file.
    """
    step = plan.steps[0]
    settings = leaves[step.name].settings
    if not isinstance(settings, PrepareVoxCeleb | PrepareFolder):
        return None
    with _plans_words(step, plan.settings):
        return find_corpus(settings)


def check_lists(files: CorpusFiles, leaves: Mapping[str, Leaf]) -> None:
    """Raise InputError if the scoring of the plan would refuse a list.

    Arguments
    ---------
    files : CorpusFiles
        From `corpus_files`.
    leaves : mapping of str to Leaf
        From `check_plan`.

    Raises
    ------
    InputError
        Naming the list and the first line that is wrong.
    """
    repeats = {
        leaf.settings.allow_repeats
        for leaf in leaves.values()
        if isinstance(leaf.settings, ScoreTrials)
    }
    for trials in files.trials if repeats else ():
        try:
            check_pairs(trials, allow_repeats=all(repeats))
        except InputError as error:
            way = "stages.score.set.allow_repeats=True"
            words = str(error).replace("--allow_repeats=True", way)
            raise InputError(words) from None


def find_problems(
    plan: Plan, leaves: Mapping[str, Leaf], n_train: int | None
) -> list[str]:
    """List what would stop a later step of the plan.

    Sources of encoders, sounds, numbers of utterances and of clusters, and
    options that contradict each other; of steps that are not done yet.

    Arguments
    ---------
    plan : Plan
        With all steps that it may come to have.
    leaves : mapping of str to Leaf
        From `check_plan`.
    n_train : int, optional
        Number of training utterances, if it is known.

    Returns
    -------
    list of str
        A line for each, as of an `InputError`; each once.
    """
    found: dict[str, str] = {}
    for step in plan.steps:
        if step.artifacts.is_done:
            continue
        settings = leaves[step.name].settings
        for check in _checks_of(plan, leaves, step, settings, n_train):
            try:
                with _plans_words(step, plan.settings):
                    check()
            except InputError as error:
                # The same for several steps is said of the first.
                line = str(error)
                found.setdefault(line.partition(" (step ")[0], line)
    return list(found.values())


def _checks_of(
    plan: Plan,
    leaves: Mapping[str, Leaf],
    step: Step[Any],
    settings: Any,
    n_train: int | None,
) -> Iterator[Callable[[], None]]:
    """Yield the checks of a step, which raise InputError."""
    if isinstance(settings, ModelSettings):
        yield settings.check_modules
        yield partial(_check_trust, plan, leaves, step, settings)
        yield settings.check_encoder
        if _is_made(plan, settings.augment_folder):
            yield settings.check_sounds
    if isinstance(settings, TrainingSettings):
        yield partial(_check_batch, settings, n_train)
    if isinstance(settings, TrainSpeaker):
        yield partial(_check_gate, settings)
        yield partial(_check_classes, plan, leaves, settings)
        yield partial(_check_tuned, plan, leaves, settings)
    if isinstance(settings, MakePseudoLabels) and n_train is not None:
        yield partial(settings.check_numbers, n_train)
    if isinstance(settings, ScoreTrials):
        yield partial(_check_cohort, plan, leaves, settings)


def _is_made(plan: Plan, folder: str | None) -> bool:
    """Return whether a folder is there by now, if the corpus brings it."""
    inside = folder is not None and is_inside(folder, plan.corpus.folder)
    return not inside or plan.corpus.train.exists()


def _check_batch(settings: TrainingSettings, n_train: int | None) -> None:
    if n_train is not None and settings.batch_size > n_train:
        raise InputError(
            f"batch_size is {settings.batch_size}; there are {n_train} "
            "training utterances, and a batch needs as many; lower "
            "--batch_size"
        )


def _check_gate(settings: TrainSpeaker) -> None:
    """Raise InputError for a gate or a correction that would never act."""
    n_epochs, gated = settings.n_epochs, settings.gate is not None
    for key, acts in (
        ("gate_from_epoch", gated),
        ("correct_from_epoch", settings.correct_from_epoch is not None),
    ):
        first = getattr(settings, key)
        if acts and first > n_epochs:
            off = "gate=null" if key == "gate_from_epoch" else f"{key}=null"
            raise InputError(
                f"{key} is {first}; n_epochs is {n_epochs}, so that it would "
                f"never act; lower --{key}, or give --{off}"
            )


def _check_classes(
    plan: Plan, leaves: Mapping[str, Leaf], settings: TrainSpeaker
) -> None:
    """Raise InputError if a batch of different speakers cannot be filled."""
    n_classes = n_labels(plan, leaves, settings.train_annotation)
    size = settings.batch_size
    if settings.one_per_class and n_classes is not None and n_classes < size:
        raise InputError(
            f"batch_size is {size}; one_per_class is true and there are "
            f"{n_classes} speakers, of which a batch has one utterance each; "
            "lower --batch_size, or give --one_per_class=False"
        )


def _check_trust(
    plan: Plan,
    leaves: Mapping[str, Leaf],
    step: Step[Any],
    settings: ModelSettings,
) -> None:
    """Raise InputError if later steps would not load a class of the user's."""
    unknown = settings.unknown_classes() if settings.trust_yaml else []
    made, readers = {str(step.artifacts.embedder)}, []
    for other in plan.steps if unknown else ():
        given = leaves[other.name].settings
        folders = getattr(given, "embedder_folders", None)
        folders = folders or [getattr(given, "embedder_folder", None)]
        if made.isdisjoint(folders):
            continue
        # A whitened or joined embedder has the classes of its parts.
        made.add(str(getattr(other.artifacts, "embedder", "")))
        if not getattr(given, "trust_yaml", False):
            readers.append(other.kind)
    if readers:
        ways = [
            "export: false"
            if kind is Kind.EXPORT
            else f"stages.{kind.stage}.set.trust_yaml: true"
            for kind in readers
        ]
        raise InputError(
            f"embedder_yaml is {settings.embedder_yaml}; it names "
            f"{unknown[0]}, and later steps load only the package's own "
            f"classes; say in the plan {', '.join(dict.fromkeys(ways))}"
        )


# What a model may change when it is trained further with the same weights.
_FREE = {"freeze", "checkpoint_layers", "encoder_source", "encoder_config"}


def _check_tuned(
    plan: Plan, leaves: Mapping[str, Leaf], settings: TrainSpeaker
) -> None:
    """Raise InputError if weights would not fit the model that starts there."""
    for step in plan.steps:
        left = step.artifacts
        if not isinstance(left, ModelArtifacts):
            continue
        if settings.init_from != str(left.embedder):
            continue
        before = leaves[step.name].settings
        was, now = (_sizes(each) for each in (before, settings))
        if settings.init_classifier != str(left.classifier):
            # Another loss, or none: the embedder alone is taken over.
            was.pop("loss.n_subcentres"), now.pop("loss.n_subcentres")
        for key in sorted(was.keys() | now.keys()):
            if was.get(key) != now.get(key):
                raise InputError(
                    f"{key} is {now.get(key)}; training goes on from "
                    f"{step.name}, which has {was.get(key)}, and its weights "
                    "would not fit; give both the same"
                )


def _sizes(settings: TrainingSettings) -> dict[str, Any]:
    """Return the values that decide the shapes of a training's weights."""
    sizes = plain(read_yaml(settings.embedder_yaml))
    sizes = merged(sizes, settings.embedder)
    loss = getattr(settings, "loss", {})
    found = {f"embedder.{k}": v for k, v in sizes.items() if k not in _FREE}
    return {**found, "loss.n_subcentres": dict(loss).get("n_subcentres", 1)}


def _check_cohort(
    plan: Plan, leaves: Mapping[str, Leaf], settings: ScoreTrials
) -> None:
    """Raise InputError if a cohort has fewer members than are used."""
    needed = [
        backend.name
        for backend in settings.parsed_backends()
        if backend.norm == "as-norm" or backend.calibration == "qmf"
    ]
    if not needed or settings.cohort != "means":
        return
    size = n_labels(plan, leaves, settings.cohort_labels)
    if size is not None and settings.n_cohort is not None:
        size = min(size, settings.n_cohort)
    if size is not None and settings.top_k > size:
        raise InputError(
            f"top_k is {settings.top_k}; {needed[0]} takes so many of a "
            f"cohort that has {size}, the mean of each pseudo-speaker; lower "
            "--top_k"
        )


def n_labels(
    plan: Plan, leaves: Mapping[str, Leaf], path: str | None
) -> int | None:
    """Return the number of speakers in a step's labels, if it is known.

    Arguments
    ---------
    plan : Plan
        The plan.
    leaves : mapping of str to Leaf
        From `check_plan`.
    path : str, optional
        File of the labels.

    Returns
    -------
    int or None
        As clustered, or else as the plan asks for.
    """
    for step in plan.steps:
        left = step.artifacts
        if isinstance(left, LabelArtifacts) and str(left.labels) == path:
            if left.is_done and "n_clusters" in left.facts():
                return int(left.facts()["n_clusters"])
            wanted = getattr(leaves[step.name].settings, "n_clusters", None)
            return wanted if isinstance(wanted, int) else None
    return None


def states_of(
    plan: Plan, leaves: Mapping[str, Leaf], files: CorpusFiles | None
) -> dict[str, tuple[str, str]]:
    """Return the state of each step, and the reason for it.

    Arguments
    ---------
    plan : Plan
        The plan.
    leaves : mapping of str to Leaf
        From `check_plan`.
    files : CorpusFiles, optional
        Those that the corpus would be prepared from now.

    Returns
    -------
    dict of str to (str, str)
        As of `speechbrain_ext.experiment.stage_records.state_of`, by name.
    """
    found: dict[str, tuple[str, str]] = {}
    describe = functools.cache(describe_input)
    for step in plan.steps:
        leaf = leaves[step.name]
        inputs = {k: str(v) for k, v in leaf.settings.inputs().items()}
        request: dict[str, Any] = {
            "recipe": step.recipe,
            "hparams": plain(leaf.record),
        }
        if step.kind is Kind.PREPARE and files is not None:
            request |= files.request()
        lost = [path for path in inputs.values() if not Path(path).exists()]
        if inputs and not lost and step.artifacts.is_begun:
            request["inputs"] = {k: describe(v) for k, v in inputs.items()}
        state, reason = state_of(step.folder, request, whole=False)
        if state == DONE and lost:
            reason = f"{lost[0]} is missing"
        elif state == DONE:
            reason = _waits_for(plan, found, inputs)
        found[step.name] = state, reason
    return found


def _waits_for(
    plan: Plan, states: Mapping[str, tuple[str, str]], inputs: Mapping[str, str]
) -> str:
    """Return which step will write an input anew, if one will."""
    for step in plan.steps:
        if states.get(step.name, (DONE,))[0] != DONE:
            if any(is_inside(path, step.folder) for path in inputs.values()):
                return f"as long as {step.name} leaves the same files again"
    return ""


def check_start(settings: RunRounds) -> None:
    """Raise InputError if what a run is to start from is not there.

    Arguments
    ---------
    settings : RunRounds
        The plan.

    Raises
    ------
    InputError
        A file of the embedder or of the embeddings is missing.

    Example
    -------
    >>> plan = {"run": "a", "output_folder": "none", "stages": {}}
    >>> check_start(RunRounds(**plan, start_embedder="nowhere"))
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: start_embedder is 'nowhere'; ...
    """
    if settings.start_embedder is not None:
        folder = Path(settings.start_embedder)
        if missing := GivenArtifacts(folder, folder).missing():
            raise InputError(
                f"start_embedder is {str(folder)!r}; it lacks {missing}; give "
                "the folder named embedder that a training left, or the one "
                "named model of an export"
            )
    for key in ("start_embeddings", "start_test_embeddings"):
        path = getattr(settings, key)
        if path is not None:
            given = settings.stage("start").set.get("from_format", "auto")
            for file in files_of(path, given).values():
                if not Path(file).exists():
                    raise InputError(
                        f"{key} is {path!r}; {file} is missing; correct --{key}"
                    )


def check_given(plan: Plan, files: CorpusFiles) -> None:
    """Raise InputError if given embeddings are not those of the corpus.

    They are read whole: a file that breaks its format is found before the
    corpus is prepared, which may take hours.

    Arguments
    ---------
    plan : Plan
        The plan.
    files : CorpusFiles
        From `corpus_files`.

    Raises
    ------
    InputError
        A file breaks its format, an utterance has no embedding, or one is
        not finite.
    """
    for step in plan.steps:
        is_train = step.kind is Kind.START_TRAIN
        tree = files.train if is_train else files.test
        if step.kind not in (Kind.START_TRAIN, Kind.START_TEST):
            continue
        if step.artifacts.is_done or tree is None:
            continue
        source = step.values({})["embeddings"]
        given = plan.settings.stage("start").set.get("from_format", "auto")
        ids, vectors = read_vectors(source, given)
        wanted = np.array(tree.ids, dtype=object)
        where = f"{source} for the corpus"
        check_vectors(select_utterances(ids, vectors, wanted, where), wanted)


def check_crops(
    plan: Plan, leaves: Mapping[str, Leaf], manifest: Manifest
) -> None:
    """Raise InputError if a training's crop is longer than every utterance.

    Arguments
    ---------
    plan : Plan
        The plan.
    leaves : mapping of str to Leaf
        From `check_plan`.
    manifest : Manifest
        The training utterances.

    Raises
    ------
    InputError
        Of the first such training, in the plan's words.
    """
    for step in plan.steps:
        settings = leaves[step.name].settings
        if step.artifacts.is_done or not isinstance(settings, TrainingSettings):
            continue
        for key in ("global_crop", "local_crop", "crop"):
            if hasattr(settings, key):
                with _plans_words(step, plan.settings):
                    check_crop(manifest, getattr(settings, key), key)


def _check_positives(step: Step[Any], found: Any) -> None:
    """Raise InputError if a training of the plan uses true positives."""
    if getattr(found, "positives", None) == "oracle":
        raise InputError(
            f"stages.{step.kind.stage}.set.positives is 'oracle'; a plan must "
            "not use true speakers, as no later result would say so; give "
            "ssps or utterance, or run train_contrastive alone with oracle"
        )


def in_the_plans_words(error: str, step: Step[Any], settings: RunRounds) -> str:
    """Return a recipe's error with its keys as the plan names them.

    Arguments
    ---------
    error : str
        ``KEY is VALUE; RULE; WAY OUT``.
    step : Step
        The step that the recipe was to do.
    settings : RunRounds
        The plan.

    Returns
    -------
    str
    """
    key = error.partition(" ")[0].partition(".")[0]
    stage = step.kind.stage
    change: Any = {}
    if step.system.role is Role.ABLATION:
        change = settings.ablations[step.system.row]
    if key in change:
        above = f"ablations.{step.system.row}."
    elif key in settings.stage(stage).set:
        above = f"stages.{stage}.set."
    elif key in _OF_PLAN:
        return error.replace(key, _OF_PLAN[key], 1).replace(
            f"--{key}", f"--{_OF_PLAN[key]}"
        )
    else:
        return f"{error} (step {step.name}, {step.hparams})"
    said, _, way = error.rpartition("; ")
    return f"{above}{said}; {way.replace('--', above)}"
