"""Answer of a run: what was made, how good it is, what to do next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from speechbrain_ext.experiment.plan import Plan
from speechbrain_ext.experiment.run_results import Scored, compared_on
from speechbrain_ext.experiment.steps import Role
from speechbrain_ext.report.page import Answer, Number
from speechbrain_ext.report.run_facts import duration
from speechbrain_ext.verification.comparison import Comparison
from speechbrain_ext.verification.results import Result

_WIDE = 0.3  # of an EER: an interval that settles little
_NEAR = 1.1  # ratio to the supervised EER that leaves little to gain


class Standing(NamedTuple):
    """Systems that a run is judged by, on one trial list and back-end.

    ``final``, the run's model; ``first``, the bootstrap; ``supervised``, the
    same with true labels; None where it was not scored.
    """

    trials: str
    backend: str
    final: Scored
    first: Scored | None
    supervised: Scored | None

    def result(self, scored: Scored) -> Result:
        """Return a system's result on the list by the back-end."""
        return scored.result(self.trials, self.backend)

    @property
    def where(self) -> str:
        """What the numbers were measured on, in words."""
        return f"on {self.trials}, {self.backend or 'raw'} scores"


def standing(plan: Plan, scored: Sequence[Scored]) -> Standing | None:
    """Choose what to judge a run by; None if nothing was scored.

    The trial list is that of most speakers, then of most trials; the scores
    are those before normalisation and calibration, for they compare best.
    """
    ours = [
        one
        for one in scored
        if not one.system.has_true_labels
        and one.system.role not in (Role.PUBLISHED, Role.ABLATION)
        and not _is_unchosen(plan, one)
    ]
    if not ours or not ours[-1].results:
        return None
    main = max(ours[-1].results, key=_weight)
    name, backend = main.trials.name, main.system.backend
    both = [one for one in scored if one.has(name, backend)]
    first = [one for one in both if one.system.role is Role.BOOTSTRAP]
    true = [one for one in both if one.system.has_true_labels]
    return Standing(
        name,
        backend,
        ours[-1],
        first[0] if first and first[0] is not ours[-1] else None,
        true[-1] if true else None,
    )


def _is_unchosen(plan: Plan, scored: Scored) -> bool:
    """Whether a system is a round that the run does not name as its result."""
    system = scored.system
    return system.role is Role.ROUND and system.number != plan.rounds.chosen


def _weight(result: Result) -> tuple[int, int, bool]:
    speakers = result.bootstrap.n_units or 0
    if result.bootstrap.unit != "speakers":
        speakers = 0
    n_trials = result.trials.n_target + result.trials.n_nontarget
    system = result.system
    is_raw = (system.calibration, system.score_norm) == ("none", "none")
    return speakers, n_trials, is_raw


def answer(
    plan: Plan, scored: Sequence[Scored], warnings: Sequence[str] = ()
) -> Answer:
    """Return what stands at the top of a run's report.

    Arguments
    ---------
    plan : Plan
        The run's plan, all of whose steps but the export are done.
    scored : sequence of Scored
        Its scored systems.
    warnings : sequence of str
        What went wrong in its trainings.

    Returns
    -------
    Answer
    """
    made = what_was_made(plan)
    found = standing(plan, scored)
    if found is None:
        advice = (
            "To know how good the model is, label some trials (lines "
            '"1 a.wav b.wav" for one speaker, 0 for two) of speakers that '
            "are not in the training data, and give them with scored: true."
        )
        return Answer(made, next_steps=[*warnings, advice])
    paired = _paired(found)
    return Answer(
        made,
        _measured(found),
        _numbers(found),
        _findings(found, paired),
        next_steps(plan, found, paired, warnings),
    )


def what_was_made(plan: Plan) -> str:
    """Describe the run's model in a sentence or two."""
    settings = plan.settings
    facts = plan.corpus.facts() if plan.corpus.is_done else {}
    size = ""
    if "n_train" in facts:
        hours = facts.get("hours_train")
        of = "" if hours is None else f" ({duration(3600 * hours)})"
        size = f"{facts['n_train']:,} utterances{of} of "
    first = next(
        (s.system.row for s in plan.steps if s.system.role is Role.BOOTSTRAP),
        "",
    )
    start = f"first embeddings by {first}, then " if first else ""
    rounds = plan.rounds.chosen
    tuned = any(s.system.role is Role.LARGE_MARGIN for s in plan.steps)
    words = (
        f"A speaker-verification model learnt without speaker labels from "
        f"{size}{settings.corpus or 'a corpus'}: {start}{rounds} "
        f"{'round' if rounds == 1 else 'rounds'} of clustering and training"
        f"{', then a larger margin' if tuned else ''}."
    )
    if plan.model_folder is not None:
        folder = os.path.relpath(plan.model_folder, settings.output_folder)
        inside = not folder.startswith(os.pardir)
        words += f" It lies in {folder if inside else plan.model_folder}."
    return words


def _paired(found: Standing) -> Comparison | None:
    """Compare bootstrap and final model in the same drawings."""
    if found.first is None:
        return None
    return compared_on(found.first, found.final, found.result(found.final))


