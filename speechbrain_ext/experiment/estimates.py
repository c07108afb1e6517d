"""Estimates of the hours, memory and disk that the steps of a plan take.

Seconds are those of finished steps of the same run, where there are any, and
else measured on this machine: of the step's own embedder, of reading audio, of
matrix products and of drawing trials. What is left out (augmentation, heads and
losses, checkpoints, plots) makes the truth longer, not shorter.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from speechbrain_ext.clustering.settings import MakePseudoLabels
from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.audio_files import length_of
from speechbrain_ext.dataio.audio_tree import AudioTree, is_aac
from speechbrain_ext.dataio.corpus_files import CorpusFiles
from speechbrain_ext.dataio.manifest import SAMPLE_RATE, read_manifest
from speechbrain_ext.dataio.settings import PrepareToy
from speechbrain_ext.experiment.launch import given_processes, launcher_words
from speechbrain_ext.experiment.leaf import Leaf
from speechbrain_ext.experiment.plan import N_CROPS, Plan
from speechbrain_ext.experiment.plan_check import n_labels
from speechbrain_ext.experiment.steps import Kind, Step
from speechbrain_ext.training.networks import (
    Cost,
    training_cost,
    training_weights,
    views_of,
)
from speechbrain_ext.training.settings import (
    EmbedPretrained,
    ModelSettings,
    TrainingSettings,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.verification.bootstrap import replicates, single_trials
from speechbrain_ext.verification.settings import ScoreTrials

BUDGET = 4.0  # seconds to measure each embedder
_AAC_BYTES = 8000  # of a second: VoxCeleb2's m4a have 64 kbit/s
_ROW = 150  # bytes of a manifest's row, about
_FLOAT = 4  # bytes
# Steps of seconds, whatever the corpus.
_EXTRACTIONS = {Kind.EXTRACT_TRAIN, Kind.EXTRACT_TEST, Kind.EXTRACT_COHORT}
_QUICK = {Kind.TRUE_LABELS, Kind.WHITEN, Kind.JOIN, Kind.EXPORT}

T = TypeVar("T")


class Size(NamedTuple):
    """Size of a corpus; ``audio`` are some of its training files."""

    n_train: int
    n_test: int
    train_seconds: float
    test_seconds: float
    n_trials: dict[str, int]
    audio: list[str]


class Estimate(NamedTuple):
    """Estimate of what a step takes; None where it is not known."""

    hours: float | None = None
    memory: float | None = None  # bytes of the device's memory, at most
    disk: float | None = None  # bytes that the step leaves
    source: str = ""  # the finished step whose seconds were scaled


def n_batches(n_utterances: int, batch_size: int) -> int:
    """Return the number of whole batches in an epoch.

    Example
    -------
    >>> n_batches(1000, 240)
    4
    """
    return n_utterances // batch_size


def training_hours(
    n_epochs: int, n_steps: int, step_seconds: float, read_seconds: float = 0.0
) -> float:
    """Return the hours of a training; audio is read beside the computing.

    Arguments
    ---------
    n_epochs, n_steps : int
        Epochs, and steps of each.
    step_seconds, read_seconds : float
        Seconds of a step that computing and reading take.

    Example
    -------
    >>> training_hours(15, 4000, 0.6, read_seconds=0.1)
    10.0
    """
    return n_epochs * n_steps * max(step_seconds, read_seconds) / 3600


def embedding_bytes(n_rows: int, size: int, n_crops: int = 0) -> int:
    """Return the bytes of float32 embeddings of utterances and their crops.

    Example
    -------
    >>> embedding_bytes(1000, 256)
    1024000
    """
    return n_rows * size * _FLOAT * (1 + n_crops)


def cluster_flops(
    n_rows: int, size: int, n_centroids: int | None, n_iterations: int
) -> float:
    """Return the multiplications of k-means and Ward's tree, twice.

    Ward's tree compares all pairs in each of its rounds, of which there are
    few while most merges are made: about four times all pairs.

    Example
    -------
    >>> cluster_flops(1000, 10, None, 25)
    80000000.0
    """
    if n_centroids is None:
        return 8.0 * n_rows**2 * size
    k_means = 2.0 * n_rows * n_centroids * size * n_iterations
    return k_means + 8.0 * n_centroids**2 * size


def corpus_size(
    plan: Plan, leaves: Mapping[str, Leaf], files: CorpusFiles | None
) -> Size | None:
    """Return the size of a plan's corpus: as prepared, or as files tell.

    Arguments
    ---------
    plan : Plan
        The plan.
    leaves : mapping of str to Leaf
        Settings of its steps.
    files : CorpusFiles, optional
        Its files, if it has any and they were found.

    Returns
    -------
    Size or None
        None if nothing is known.
    """
    settings = leaves[plan.steps[0].name].settings
    if plan.corpus.is_done and plan.corpus.train.exists():
        facts = plan.corpus.facts()
        root = facts["data_root"]
        paths = read_manifest(plan.corpus.train, "utterances", root).paths()
        return Size(
            facts["n_train"],
            facts.get("n_test", 0),
            3600 * facts["hours_train"],
            3600 * facts.get("hours_test", 0.0),
            facts["n_trials"],
            _some(paths),
        )
    if isinstance(settings, PrepareToy):
        return _toy_size(settings)
    if files is None:
        return None
    test = files.test or AudioTree([], [], [])
    n_trials = {trials.name: len(trials) for trials in files.trials}
    return Size(
        len(files.train),
        len(test),
        _mean_seconds(files.train) * len(files.train),
        _mean_seconds(test) * len(test),
        n_trials,
        _some(files.train.paths),
    )


def _toy_size(settings: PrepareToy) -> Size:
    each = settings.n_sessions * settings.n_utterances
    n_train = settings.n_speakers * each
    n_test = settings.n_test_speakers * each
    mean = (settings.min_seconds + settings.max_seconds) / 2
    n_trials = {"toy": settings.n_trials}
    return Size(n_train, n_test, n_train * mean, n_test * mean, n_trials, [])


def _some(items: Sequence[T], n_items: int = 20) -> list[T]:
    """Return some items, evenly spread."""
    return list(items[:: max(len(items) // n_items, 1)][:n_items])


def _mean_seconds(tree: AudioTree) -> float:
    """Return the mean length of files, by the headers of some of them."""
    found = []
    for row in _some(range(len(tree))):
        path = tree.paths[row]
        if is_aac(path):
            found.append(tree.sizes[row] / _AAC_BYTES)
            continue
        n_frames, reason = length_of(path)
        # Preparation lists such files with the reason.
        if not reason:
            found.append(n_frames / SAMPLE_RATE)
    return float(np.mean(found)) if found else 0.0


class Rates:
    """Rates of this machine, each measured when it is first asked for.

    Arguments
    ---------
    device : str
        Where models compute.
    """

    def __init__(self, device: str):
        self.device = device
        self._costs: dict[str, Cost | None] = {}

    def of_training(
        self, settings: ModelSettings, batch_size: int
    ) -> Cost | None:
        """Return the cost of a training's embedder; None: not known."""
        key = f"{settings.embedder_yaml} {settings.embedder}"
        # One measurement serves all crops, for it is by second of audio.
        if key not in self._costs:
            self._costs[key] = training_cost(
                settings, self.device, batch_size, BUDGET
            )
        return self._costs[key]

    @functools.cached_property
    def flops(self) -> float:
        """Floating-point operations a second of a matrix product."""
        x = torch.randn(1024, 1024, device=self.device)
        (x @ x).sum().item()
        start, n_done = time.perf_counter(), 0
        while time.perf_counter() - start < 0.3:
            (x @ x).sum().item()
            n_done += 1
        return n_done * 2.0 * 1024**3 / (time.perf_counter() - start)

    @functools.cached_property
    def draw_seconds(self) -> float:
        """Seconds a trial and a drawing of the bootstrap take."""
        n_trials, n_draws = 20000, 20
        rng = np.random.default_rng(0)
        scores, labels = (
            rng.normal(size=n_trials),
            rng.integers(2, size=n_trials),
        )
        start = time.perf_counter()
        units = single_trials(n_trials)
        replicates(scores, labels, units, n_replicates=n_draws)
        return (time.perf_counter() - start) / (n_trials * n_draws)

    def read_seconds(self, paths: Sequence[str], crop: float) -> float:
        """Return the seconds that reading a crop of a file takes."""
        n_frames, spent = round(crop * SAMPLE_RATE), []
        for path in paths:
            start = time.perf_counter()
            try:
                read_crop(path, 0, n_frames)
            # Too short, or AAC, which is trained from wav copies.
            except InputError:
                continue
            spent.append(time.perf_counter() - start)
            if sum(spent) > 1:
                break
        return float(np.median(spent)) if spent else 0.0


