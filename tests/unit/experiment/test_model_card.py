"""The card tells what results and stage records say, no more and no less."""

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from result_records import result_of

from speechbrain_ext import __version__
from speechbrain_ext.experiment.lineage import UNKNOWN
from speechbrain_ext.experiment.model_card import (
    Story,
    caveats,
    for_repository,
    model_card,
    step_in_words,
)
from speechbrain_ext.inference.decision import Decision
from speechbrain_ext.inference.hub_folder import EXAMPLES

DECISION = Decision(8.0, -4.0, 0.5, "20 + 20 pairs")


def result(trials="dev", scores=(0.1, 0.3, 0.2, 0.9), **facts):
    return result_of(
        scores,
        [0, 0, 1, 1],
        n_bootstrap=5,
        system="round 1",
        corpus="Mini Vox",
        trials=trials,
        run="run",
        **{"backend": "raw", **facts},
    )


def step(recipe, **facts):
    return {"recipe": recipe, "folder": recipe, "hparams": {}, **facts}


def story(results=(), lineage=(), **changes):
    whole = Story("A model", list(results), DECISION, list(lineage), "mit", [])
    return whole._replace(**changes)


def test_every_list_has_its_numbers_in_the_front_matter():
    easy, hard = result("easy", [0.1, 0.3, 0.5, 0.9]), result("hard")
    for name in ("eer", "min_dcf", "min_dcf_05"):
        assert getattr(easy, name) != getattr(hard, name)
    card = ModelCard(model_card(story([easy, hard])))
    _, found = model_index_to_eval_results(card.data.to_dict()["model-index"])
    numbers = {
        (
            e.dataset_config,
            e.metric_type,
            (e.metric_args or {}).get("p_target"),
        ): (e.metric_value)
        for e in found
    }
    assert numbers == {
        (r.trials.name, *metric): value
        for r in (easy, hard)
        for metric, value in {
            ("eer", None): r.eer.value,
            ("min_dcf", r.p_target): r.min_dcf.value,
            ("min_dcf", 0.05): r.min_dcf_05.value,
        }.items()
    }


def test_calibrated_scores_are_told_but_not_counted_twice():
    raw = result()
    linear = result(
        backend="raw+linear", calibration="linear, on pairs", calibrated=True
    )
    text = model_card(story([raw, linear]))
    assert "what calibration costs" in text
    assert text.count("type: eer") == 1


@pytest.mark.parametrize(
    ("datasets", "wanted"),
    [([], None), (["me/voices"], ["me/voices"])],
)
def test_data_sets_are_those_given_and_not_what_it_was_scored_on(
    datasets, wanted
):
    card = ModelCard(model_card(story([result()], datasets=datasets)))
    assert card.data.datasets == wanted
    assert card.data.license == "mit"


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"synthetic": True}, "voices are synthetic"),
        ({"random_encoder": True}, "random weights"),
        ({"true_labels": True}, "true speaker labels"),
        ({"oracle_positives": True}, "true speakers chose the positives"),
        ({UNKNOWN: ["init_from"]}, "not all steps that led to the model"),
    ],
)
def test_caveats_come_first(facts, word):
    doubtful = story([result()], [step("x", **facts), step("y", **facts)])
    assert len(caveats(doubtful)) == 1
    text = model_card(doubtful)
    assert word in text[: text.index("| system |")]
    assert word not in model_card(story([result()], [step("x")]))


def test_an_option_that_never_acted_is_said():
    idle = ["gate never acted: kept 100 %"]
    text = model_card(story([result()], [step("train", never_acted=idle)]))
    assert "- gate never acted: kept 100 % (train)" in text
    assert text.count("never acted") == 1


def test_each_step_has_a_row_with_its_counts():
    lineage = [
        step("prepare", n_train=1200, hours_train=2.34),
        step("labels", n_clusters=60, hparams={"seed": 7}),
        step("train_speaker", n_utterances=1200, kept=0.91),
    ]
    text = model_card(story([result()], lineage))
    assert "| prepare | prepare | 1,200 training utterances, 2.3 h |" in text
    assert "| labels | labels | 60 clusters, seed 7 |" in text
    assert "| train_speaker | 1,200 utterances, 91.00% of labels kept |" in text
    assert "Trainings on labels: 1." in text


