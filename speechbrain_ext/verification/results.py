"""Result records: error rates of one system on one trial list.

Numbers of ours reach a table only through a result file that a run wrote;
numbers of others come from ``yardsticks.json`` with their source and are
marked as cited.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, read_json, write_json
from speechbrain_ext.utils.provenance import versions
from speechbrain_ext.verification.bootstrap import (
    Units,
    interval,
    interval_in_words,
    replicates,
    single_trials,
)
from speechbrain_ext.verification.cllr import cllr, min_cllr
from speechbrain_ext.verification.metrics import (
    EER_DEFINITION,
    HULL_DEFINITION,
    actual_dcf,
    convex_hull_eer,
    equal_error_rate,
    min_dcf,
    normalised_dcf,
)
from speechbrain_ext.verification.records import (
    Estimate,
    check_count,
    check_number,
    from_plain,
)
from speechbrain_ext.verification.subgroups import (
    Group,
    GroupRates,
    measured,
)

YARDSTICKS = "yardsticks.json"
_RESULT, _YARDSTICKS = "result", "yardsticks"
# Rounding of float32 costs may exceed 1, the cost of a constant answer.
_MOST = 1 + 1e-6
# Prior of the second minimum cost, besides a result's own prior.
_SECOND_PRIOR = 0.05
# Facts of a stage record that each result must state, in words.
CAVEATS = {
    "synthetic": (
        "the voices are synthetic: nothing here says anything about real speech"
    ),
    "random_encoder": "encoder of random weights, not pre-trained",
    "true_labels": "true speaker labels were used in training",
    "oracle_positives": (
        "true speakers chose the positives: true labels were used in training"
    ),
}


@dataclasses.dataclass(frozen=True)
class TrialFacts:
    """Facts about a trial list: name, hash and counts.

    Arguments
    ---------
    name : str
        Name of the list.
    corpus : str
        Corpus of its utterances.
    sha256 : str
        Hash of the file as read.
    n_target, n_nontarget : int
        Trials of each class.
    """

    name: str
    corpus: str
    sha256: str
    n_target: int
    n_nontarget: int

    def __post_init__(self) -> None:
        check_count("n_target", self.n_target)
        check_count("n_nontarget", self.n_nontarget)


@dataclasses.dataclass(frozen=True)
class SystemFacts:
    """Facts about a system: its training and its scoring.

    Arguments
    ---------
    name : str
        Row label: ``DINO``, ``round 1``, ``true labels``, ...
    run : str
        Name of the run: its rows share a table.
    backend : str
        What was done to the scores: ``raw``, ``as-norm+qmf``, ...
    protocol : str
        What of an utterance was compared: ``full`` or ``crops`` and how.
    score_norm : str
        ``none``, or how the scores were normalised and with which cohort.
    calibration : str
        ``none``, or on which trials it was learnt and what came out.
    n_train : int or None
        Training utterances.
    device : str
        Where it was trained.
    seconds : float or None
        Training time.
    caveat : str
        What a reader must know: toy data, encoder of random weights, ...
    never_acted : tuple of str
        Options of its training that changed nothing, in words: the row says
        nothing about them.

    Example
    -------
    >>> system = SystemFacts("round 1", run="mine", backend="raw")
    >>> result = Result.of_scores(
    ...     [0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1], system=system, trials="dev"
    ... )
    >>> result.system.name
    'round 1'
    """

    name: str
    run: str = ""
    backend: str = ""
    protocol: str = "full"
    score_norm: str = "none"
    calibration: str = "none"
    n_train: int | None = None
    device: str = ""
    seconds: float | None = None
    caveat: str = ""
    never_acted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.n_train is not None:
            check_count("n_train", self.n_train)
        if self.seconds is not None:
            check_number("seconds", self.seconds, low=0)


@dataclasses.dataclass(frozen=True)
class LabelFacts:
    """Statistics of a system's pseudo-labels, against the truth if known.

    Arguments
    ---------
    nmi, ari : float or None
        Agreement with the true speakers: normalised mutual information, from
        0 to 1, and adjusted Rand index, from -1 to 1.
    n_clusters : int or None
        Number of pseudo-speakers.
    weighted : bool or None
        Whether a centroid weighed as many as its utterances in Ward's tree.
    """

    nmi: float | None = None
    ari: float | None = None
    n_clusters: int | None = None
    weighted: bool | None = None

    def __post_init__(self) -> None:
        if self.nmi is not None:
            check_number("nmi", self.nmi, 0, 1)
        if self.ari is not None:
            check_number("ari", self.ari, -1, 1)
        if self.n_clusters is not None:
            check_count("n_clusters", self.n_clusters)


@dataclasses.dataclass(frozen=True)
class GateFacts:
    """Statistics of the loss gate in the last epoch of a training.

    None is unknown.

    Arguments
    ---------
    kept, corrected : float or None
        Shares of the labels that were kept and that were changed, 0 to 1.
    kind : str or None
        ``hard``, ``soft``, or ``none`` for a training without a gate.
    """

    kept: float | None = None
    corrected: float | None = None
    kind: str | None = None

    def __post_init__(self) -> None:
        for name in ("kept", "corrected"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0, 1)


@dataclasses.dataclass(frozen=True)
class BootstrapFacts:
    """Facts about the bootstrap that gave the intervals of a result.

    Arguments
    ---------
    words : str
        Description for a reader.
    seed : int
        Seed of the draws.
    n_units : int or None
        How many speakers, utterances or trials are drawn.
    unit : str
        ``speakers``, ``utterances`` or ``trials``; empty if unknown.
    """

    words: str
    seed: int = 0
    n_units: int | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if self.n_units is not None:
            check_count("n_units", self.n_units)


def _definitions() -> dict[str, str]:
    return {"eer": EER_DEFINITION, "eer_hull": HULL_DEFINITION}


@dataclasses.dataclass(frozen=True)
class Result:
    """Error rates of one system on one trial list, and their origin.

    To measure scores of your own, use `Result.of_scores`.

    Arguments
    ---------
    trials : TrialFacts
        The trial list.
    system : SystemFacts
        The system.
    eer : Estimate
        Equal error rate in %, with its interval.
    p_target : float
        Prior of ``min_dcf`` and ``actual_dcf``, with both costs 1.
    min_dcf : Estimate
        Minimum detection cost, normalised: over that of rejecting or
        accepting everything (`metrics.normalised_dcf`).
    bootstrap : BootstrapFacts
        How the intervals were drawn.
    eer_hull : float or None
        Equal error rate on the convex hull of the ROC, in %.
    min_dcf_05 : Estimate or None
        As ``min_dcf``, at a prior of 0.05.
    actual_dcf, actual_dcf_05 : float or None
        Cost at Bayes' threshold, normalised, of calibrated scores.
    cllr : float or None
        Bits, of calibrated scores.
    min_cllr : float or None
        Bits, after the best calibration that keeps the order.
    labels : LabelFacts or None
        Pseudo-labels that are reported with the system.
    gate : GateFacts or None
        What the loss gate of its training did.
    groups : tuple of GroupRates
        Error rates of groups of trials.
    definitions : dict of str to str
        What the two equal error rates are.
    versions : dict of str to str
        Of Python and the packages that decide a result.

    Raises
    ------
    InputError
        A value cannot be: a negative count, a share outside 0 to 1, an error
        rate outside 0 to 100 %, ...

    Example
    -------
    >>> result = Result.of_scores(
    ...     [0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1], system="DINO", trials="dev",
    ...     n_bootstrap=10,
    ... )
    >>> result.eer.value, round(result.min_dcf.value, 3)
    (50.0, 0.5)
    >>> result.trials.n_target
    2
    """

    trials: TrialFacts
    system: SystemFacts
    eer: Estimate
    p_target: float
    min_dcf: Estimate
    bootstrap: BootstrapFacts
    eer_hull: float | None = None
    min_dcf_05: Estimate | None = None
    actual_dcf: float | None = None
    actual_dcf_05: float | None = None
    cllr: float | None = None
    min_cllr: float | None = None
    labels: LabelFacts | None = None
    gate: GateFacts | None = None
    groups: tuple[GroupRates, ...] = ()
    definitions: dict[str, str] = dataclasses.field(
        default_factory=_definitions
    )
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    def __post_init__(self) -> None:
        check_number("p_target", self.p_target, 0, 1)
        _check_estimate("eer", self.eer, 100)
        _check_estimate("min_dcf", self.min_dcf, _MOST)
        if self.min_dcf_05 is not None:
            _check_estimate("min_dcf_05", self.min_dcf_05, _MOST)
        if self.eer_hull is not None:
            check_number("eer_hull", self.eer_hull, 0, 100)
        for name in ("actual_dcf", "actual_dcf_05", "cllr", "min_cllr"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), low=0)

    @classmethod
    def of_scores(
        cls,
        scores: ArrayLike,
        labels: ArrayLike,
        *,
        system: SystemFacts | str,
        trials: str,
        corpus: str = "",
        sha256: str = "",
        p_target: float = 0.01,
        n_bootstrap: int = 1000,
        seed: int = 0,
        units: Units | None = None,
        calibrated: bool = False,
        groups: Sequence[Group] = (),
        pseudo_labels: LabelFacts | None = None,
        gate: GateFacts | None = None,
    ) -> Result:
        """Measure the scores of a trial list.

        Arguments
        ---------
        scores : array
            One score a trial [N]; higher means more alike.
        labels : array
            1 for target, 0 for non-target [N].
        system : SystemFacts or str
            The system, or its name.
        trials : str
            Name of the list.
        corpus, sha256 : str
            Of the list, as in `TrialFacts`.
        p_target : float
            Prior probability of a target trial, for the detection costs.
        n_bootstrap : int
            Bootstrap samples of the intervals.
        seed : int
            Seed of the draws.
        units : Units, optional
            What the intervals draw: speakers (`trial_speakers.units_of`);
            single trials when None, whose intervals are too narrow.
        calibrated : bool
            Whether scores are natural log-likelihood ratios.
        groups : sequence of Group
            Groups of trials to measure too.
        pseudo_labels : LabelFacts, optional
            Kept as ``labels`` of the result.
        gate : GateFacts, optional
            Kept.

        Returns
        -------
        Result

        Raises
        ------
        InputError
            As in `metrics.error_rates`, or a value cannot be.

        Example
        -------
        >>> scores, labels = [0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1]
        >>> result = Result.of_scores(
        ...     scores, labels, system="mine", trials="dev", n_bootstrap=10
        ... )
        >>> result.write(getfixture("tmp_path") / "mine.json")
        """
        classes = np.asarray(labels)
        units = units or single_trials(len(classes))
        n_target = int(np.count_nonzero(classes))
        drawing = (p_target, n_bootstrap, seed)
        rates = _error_rates(scores, classes, units, *drawing)
        found = measured(groups, np.asarray(scores), classes, units, *drawing)
        return cls(
            trials=TrialFacts(
                trials, corpus, sha256, n_target, len(classes) - n_target
            ),
            system=SystemFacts(system) if isinstance(system, str) else system,
            p_target=p_target,
            bootstrap=BootstrapFacts(
                interval_in_words(units, n_bootstrap, classes),
                seed,
                units.count,
                units.name,
            ),
            labels=pseudo_labels,
            gate=gate,
            groups=tuple(found),
            **rates,
            **_information(scores, classes, p_target, calibrated),
        )

    def write(self, path: PathLike) -> None:
        """Write the result as JSON, atomically."""
        write_json(path, {"kind": _RESULT, **dataclasses.asdict(self)})


def _check_estimate(name: str, estimate: Estimate, high: float) -> None:
    for end in (estimate.low, estimate.value, estimate.high):
        check_number(name, end, 0, high)


def _error_rates(
    scores: ArrayLike,
    labels: NDArray,
    units: Units,
    p_target: float,
    n_bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Measure EER and both minimum costs, with their intervals."""
    priors = {"min_dcf": p_target, "min_dcf_05": _SECOND_PRIOR}
    drawn = replicates(
        scores, labels, units, list(priors.values()), n_bootstrap, seed
    )
    eer, _ = equal_error_rate(scores, labels)
    ends = interval(drawn.eer, eer, units.count)
    rates: dict[str, Any] = {
        "eer": Estimate.around(100 * eer, (100 * ends[0], 100 * ends[1])),
        "eer_hull": 100 * convex_hull_eer(scores, labels),
    }
    for (name, prior), costs in zip(priors.items(), drawn.costs, strict=True):
        cost, _ = min_dcf(scores, labels, prior)
        ends = interval(costs, cost, units.count)
        cost, low, high = (normalised_dcf(c, prior) for c in (cost, *ends))
        rates[name] = Estimate.around(cost, (low, high))
    return rates