def n_processes(words: Sequence[str]) -> int:
    """Return the number of processes that a launcher starts.

    Example
    -------
    >>> n_processes(["torchrun", "--nproc_per_node=8"]), n_processes([])
    (8, 1)
    """
    value = given_processes(words)
    if value is None:
        return 1
    return int(value) if value.isdigit() else max(torch.cuda.device_count(), 1)


class Estimator:
    """Estimates for the steps of a plan.

    Arguments
    ---------
    plan : Plan
        The plan.
    leaves : mapping of str to Leaf
        Settings of its steps.
    size : Size, optional
        Of its corpus; None: nothing can be said.
    rates : Rates, optional
        Of this machine; None: only disk is estimated.
    """

    def __init__(
        self,
        plan: Plan,
        leaves: Mapping[str, Leaf],
        size: Size | None,
        rates: Rates | None = None,
    ):
        self.plan, self.leaves = plan, leaves
        self.size, self.rates = size, rates

    def of(self, step: Step[Any]) -> Estimate:
        """Return the estimate for a step, as if it was still to do."""
        if self.size is None:
            return Estimate()
        settings = self.leaves[step.name].settings
        if isinstance(settings, TrainingSettings):
            found = self._training(settings, self.size)
        elif isinstance(settings, EmbedPretrained):
            found = self._fitting(settings, self.size)
        elif step.kind in _EXTRACTIONS:
            found = self._extraction(step, settings, self.size)
        elif isinstance(settings, MakePseudoLabels):
            found = self._labels(settings, self.size)
        elif isinstance(settings, ScoreTrials):
            found = self._scores(settings, self.size)
        elif step.kind is Kind.PREPARE:
            found = self._corpus(settings, self.size)
        else:
            found = self._rest(step, self.size)
        return self._as_recorded(step, found)

    def left(self, steps: Sequence[Step[Any]]) -> tuple[float | None, bool]:
        """Return the seconds of steps, by what like steps of this run took.

        Arguments
        ---------
        steps : sequence of Step
            Those from the current one on; what is done takes no time.

        Returns
        -------
        tuple
            The seconds, None where no step is known; and whether all that
            take long are.
        """
        hours, is_whole = [], True
        for step in steps:
            if step.artifacts.is_done:
                continue
            recorded = self._recorded(step)
            if recorded is not None and recorded.hours is not None:
                hours.append(recorded.hours)
            elif step.kind not in _QUICK:
                is_whole = False
        return (3600 * sum(hours) if hours else None), is_whole

    def _as_recorded(self, step: Step[Any], found: Estimate) -> Estimate:
        """Return an estimate with the hours of a like step of this run."""
        recorded = None if self.rates is None else self._recorded(step)
        if recorded is None:
            return found
        return found._replace(hours=recorded.hours, source=recorded.source)

    def _recorded(self, step: Step[Any]) -> Estimate | None:
        """Return the hours of a like step of this run, scaled; None: none."""
        if self.size is None:
            return None
        for other in self.plan.steps:
            if other.recipe != step.recipe or not other.artifacts.is_done:
                continue
            facts = other.artifacts.facts()
            works = [self._work(each) for each in (step, other)]
            alike = self._model(step) == self._model(other)
            if facts.get("resumed") or not alike or not all(works):
                continue
            hours = facts.get("seconds", 0) / 3600 * works[0] / works[1]
            return Estimate(hours, source=other.name)
        return None

    def _work(self, step: Step[Any]) -> float:
        """Return what the seconds of like steps are in proportion to."""
        size, settings = self.size, self.leaves[step.name].settings
        if size is None:
            return 0.0
        if isinstance(settings, TrainingSettings):
            views = views_of(settings)
            audio = views.trained + views.embedded / 3
            return settings.n_epochs * self._used(settings, size) * audio
        if isinstance(settings, EmbedPretrained):
            return self._fitted_audio(settings, size)
        if step.kind in _EXTRACTIONS:
            return self._audio(step, settings, size)
        if isinstance(settings, ScoreTrials):
            n_draws = settings.n_bootstrap * len(settings.parsed_backends())
            return float(n_draws * sum(size.n_trials.values()))
        return 1.0

    def _model(self, step: Step[Any]) -> str:
        """Return a text that is the same for steps with a like model."""
        parts = self._trained(step)
        return " ".join(
            f"{part.embedder_yaml} {sorted(part.embedder.items())}"
            for part in parts
        )

    def _trained(self, step: Step[Any]) -> list[ModelSettings]:
        """Return the settings of what made the parts of a step's embedder."""
        settings = self.leaves[step.name].settings
        if isinstance(settings, ModelSettings):
            return [settings]
        folders = getattr(settings, "embedder_folders", None)
        if folders is None:
            folders = [getattr(settings, "embedder_folder", "")]
        makers = {
            str(getattr(other.artifacts, "embedder", None)): other
            for other in self.plan.steps
        }
        known = [makers[folder] for folder in folders if folder in makers]
        return [part for maker in known for part in self._trained(maker)]

    def _used(self, settings: Any, size: Size) -> int:
        """Return the number of utterances of an epoch, in whole batches."""
        share = 1 - getattr(settings, "valid_fraction", 0.0)
        n_used = int(size.n_train * share)
        most = getattr(settings, "max_per_class", None)
        n_classes = self._classes(settings)
        if most is not None and n_classes is not None:
            n_used = min(n_used, most * n_classes)
        n_steps = n_batches(n_used, settings.batch_size)
        return n_steps * settings.batch_size

    def _classes(self, settings: Any) -> int | None:
        return n_labels(self.plan, self.leaves, settings.train_annotation)

    def processes(self, settings: Any) -> int:
        """Return the number of processes that share a step."""
        size = getattr(settings, "batch_size", None)
        launcher = self.plan.settings.launcher
        return n_processes(launcher_words(launcher, size))

    def _training(self, settings: Any, size: Size) -> Estimate:
        views, n_shares = views_of(settings), self.processes(settings)
        batch = max(settings.batch_size // n_shares, 1)
        weights = training_weights(settings, self._classes(settings))
        disk = None if weights is None else float(_FLOAT * weights.on_disk)
        cost = self.rates and self.rates.of_training(settings, batch)
        if not self.rates or not cost or weights is None:
            return Estimate(disk=disk)
        audio = views.trained * cost.train_seconds
        audio += views.embedded * cost.embed_seconds
        read = self.rates.read_seconds(size.audio, views.longest)
        # Crops of an utterance come from one file.
        read *= batch / max(settings.num_workers, 1)
        n_steps = n_batches(self._used(settings, size), settings.batch_size)
        hours = training_hours(settings.n_epochs, n_steps, batch * audio, read)
        memory = _FLOAT * weights.in_memory
        memory += batch * views.trained * cost.train_bytes
        return Estimate(hours, memory, disk)

    def _batch(self, settings: ModelSettings) -> int:
        """Return the crops that a process computes at once."""
        if isinstance(settings, EmbedPretrained):
            return int(settings.max_batch_seconds // settings.choice_crop) or 1
        size = getattr(settings, "batch_size", 1)
        return max(size // self.processes(settings), 1)

    def _fitting(self, settings: EmbedPretrained, size: Size) -> Estimate:
        """Return the estimate for an encoder that is fitted, not trained."""
        weights = training_weights(settings, None)
        if weights is None:
            return Estimate()
        disk = float(_FLOAT * weights.on_disk)
        cost = self.rates and self.rates.of_training(
            settings, self._batch(settings)
        )
        if not cost:
            return Estimate(disk=disk)
        seconds = self._fitted_audio(settings, size) * cost.embed_seconds
        memory = float(_FLOAT * weights.in_memory)
        memory += settings.max_batch_seconds * cost.train_bytes
        hours = seconds / self.processes(settings) / 3600
        return Estimate(hours, memory, disk)

    def _fitted_audio(self, settings: EmbedPretrained, size: Size) -> float:
        """Return the seconds of audio that a fitted encoder hears."""
        if settings.layers != "auto":
            return size.train_seconds
        n_pairs = min(settings.n_choice_utterances, size.n_train)
        # Two crops, each as it is and augmented.
        return size.train_seconds + 4 * n_pairs * settings.choice_crop

    def _embedded_rows(self, step: Step[Any], size: Size) -> tuple[int, float]:
        """Return the number of utterances of an extraction, and seconds."""
        if step.kind is Kind.EXTRACT_TRAIN:
            return size.n_train, size.train_seconds
        if step.kind is Kind.EXTRACT_COHORT:
            most = self.leaves[step.name].settings.max_per_speaker
            n_speakers = self.plan.settings.n_clusters
            n_rows = size.n_train
            if isinstance(n_speakers, int):
                n_rows = min(n_rows, most * n_speakers)
            return n_rows, size.train_seconds * n_rows / size.n_train
        return size.n_test, size.test_seconds

    def _audio(self, step: Step[Any], settings: Any, size: Size) -> float:
        """Return the seconds of audio that an extraction embeds."""
        n_rows, seconds = self._embedded_rows(step, size)
        return seconds + n_rows * settings.n_crops * settings.crop

    def _extraction(
        self, step: Step[Any], settings: Any, size: Size
    ) -> Estimate:
        n_rows, _ = self._embedded_rows(step, size)
        parts = self._trained(step)
        dimension = self._dimension(step)
        disk = None
        if dimension is not None:
            disk = float(embedding_bytes(n_rows, dimension, settings.n_crops))
            disk += n_rows * _ROW / 2
        if self.rates is None or not parts:
            return Estimate(disk=disk)
        costs = [self.rates.of_training(p, self._batch(p)) for p in parts]
        known = [cost for cost in costs if cost is not None]
        if len(known) < len(parts):
            return Estimate(disk=disk)
        each = sum(cost.embed_seconds for cost in known)
        seconds = self._audio(step, settings, size) * each
        memory = _FLOAT * sum(cost.n_weights for cost in known)
        memory += settings.max_batch_seconds * max(c.train_bytes for c in known)
        hours = seconds / self.processes(settings) / 3600
        return Estimate(hours, memory, disk)

    def _dimension(self, step: Step[Any]) -> int | None:
        parts = self._trained(step)
        weights = [training_weights(part, None) for part in parts]
        known = [each.embedding_size for each in weights if each]
        sizes = [size for size in known if size is not None]
        return sum(sizes) if sizes and len(sizes) == len(parts) else None

    def _embedded(self, folder: str) -> int | None:
        """Return the dimension of the embeddings in a step's folder."""
        for step in self.plan.steps:
            if str(step.folder) == folder:
                return self._dimension(step)
        return None

    def _labels(self, settings: MakePseudoLabels, size: Size) -> Estimate:
        disk = float(2 * _ROW * size.n_train)
        dimension = self._embedded(settings.embeddings_folder)
        if self.rates is None or dimension is None:
            return Estimate(disk=disk)
        n_rows, n_centroids = size.n_train, settings.n_centroids
        work = cluster_flops(
            n_rows, dimension, n_centroids, settings.n_iterations
        )
        # Rows, and centroids with their sums and nearest neighbours.
        n_vectors = n_rows + 3 * (n_centroids or n_rows)
        memory = float(embedding_bytes(n_vectors, dimension))
        return Estimate(work / self.rates.flops / 3600, memory, disk)

    def _scores(self, settings: ScoreTrials, size: Size) -> Estimate:
        n_trials = sum(size.n_trials.values())
        n_backends = len(settings.parsed_backends())
        # Scores, and the pictures of each list and back-end.
        disk = float(_FLOAT * n_trials * n_backends)
        disk += 5e5 * n_backends * len(size.n_trials)
        dimension = self._embedded(settings.embeddings_folder)
        if self.rates is None or dimension is None:
            return Estimate(disk=disk)
        n_crops = N_CROPS if settings.protocol == "crops" else 0
        pairs = max(n_crops**2, 1)
        work = 2.0 * n_trials * pairs * dimension / self.rates.flops
        draws = n_trials * settings.n_bootstrap * n_backends
        hours = (work + draws * self.rates.draw_seconds) / 3600
        memory = embedding_bytes(size.n_test, dimension, n_crops)
        if settings.needs_cohort_folder:
            memory += embedding_bytes(size.n_train, dimension)
        return Estimate(hours, float(memory + 100 * n_trials), disk)

    def _corpus(self, settings: Any, size: Size) -> Estimate:
        n_rows = size.n_train + size.n_test
        disk = float(2 * _ROW * n_rows)
        has_aac = any(is_aac(path) for path in size.audio)
        made = isinstance(settings, PrepareToy)
        if has_aac or made or getattr(settings, "convert_to_wav", False):
            seconds = size.train_seconds + size.test_seconds
            disk += 2 * SAMPLE_RATE * seconds
        if self.rates is None or has_aac or made:
            # Decoding m4a and synthesis are not measured.
            return Estimate(disk=disk)
        # A header takes no longer than the first samples.
        heard = 0.01
        if settings.check_samples or settings.convert_to_wav:
            heard = (size.train_seconds + size.test_seconds) / n_rows
        each = self.rates.read_seconds(size.audio, heard)
        hours = n_rows * each / max(settings.num_workers, 1) / 3600
        return Estimate(hours, float(1000 * n_rows), disk)

    def _rest(self, step: Step[Any], size: Size) -> Estimate:
        """Return the estimate for true labels, whitening and export."""
        if step.kind is Kind.TRUE_LABELS:
            return Estimate(
                0.0, 1000.0 * size.n_train, 2.0 * _ROW * size.n_train
            )
        for other in reversed(self.plan.steps):
            parts = self._trained(other)
            weights = [training_weights(part, None) for part in parts]
            known = [each.n_weights for each in weights if each]
            if known:
                n_bytes = float(_FLOAT * sum(known))
                # A shared folder holds the weights in two forms.
                n_copies = 2 if step.kind is Kind.EXPORT else 1
                return Estimate(0.0, 2 * n_bytes, n_copies * n_bytes)
        return Estimate()


def check_disk(plan: Plan, needed: float) -> None:
    """Raise InputError if the disk has no room for what is to be written.

    Arguments
    ---------
    plan : Plan
        The plan.
    needed : float
        Bytes that its remaining steps write, about.

    Raises
    ------
    InputError
        With the free and the needed space; or the folder is a file.
    """
    folder = Path(plan.settings.output_folder).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(
            f"output_folder is {plan.settings.output_folder}; {folder} is a "
            "file, not a folder; give another --output_folder"
        )
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    if needed > free:
        raise InputError(
            f"output_folder is {plan.settings.output_folder}; its disk has "
            f"{in_bytes(free)} free and the remaining steps write about "
            f"{in_bytes(needed)}; free some, or give --output_folder on "
            "another disk"
        )


def in_bytes(value: float | None) -> str:
    """Return bytes in words.

    Example
    -------
    >>> in_bytes(1.5e9), in_bytes(2e4), in_bytes(None)
    ('1.5 GB', '<1 MB', 'unknown')
    """
    if value is None:
        return "unknown"
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value / 1e6:.0f} MB" if value >= 1e6 else "<1 MB"


def in_hours(value: float | None) -> str:
    """Return hours in words.

    Example
    -------
    >>> in_hours(2.25), in_hours(0.5), in_hours(0.001), in_hours(None)
    ('2.2 h', '30 min', '<1 min', 'unknown')
    """
    if value is None:
        return "unknown"
    if value >= 1:
        return f"{value:,.1f} h"
    return f"{60 * value:.0f} min" if 60 * value >= 1 else "<1 min"
