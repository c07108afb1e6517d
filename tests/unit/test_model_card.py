"""The card tells what the results and receipts say, no more and no less."""

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from speechbrain_ext.hub_folder import Decision
from speechbrain_ext.model_card import (
    Story,
    caveats,
    for_repository,
    model_card,
    step_in_words,
)
from speechbrain_ext.results import Result

DECISION = Decision(8.0, -4.0, 0.5, "20 + 20 pairs")


def result(trials="dev", **facts):
    return Result.of_scores(
        [0.1, 0.3, 0.2, 0.9],
        [0, 0, 1, 1],
        n_bootstrap=5,
        system="round 1",
        corpus="Mini Vox",
        trials=trials,
        run="run",
        trials_sha256="0",
        **{"backend": "raw", **facts},
    )


def step(recipe, **facts):
    return {"recipe": recipe, "folder": recipe, "hparams": {}, **facts}


def story(results=(), lineage=(), **changes):
    whole = Story("A model", list(results), DECISION, list(lineage), "mit", [])
    return whole._replace(**changes)


def test_every_list_has_its_numbers_in_the_front_matter():
    results = [result("dev"), result("hard", p_target=0.05)]
    card = ModelCard(model_card(story(results)))
    _, found = model_index_to_eval_results(card.data.to_dict()["model-index"])
    eers = {e.dataset_config: e.metric_value for e in found}
    assert set(eers) == {"dev", "hard"}
    values = [e.metric_value for e in found if e.metric_type == "eer"]
    assert values == [r.eer_percent for r in results]


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
    [([], ["mini-vox"]), (["me/voices"], ["me/voices"])],
)
def test_data_sets_are_those_given_or_the_results_corpora(datasets, wanted):
    card = ModelCard(model_card(story([result()], datasets=datasets)))
    assert card.data.datasets == wanted
    assert card.data.license == "mit"


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"synthetic": True}, "voices are synthetic"),
        ({"random_encoder": True}, "random weights"),
        ({"true_labels": True}, "true speaker labels"),
    ],
)
def test_what_was_random_toy_or_supervised_is_said_first(facts, word):
    doubtful = story([result()], [step("x", **facts), step("y", **facts)])
    assert len(caveats(doubtful)) == 1
    text = model_card(doubtful)
    assert word in text[: text.index("| system |")]
    assert word not in model_card(story([result()], [step("x")]))


def test_each_step_has_a_row_with_its_counts():
    lineage = [
        step("prepare", n_train=1200, hours_train=2.34),
        step("labels", n_clusters=60, hparams={"seed": 7}),
        step("train_speaker", n_utterances=1200, kept=0.91),
    ]
    text = model_card(story([result()], lineage))
    assert "| prepare | prepare | 1,200 training utterances, 2.3 h |" in text
    assert "| labels | labels | 60 clusters, seed 7 |" in text
    assert "| train_speaker | 1,200 utterances, 91.0% of labels kept |" in text
    assert "1 training(s) on labels" in text


def test_facts_that_are_absent_are_not_told():
    facts = {"kept": None, "hparams": {"seed": 1, "whiten": None}}
    assert step_in_words(facts) == ["seed 1"]


def test_code_names_the_repository_once_there_is_one():
    text = model_card(story([result()]))
    assert text.count('source = "."') == 2
    assert for_repository(text, "me/m").count('source = "me/m"') == 2