def test_every_training_that_led_to_the_model_is_counted():
    rounds = ["dino", "labels", "train_speaker", "labels", "train_speaker"]
    lineage = [
        {**step(recipe), "folder": f"{recipe}{number}"}
        for number, recipe in enumerate(rounds)
    ]
    text = model_card(story([result()], lineage))
    assert "Trainings on labels: 2." in text


@pytest.mark.parametrize("fact", ["true_labels", "oracle_positives"])
def test_a_step_that_saw_true_speakers_says_so_in_its_row(fact):
    (words,) = step_in_words({fact: True})
    assert "true labels" in words
    assert step_in_words({fact: False}) == []


def test_steps_that_were_not_given_are_named():
    lineage = [step("labels"), step("model", **{UNKNOWN: ["init_from"]})]
    text = model_card(story([result()], lineage))
    assert (
        "Not given at the export: the steps that led to init_from of model "
        "(model)." in text
    )
    assert "Not given" not in model_card(story([result()], [step("model")]))


def test_a_model_without_any_history_says_so_first():
    text = model_card(story([result()]))
    assert "not all steps that led" in text[: text.index("| system |")]
    assert "Not given at the export: the records of its training" in text


def test_a_caveat_is_said_once_before_the_numbers():
    told = [result(), result("hard", caveat="few speakers")]
    text = model_card(story(told, [step("train")]))
    assert text.count("few speakers") == 1
    assert "| caveat |" not in text
    assert text.index("few speakers") < text.index("| system |")


def test_what_to_install_comes_before_the_code():
    text = model_card(story([result()], packages=["voice-net 1.0"]))
    before = text[: text.index("```python")]
    assert "```bash\npython -m pip install ." in before
    assert f"version {__version__} or later" in before
    assert "what brings its network, voice-net 1.0" in before
    assert "and needs voice-net 1.0 installed" in text
    assert "voice-net" not in model_card(story([result()]))


ENCODER = {"encoder_source": "me/encoder"}


@pytest.mark.parametrize(
    ("lineage", "given", "wanted"),
    [
        ([step("train_speaker", **ENCODER)], [], ["me/encoder"]),
        ([step("train_speaker", encoder_source=None)], [], None),
        ([step("train_speaker", **ENCODER)], ["you/other"], ["you/other"]),
        # Its labels are of another encoder.
        (
            [
                step("embed_pretrained", encoder_source="me/first"),
                step("train_speaker", **ENCODER),
            ],
            [],
            ["me/encoder"],
        ),
        (
            [
                step("embed_pretrained", **ENCODER),
                step("train_speaker", encoder_source=None),
                step("join_embedders"),
            ],
            [],
            ["me/encoder"],
        ),
    ],
)
def test_the_encoders_that_it_began_as_are_in_the_front_matter(
    lineage, given, wanted
):
    told = story([result()], lineage, base_models=given, languages=["en"])
    data = ModelCard(model_card(told)).data
    assert data.base_model == wanted
    assert data.language == ["en"]
    assert data.pipeline_tag == "feature-extraction"


def test_a_language_that_was_not_given_is_not_claimed():
    assert ModelCard(model_card(story([result()]))).data.language is None


@pytest.mark.parametrize("own", [True, False])
def test_speechbrain_alone_is_not_promised_where_it_does_not_suffice(own):
    text = model_card(story([result()], own_classes=own))
    assert ("needs speechbrain-ext installed" in text) == own
    assert "\n\n## Cite\n" in text


def test_absent_facts_are_not_mentioned():
    facts = {"kept": None, "hparams": {"seed": 1, "whiten": None}}
    assert step_in_words(facts) == ["seed 1"]


def test_code_names_the_repository_once_there_is_one():
    text = model_card(story([result()]))
    assert text.count('source = "."') == 2
    pushed = for_repository(text, "me/m")
    assert pushed.count('source = "me/m"') == 2
    for own, example in zip(("a.wav", "b.wav"), EXAMPLES, strict=True):
        assert pushed.count(f'"{own}"') == text.count(f'"{example}"') == 2
        assert f'"{example}"' not in pushed