def _information(
    scores: ArrayLike, labels: NDArray, p_target: float, calibrated: bool
) -> dict[str, Any]:
    """Measure min Cllr and, for log-likelihood ratios, the actual costs."""
    found = {"min_cllr": min_cllr(scores, labels)}
    if calibrated:
        found["cllr"] = cllr(scores, labels)
        found["actual_dcf"] = actual_dcf(scores, labels, p_target)
        found["actual_dcf_05"] = actual_dcf(scores, labels, _SECOND_PRIOR)
    return found


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """Published number to show beside ours.

    Arguments
    ---------
    system : str
        Row label.
    corpus, trials : str
        Corpus and name of the trial list.
    eer : float
        Equal error rate in %.
    source : str
        Where it was published.
    min_dcf : float, optional
        Normalised, at p_target 0.01.
    """

    system: str
    corpus: str
    trials: str
    eer: float
    source: str
    min_dcf: float | None = None

    def __post_init__(self) -> None:
        check_number("eer", self.eer, 0, 100)
        if self.min_dcf is not None:
            check_number("min_dcf", self.min_dcf, 0, 1)


def read_result(path: PathLike) -> Result:
    """Read a result file.

    Raises
    ------
    InputError
        It is absent, not JSON or not a result.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.pop("kind", None) != _RESULT:
        raise InputError(
            f"{path} is not a result file; score_trials writes such files as "
            "result_<list>.json; give one of them"
        )
    return _record(Result, value, path)


def read_results(folder: PathLike) -> list[Result]:
    """Read the result files below a folder; skip other JSON files.

    Arguments
    ---------
    folder : str or os.PathLike
        Written by score_trials, or ``results`` with all runs.

    Returns
    -------
    list of Result
        In the order of the paths.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("b", "a"):
    ...     result = Result.of_scores([0, 1], [0, 1], system=name, trials="dev")
    ...     result.write(folder / f"{name}.json")
    >>> [result.system.name for result in read_results(folder)]
    ['a', 'b']
    """
    paths = sorted(Path(folder).rglob("*.json"))
    return [read_result(path) for path in paths if _kind(path) == _RESULT]


def read_yardsticks(path: PathLike) -> list[Yardstick]:
    """Read published numbers, in the order of the file."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("kind") != _YARDSTICKS:
        raise InputError(
            f"{path} is not a file of yardsticks; see results/{YARDSTICKS}"
        )
    return [_record(Yardstick, row, path) for row in value["rows"]]


def _kind(path: Path) -> str | None:
    value = read_json(path)
    return value.get("kind") if isinstance(value, dict) else None


def _record(kind: type, value: dict[str, Any], path: PathLike) -> Any:
    try:
        return from_plain(kind, value)
    except TypeError as error:
        raise InputError(
            f"{path} was written by another version ({error}); score the "
            "trials again"
        ) from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
