"""Card of a published model, made from stage records and results.

Front matter as the hub reads it (`huggingface_hub.ModelCardData`), then how
to load the model, what it scored, how it was trained and what it is not for.
Every number comes from a file that a run wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from speechbrain_ext import __version__
from speechbrain_ext.experiment.lineage import UNKNOWN
from speechbrain_ext.inference.decision import Decision
from speechbrain_ext.inference.hub_folder import EXAMPLES
from speechbrain_ext.utils.provenance import versions
from speechbrain_ext.utils.templates import render
from speechbrain_ext.verification.results import (
    CAVEATS,
    Result,
)
from speechbrain_ext.verification.tables import render_table

TAGS = (
    "speechbrain",
    "speaker-verification",
    "speaker-embeddings",
    "self-supervised",
    "pseudo-labels",
)
# Of the hub's list of tasks; it has none for telling speakers apart.
PIPELINE = "feature-extraction"
# Path of the card within its folder, where the examples are.
_HERE = 'source = "."'
_FILES = 'first, second = "{}", "{}"'
# Facts of a stage record that a card shows, with their words.
_WORDS = {
    "n_train": "{:,} training utterances",
    "hours_train": "{:.1f} h",
    "n_utterances": "{:,} utterances",
    "hours": "{:.1f} h",
    "n_classes": "{:,} speakers or pseudo-speakers",
    "n_clusters": "{:,} clusters",
    "churn": "churn {:.3f}",
    "nmi": "NMI {:.3f} with the true speakers",
    "kept": "{:.2%} of labels kept",
    "corrected": "{:.2%} corrected",
    "embedding_size": "{} values each",
}
_SETTINGS = ("n_epochs", "seed", "whiten")


class Story(NamedTuple):
    """Content of a card.

    ``title``; ``results``, of its cosines and of its calibrated cosines; its
    ``decision`` rule; ``lineage``, records of the stages that led to it;
    ``license`` and ``datasets`` (trained on), ids for the front matter;
    ``own_classes``, whether its YAML needs this package;
    ``for_speechbrain``, whether stock SpeechBrain loads it; ``packages``,
    others that bring its classes; ``base_models``, ids of what training started
    from, else those that records name; ``languages``, codes of what was spoken.
    """

    title: str
    results: Sequence[Result]
    decision: Decision
    lineage: Sequence[Mapping[str, Any]]
    license: str
    datasets: Sequence[str]
    own_classes: bool = False
    for_speechbrain: bool = True
    packages: Sequence[str] = ()
    base_models: Sequence[str] = ()
    languages: Sequence[str] = ()


def model_card(story: Story) -> str:
    """Write the text of ``README.md``.

    Arguments
    ---------
    story : Story
        All that it is made from.

    Returns
    -------
    str
        Front matter and Markdown.

    Example
    -------
    >>> result = Result.of_scores(
    ...     [0, 1, 0, 1], [0, 1, 0, 1], system="DINO", corpus="toy voices",
    ...     trials="dev",
    ... )
    >>> decision = Decision(10.0, -3.0, 0.5, "pairs")
    >>> story = Story("A model", [result], decision, [], "mit", ["me/voices"])
    >>> story = story._replace(base_models=["me/encoder"])
    >>> print(model_card(story)[:38])
    ---
    base_model:
    - me/encoder
    datasets:
    """
    lineage = story.lineage
    last = lineage[-1].get("versions", {}) if lineage else {}
    # What to beware of is said once, above.
    table = render_table(story.results, without=("caveat",))
    table = table.replace("## ", "### ")
    corpora = {result.trials.corpus for result in story.results} - {""}
    return render(
        "speechbrain_ext.experiment",
        "model_card.md",
        front_matter=front_matter(story),
        title=story.title,
        source=_HERE,
        files=_FILES.format(*EXAMPLES),
        examples=EXAMPLES,
        packages=story.packages,
        needed=[*["speechbrain-ext"] * story.own_classes, *story.packages],
        version=__version__,
        for_speechbrain=story.for_speechbrain,
        decision=story.decision,
        caveats=caveats(story),
        table=table.strip(),
        steps=[
            {
                "folder": step["folder"],
                "recipe": step["recipe"],
                "words": ", ".join(step_in_words(step)),
            }
            for step in lineage
        ],
        n_rounds=sum(step["recipe"] == "train_speaker" for step in lineage),
        trained_with=_versions_in_words(last),
        exported_with=_versions_in_words(versions()),
        unknown=lacking(lineage),
        corpora=", ".join(sorted(corpora)),
    )


def _versions_in_words(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items())


def front_matter(story: Story) -> str:
    """Write the YAML above a card, which the hub indexes.

    Example
    -------
    >>> story = Story("A", [], Decision(1, 0, 0.5, ""), [], "mit", [])
    >>> print(front_matter(story).splitlines()[0])
    library_name: speechbrain
    """
    data = ModelCardData(
        library_name="speechbrain",
        pipeline_tag=PIPELINE,
        base_model=base_models(story) or None,
        language=list(story.languages) or None,
        license=story.license,
        tags=list(TAGS),
        datasets=list(story.datasets) or None,
        metrics=["EER", "minDCF"],
        model_name=story.title,
        eval_results=evaluations(story.results) or None,
    )
    return data.to_yaml().strip()


def base_models(story: Story) -> list[str]:
    """List the encoders on the hub that a model's weights began as.

    Example
    -------
    >>> lineage = [{"recipe": "train_speaker", "encoder_source": "a/b"}]
    >>> base_models(Story("A", [], Decision(1, 0, 0.5, ""), lineage, "mit", []))
    ['a/b']
    """
    if story.base_models:
        return list(story.base_models)
    trained = [step for step in story.lineage if "encoder_source" in step]
    # Labels may come from another encoder, which is no part of the model.
    if not any(step["recipe"] == "join_embedders" for step in story.lineage):
        trained = trained[-1:]
    found = [step["encoder_source"] for step in trained]
    return [name for name in dict.fromkeys(found) if name]


def evaluations(results: Sequence[Result]) -> list[EvalResult]:
    """List EER and minDCF of the cosines of each list, for ``model-index``.

    Arguments
    ---------
    results : sequence of Result
        Those of calibrated scores, which order trials alike, are left out.

    Returns
    -------
    list of EvalResult
    """
    found = []
    for result in results:
        if result.system.calibration != "none":
            continue
        values = {
            ("eer", "EER, %", None): result.eer,
            ("min_dcf", "minDCF", result.p_target): result.min_dcf,
            ("min_dcf", "minDCF", 0.05): result.min_dcf_05,
        }
        trials = result.trials
        for (kind, name, prior), estimate in values.items():
            if estimate is None:
                continue
            words = name if prior is None else f"{name}, p_target {prior:g}"
            found.append(
                EvalResult(
                    task_type="speaker-verification",
                    task_name="Speaker verification",
                    dataset_type=slug(trials.corpus) or "unnamed",
                    dataset_name=f"{trials.corpus}, {trials.name}",
                    dataset_config=trials.name,
                    dataset_args={
                        "n_target": trials.n_target,
                        "n_nontarget": trials.n_nontarget,
                        "trials_sha256": trials.sha256,
                    },
                    metric_type=kind,
                    metric_name=words,
                    metric_value=estimate.value,
                    metric_args=None if prior is None else {"p_target": prior},
                )
            )
    return found


def slug(name: str) -> str:
    """Turn a name into an identifier.

    Example
    -------
    >>> slug("toy voices")
    'toy-voices'
    """
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-")


def caveats(story: Story) -> list[str]:
    """List what a reader must know first: toy data, true labels, ...

    Example
    -------
    >>> story = Story("A", [], Decision(1, 0, 0.5, ""),
    ...               [{"recipe": "prepare_toy", "synthetic": True}], "mit", [])
    >>> caveats(story)
    ['the voices are synthetic: nothing here says anything about real speech']
    """
    found = [result.system.caveat for result in story.results]
    if not any(step.get("never_acted") for step in story.lineage):
        found += [w for r in story.results for w in r.system.never_acted]
    for step in story.lineage:
        found += [words for fact, words in CAVEATS.items() if step.get(fact)]
        found += [
            f"{words} ({step['folder']})"
            for words in step.get("never_acted", ())
        ]
    if lacking(story.lineage):
        found.append(
            "not all steps that led to the model are known, nor whether true "
            "labels or synthetic voices were used in them"
        )
    return [words for words in dict.fromkeys(found) if words]


def lacking(lineage: Sequence[Mapping[str, Any]]) -> str:
    """Describe what is not known of a model's history; empty if nothing.

    Example
    -------
    >>> lacking([{"recipe": "train_dino", "folder": "m", UNKNOWN: ["init"]}])
    'the steps that led to init of m (train_dino)'
    """
    if not lineage:
        return "the records of its training"
    inputs = [
        f"{name} of {step['folder']} ({step['recipe']})"
        for step in lineage
        for name in step.get(UNKNOWN, ())
    ]
    return f"the steps that led to {', '.join(inputs)}" if inputs else ""


def for_repository(card: str, repository: str) -> str:
    """Change a card's code to load the model from the hub, not from here.

    The loaders fetch no examples: there, the files are the reader's.

    Example
    -------
    >>> for_repository('source = "."', "me/model")
    'source = "me/model"'
    """
    card = card.replace(_HERE, f'source = "{repository}"')
    theirs = _FILES.format("a.wav", "b.wav")
    return card.replace(_FILES.format(*EXAMPLES), f"{theirs}  # your files")


def step_in_words(step: Mapping[str, Any]) -> list[str]:
    """Describe counts and settings of a step, from its stage record.

    Example
    -------
    >>> step_in_words({"n_utterances": 1200, "hparams": {"seed": 1}})
    ['1,200 utterances', 'seed 1']
    """
    found = [
        words.format(step[name])
        for name, words in _WORDS.items()
        if isinstance(step.get(name), (int, float))
    ]
    settings = step.get("hparams", {})
    found += [
        f"{name} {settings[name]}"
        for name in _SETTINGS
        if settings.get(name) is not None
    ]
    if step.get("true_labels"):
        found.append("true labels")
    if step.get("oracle_positives"):
        found.append("positives by true labels")
    return found