def _measured(found: Standing) -> str:
    result = found.result(found.final)
    drawn = result.bootstrap
    return (
        "EER: equal error rate, the share of wrong answers where false "
        "accepts and false rejects are equally frequent; low is good. "
        f"Measured {found.where}: {result.trials.n_target:,} target and "
        f"{result.trials.n_nontarget:,} non-target trials. Brackets: "
        f"{drawn.words}."
    )


def _number(label: str, result: Result, note: str = "") -> Number:
    eer = result.eer
    return Number(
        label,
        f"{eer.value:.2f} % EER",
        f"95 % interval {eer.low:.2f} to {eer.high:.2f} %",
        note,
    )


def _numbers(found: Standing) -> list[Number]:
    """Return the EER of the last round, the bootstrap and with labels."""
    final = found.result(found.final)
    name = found.final.system.row
    numbers = [_number(f"This run's model: {name}", final)]
    if found.first is not None:
        label = f"Bootstrap, to start from: {found.first.system.row}"
        numbers.append(_number(label, found.result(found.first)))
    if found.supervised is not None:
        true = found.result(found.supervised)
        ratio = _ratio(final, true)
        note = (
            "" if ratio is None else f"ratio to it, without labels: {ratio:.2f}"
        )
        label = f"With true labels: {found.supervised.system.row}"
        numbers.append(_number(label, true, note))
    return numbers


def _ratio(final: Result, true: Result) -> float | None:
    return final.eer.value / true.eer.value if true.eer.value > 0 else None


def _findings(found: Standing, paired: Comparison | None) -> list[str]:
    """Say what the numbers show, and what they do not."""
    words = []
    if paired is not None:
        change = paired.eer_difference
        verdict = "no difference is shown"
        if change.p_value < 0.05:
            verdict = "better" if change.value < 0 else "worse"
        words.append(
            f"Against the bootstrap: {change.value:+.2f} points "
            f"[{change.low:+.2f}, {change.high:+.2f}], p = "
            f"{change.p_value:.3f}: {verdict}."
        )
    final = found.result(found.final)
    if found.supervised is not None:
        true = found.result(found.supervised)
        ratio = _ratio(final, true)
        gap = final.eer.value - true.eer.value
        if ratio is not None:
            words.append(
                f"Against the same training with true labels: {gap:+.2f} "
                f"points, {ratio:.2f} times its error rate."
            )
    if final.eer.high - final.eer.low > _WIDE * max(final.eer.value, 1e-9):
        words.append(
            f"The interval is wide: {final.eer.low:.2f} to "
            f"{final.eer.high:.2f} %. Small differences need more test "
            "speakers."
        )
    bad = [r for r in found.final.results if is_worse_than_nothing(r)]
    if bad:
        names = ", ".join(
            dict.fromkeys(f"{r.trials.name} ({r.system.backend})" for r in bad)
        )
        words.append(
            "Calibrated scores are worse than no decision at a prior of "
            f"{bad[0].p_target:g} on {names}: their cost is 1 or more."
        )
    return words


def is_worse_than_nothing(result: Result) -> bool:
    """Whether deciding by calibrated scores costs more than not deciding.

    The actual cost is normalised: 1 is that of the same answer for all trials.
    """
    return result.actual_dcf is not None and result.actual_dcf >= 1


def _is_better(paired: Comparison) -> bool:
    """Whether the second system is shown to be better."""
    change = paired.eer_difference
    return change.p_value < 0.05 and change.value < 0


def next_steps(
    plan: Plan,
    found: Standing,
    paired: Comparison | None,
    warnings: Sequence[str] = (),
) -> list[str]:
    """Say what to do next, the most urgent first."""
    steps = list(warnings)
    facts = plan.corpus.facts() if plan.corpus.is_done else {}
    if facts.get("synthetic"):
        steps.append(
            "The voices are synthetic: run the plan folder on a folder of real "
            "speech before judging anything."
        )
    better = paired is not None and _is_better(paired)
    if paired is not None and not better:
        steps.append(
            "That the rounds lower the error rate is not shown: listen to the "
            "clusters below. Clusters that mix voices want a larger "
            "n_clusters, voices that are split a smaller one."
        )
    final = found.result(found.final)
    ratio = None
    if found.supervised is not None:
        ratio = _ratio(final, found.result(found.supervised))
    if ratio is not None and ratio > _NEAR:
        steps.append(
            "True labels would still help: wrong clusters cost the difference. "
            "More recordings of each speaker, augmentation, or a stronger "
            "bootstrap make better clusters."
        )
    elif ratio is not None and better:
        steps.append(
            "Labels would gain little: a larger encoder or more speech helps "
            "more than better clusters."
        )
    if any(is_worse_than_nothing(r) for r in found.final.results):
        steps.append(
            "Do not trust the probabilities at a low prior: set a threshold on "
            "labelled trials of your own."
        )
    if plan.export is not None:
        steps.append(
            "Try the model: sbext verify "
            f"{shlex.quote(str(plan.model_folder))} a.wav b.wav"
        )
    return steps
