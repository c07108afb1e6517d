"""The plan of a run: order, folders, and what each step is given."""

import json

import pytest
from plans import by_name, changed, churn, names, read_plan

from speechbrain_ext.experiment.plan import load_plan, longest_plan
from speechbrain_ext.experiment.rounds import rounds_of
from speechbrain_ext.experiment.steps import Kind, Late, Role
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_json
from speechbrain_ext.utils.yaml_trees import read_yaml


def changed_set(settings, kind, **values):
    """A plan of which one stage sets other values too."""
    stages = json.loads(json.dumps(settings.stages))
    stages[kind]["set"].update(values)
    return changed(settings, stages=stages)


@pytest.fixture
def settings(tmp_path):
    return read_plan("quickstart", output_folder=str(tmp_path))


def contrastive(settings, **values):
    """A plan that begins with a contrastive training."""
    stage = {
        "recipe": "train_contrastive",
        "hparams": "train_contrastive_ecapa_small.yaml",
        "set": values,
    }
    return changed(settings, stages={**settings.stages, "bootstrap": stage})


def test_the_bootstrap_is_named_by_its_training(settings, tmp_path):
    """Its own YAML says which, unless the plan sets another method."""
    leaf = tmp_path / "moco.yaml"
    leaf.write_text("base: train_contrastive_ecapa_small.yaml\nmethod: moco\n")
    dino = {"recipe": "train_dino", "hparams": "train_dino_ecapa.yaml"}
    own = {"recipe": "train_contrastive", "hparams": str(leaf), "set": {}}
    name = "embed_pretrained"
    fitted = {"recipe": name, "hparams": f"{name}.yaml"}
    for bootstrap, name in (
        (contrastive(settings).stages["bootstrap"], "SimCLR"),
        (contrastive(settings, method="moco").stages["bootstrap"], "MoCo"),
        (own, "MoCo"),
        ({**own, "set": {"method": "simclr"}}, "SimCLR"),
        ({**dino, "set": {}}, "DINO"),
        ({**fitted, "set": {}}, "pre-trained encoder, no training"),
    ):
        stages = {**settings.stages, "bootstrap": bootstrap}
        steps = by_name(changed(settings, stages=stages))
        assert steps["bootstrap/model"].system.row == name


def test_steps_come_in_the_order_of_the_paper(settings):
    systems = list(dict.fromkeys(n.split("/")[0] for n in names(settings)))
    rounds = ["round1", "round2"]
    assert systems == ["corpus", "bootstrap", *rounds, "topline", "published"]


def test_each_round_trains_on_the_labels_of_the_one_before(settings):
    steps = by_name(changed(settings, n_rounds=3))
    for system, before in (
        ("round1", "bootstrap"),
        ("round2", "round1"),
        ("round3", "round2"),
    ):
        options = steps[f"{system}/model"].options
        wanted = steps[f"{before}/labels"].folder / "pseudo_labels.csv"
        assert options["train_annotation"] == str(wanted)


def test_large_margin_goes_on_from_the_last_round_and_its_labels(settings):
    steps = by_name(changed(settings, large_margin=True))
    options = steps["large_margin/model"].options
    last = steps["round2/model"].folder
    assert options["init_from"] == str(last / "embedder")
    assert options["init_classifier"] == str(last / "classifier.ckpt")
    labels = steps["round2/model"].options["train_annotation"]
    assert options["train_annotation"] == labels


def test_ablations_train_on_the_first_labels_with_values_of_their_own(settings):
    settings = changed(
        changed_set(settings, "train", crop=2.0),
        ablations={"plain": {"crop": 1.5}, "+ long": {"n_epochs": 9}},
    )
    order = [name for name in names(settings) if name.endswith("/model")]
    assert order[1:4] == ["ablation1/model", "ablation2/model", "round1/model"]
    steps = by_name(settings)
    usual = steps["round1/model"].options
    assert steps["ablation1/model"].options == {**usual, "crop": 1.5}
    assert steps["ablation2/model"].options == {**usual, "n_epochs": 9}
    assert steps["ablation2/scores"].options["system"] == "+ long"
    # Rounds go on from the usual training, not from the last ablation.
    wanted = str(steps["bootstrap/labels"].folder / "pseudo_labels.csv")
    assert usual["train_annotation"] == wanted


def test_an_ablation_changes_maps_of_the_plan_key_by_key(settings):
    ablations = {"narrow": {"embedder": {"width": 16}}}
    steps = by_name(changed(settings, ablations=ablations))
    round1 = steps["round1/model"].options["embedder"]
    found = steps["ablation1/model"].options["embedder"]
    assert len(round1) > 1 and found == {**round1, "width": 16}


def test_topline_differs_from_round_one_by_its_labels_and_trust_alone(
    settings,
):
    settings = changed_set(settings, "train", gate="soft")
    steps = by_name(settings)
    true = dict(steps["topline/model"].options)
    pseudo = dict(steps["round1/model"].options)
    assert true.pop("train_annotation") != pseudo.pop("train_annotation")
    doubts = ("gate", "correct_from_epoch", "label_confidence")
    assert [true.pop(key) for key in doubts] == [None] * 3
    assert pseudo.pop("gate") == "soft"
    assert true == pseudo


def test_the_topline_is_tuned_on_as_the_model_is_and_trusted(settings):
    settings = changed_set(settings, "large_margin", gate="soft")
    steps = by_name(changed(settings, large_margin=True))
    tuned = steps["topline_tuned/model"].options
    assert tuned["init_from"] == str(steps["topline/model"].folder / "embedder")
    assert tuned["train_annotation"] == str(
        steps["topline/labels"].folder / "pseudo_labels.csv"
    )
    assert tuned["gate"] is None
    assert steps["large_margin/model"].options["gate"] == "soft"
    assert "calibration_labels" not in steps["topline_tuned/scores"].options


def test_rounds_start_from_the_bootstrap_only_when_told(settings):
    steps = by_name(changed(settings, round_init=None))
    assert steps["round1/model"].options["init_from"] is None


def test_no_training_step_is_given_the_oracle(settings):
    for step in load_plan(settings).steps:
        if step.name.endswith("/model") and not step.system.has_true_labels:
            assert "oracle" not in json.dumps(step.options)
            assert Late.ORACLE not in step.late.values()


def test_the_quickstart_is_not_told_the_number_of_speakers(settings):
    n_speakers = read_yaml("hparams/prepare_toy.yaml")["n_speakers"]
    steps = load_plan(settings).steps
    told = [s for s in steps if s.kind is Kind.LABELS]
    assert len(told) == 3
    for step in told:
        assert step.options["n_clusters"] not in (n_speakers, "auto")
    assert "n_speakers" not in steps[0].options


def test_every_training_of_the_quickstart_simulates_channels(settings):
    trained = [s for s in load_plan(settings).steps if s.folder.name == "model"]
    assert len(trained) == 4
    assert all(s.options["augment"]["filter_prob"] > 0.5 for s in trained)


def test_what_the_yaml_sets_wins(settings):
    settings = changed_set(settings, "score", system="mine", trials="a.txt")
    step = by_name(settings)["bootstrap/scores"]
    assert step.options["system"] == "mine"
    assert step.options["trials"] == "a.txt" and "trials" not in step.late


def test_scores_are_normalised_by_the_systems_own_clusters(settings):
    steps = by_name(changed(settings, large_margin=True))
    for system, labels in (
        ("bootstrap", "bootstrap"),
        ("round2", "round2"),
        ("large_margin", "round1"),
        ("topline", "topline"),
    ):
        options = steps[f"{system}/scores"].options
        wanted = steps[f"{labels}/labels"].folder / "pseudo_labels.csv"
        assert options["cohort_labels"] == str(wanted)
        train = steps[f"{system}/train_embeddings"].folder
        assert options["cohort_folder"] == str(train)


def test_calibration_takes_the_labels_that_owe_least_to_the_model(settings):
    steps = by_name(changed(settings, large_margin=True))
    first = steps["bootstrap/labels"].folder / "pseudo_labels.csv"
    given = {
        system: steps[f"{system}/scores"].options.get("calibration_labels")
        for system in ("bootstrap", "round2", "large_margin", "topline")
    }
    assert given == {
        "bootstrap": None,
        "round2": str(first),
        "large_margin": str(first),
        "topline": None,
    }


def test_training_utterances_are_embedded_for_scores_only_when_needed(settings):
    raw = names(changed(settings, backends="raw"))
    assert "topline/train_embeddings" not in raw
    assert "round1/train_embeddings" in raw  # to be clustered
    assert "topline/train_embeddings" in names(settings)
    assert len(names(settings)) == len(set(names(settings)))


@pytest.mark.parametrize(
    ("backends", "train"), [(["raw", "as-norm"], None), (["raw+qmf"], 15)]
)
def test_crops_are_embedded_of_what_is_scored(settings, backends, train):
    steps = by_name(changed(settings, protocol="crops", backends=backends))
    for split, n_crops in (("test", 15), ("train", train)):
        options = steps[f"round1/{split}_embeddings"].options
        assert options.get("n_crops") == n_crops
    assert steps["round1/scores"].options["protocol"] == "crops"
    assert "n_crops" not in by_name(settings)["round1/test_embeddings"].options


def test_only_training_and_extraction_are_launched_on_many_processes():
    assert {kind for kind in Kind if kind.launched} == {
        Kind.BOOTSTRAP,
        Kind.TRAIN,
        Kind.LARGE_MARGIN,
        Kind.EXTRACT_TRAIN,
        Kind.EXTRACT_TEST,
        Kind.EXTRACT_COHORT,
    }


def test_no_rounds_leave_bootstrap_and_topline(settings):
    steps = names(changed(settings, n_rounds=0, large_margin=True))
    assert not [n for n in steps if n.startswith(("round", "large_margin"))]


def test_a_folder_without_trials_is_trained_on_and_not_scored(tmp_path):
    settings = read_plan("folder", data_folder="speech", n_clusters=7)
    steps = load_plan(settings).steps
    kinds = {step.name.split("/")[-1] for step in steps}
    assert kinds == {"corpus", "model", "train_embeddings", "labels"}
    clusters = [s for s in steps if s.name.endswith("/labels")]
    assert {step.options["n_clusters"] for step in clusters} == {7}


def test_labels_are_compared_with_those_that_their_model_learnt(settings):
    steps = by_name(settings)
    assert "previous_labels" not in steps["bootstrap/labels"].options
    for system in ("round1", "round2"):
        learnt = steps[f"{system}/model"].options["train_annotation"]
        options = steps[f"{system}/labels"].options
        assert options["previous_labels"] == learnt


# --- n_rounds: auto ---------------------------------------------------------


@pytest.fixture
def auto(settings):
    return changed(settings, n_rounds="auto", max_rounds=4)


def systems(settings):
    return list(dict.fromkeys(n.split("/")[0] for n in names(settings)))


def test_an_automatic_plan_grows_by_rounds_and_then_ends(auto):
    begin = ["corpus", "bootstrap", "round1"]
    assert systems(auto) == begin
    churn(auto, 1, 0.3)
    assert systems(auto) == [*begin, "round2"]
    churn(auto, 2, 0.29)
    assert systems(auto) == [*begin, "round2", "topline", "published"]
    assert rounds_of(auto).chosen == 2


def test_earlier_steps_of_a_plan_stay_as_it_grows(auto):
    before = names(auto)
    churn(auto, 1, 0.3)
    assert names(auto)[: len(before)] == before


def test_a_round_that_is_not_clustered_yet_decides_nothing(auto):
    churn(auto, 2, 0.01)
    assert systems(auto)[-1] == "round1"


def test_large_margin_goes_on_from_the_chosen_round(auto):
    auto = changed(auto, large_margin=True)
    churn(auto, 1, 0.3)
    churn(auto, 2, 0.4)
    options = by_name(auto)["large_margin/model"].options
    chosen = by_name(auto)["round1/model"]
    assert options["init_from"] == str(chosen.folder / "embedder")
    learnt = chosen.options["train_annotation"]
    assert options["train_annotation"] == learnt


def test_the_longest_plan_has_every_step_that_may_come(auto):
    auto = changed(auto, large_margin=True)
    longest = {step.name for step in longest_plan(auto).steps}
    assert {"round4/labels", "large_margin/model", "topline/model"} <= longest
    assert "round5/model" not in longest
    last = longest_plan(changed(auto, n_rounds=1)).steps[-1]
    assert last.system.role is Role.PUBLISHED


def test_the_model_of_the_run_whitens_as_its_scores_were_whitened(settings):
    assert "whitened/model" not in names(settings)
    settings = changed(
        settings, whiten_scores=0.5, backends="raw", large_margin=True
    )
    steps = by_name(settings)
    tuned = steps["large_margin/model"].folder
    options = steps["whitened/model"].options
    assert options["embedder_folder"] == str(tuned / "embedder")
    assert options["whiten"] == 0.5
    learnt_on = steps["large_margin/train_embeddings"].folder
    assert options["embeddings_folder"] == str(learnt_on)
    scored = steps["large_margin/scores"].options
    assert scored["whiten"] == 0.5
    assert scored["cohort_folder"] == str(learnt_on)


def test_a_contrastive_training_may_be_the_bootstrap(tmp_path):
    folders = {"output_folder": str(tmp_path), "data_folder": "mine"}
    settings = read_plan("minivox", **folders)
    dino = by_name(settings)["bootstrap/model"]
    step = by_name(contrastive(settings, n_epochs=3))["bootstrap/model"]
    assert step.recipe == "train_contrastive" and step.kind.launched
    assert step.folder == dino.folder
    # What the plan itself gives is the same.
    sounds = {"augment_folder", "musan", "rirs"}
    given = {"seed", "train_annotation", "embedder", *sounds}
    assert step.options == {
        **{k: dino.options[k] for k in given},
        "n_epochs": 3,
    }
    embeddings = by_name(settings)["bootstrap/train_embeddings"].options
    assert embeddings["embedder_folder"] == str(step.folder / "embedder")


@pytest.mark.parametrize("run", ["", ".", "../other", "a/b", " a", "a\nb"])
def test_the_name_of_a_run_is_that_of_a_folder(run):
    with pytest.raises(InputError, match="it becomes the name of a folder"):
        read_plan("quickstart", run=run)


def test_a_plan_has_its_stages_and_no_others(settings):
    for kind in ("prepare", "score"):
        stages = {k: v for k, v in settings.stages.items() if k != kind}
        with pytest.raises(InputError, match=f"add stages.{kind}"):
            changed(settings, stages=stages).check_together()


def test_the_models_folder_is_the_one_to_share_or_the_embedder(settings):
    plan = load_plan(settings)
    assert plan.model_folder == plan.steps[-1].folder / "model"
    plan = load_plan(changed(settings, export=False, large_margin=True))
    tuned = by_name(changed(settings, large_margin=True))["large_margin/model"]
    assert plan.model_folder == tuned.folder / "embedder"
    plan = load_plan(changed(settings, export=False, whiten_scores=0.5))
    assert plan.model.kind is Kind.WHITEN


def test_the_model_to_share_is_scored_as_those_score_who_load_it(settings):
    settings = changed(
        settings,
        whiten_scores=0.5,
        protocol="crops",
        large_margin=True,
        n_rounds=1,
    )
    steps = by_name(settings)
    given, scored = (
        steps[name].options for name in ("published/export", "published/scores")
    )
    whitened = steps["whitened/model"].folder
    assert given["embedder_folder"] == str(whitened / "embedder")
    assert given["embeddings_folder"] == scored["embeddings_folder"]
    embeddings = steps["whitened/test_embeddings"]
    assert scored["embeddings_folder"] == str(embeddings.folder)
    embedder = embeddings.options["embedder_folder"]
    assert embedder == given["embedder_folder"]
    assert given["scores_folder"] == str(steps["published/scores"].folder)
    assert scored["backends"] == ["raw", "raw+linear"]
    assert (scored["protocol"], scored["whiten"]) == ("full", None)
    trained = steps["large_margin/model"].folder / "stage.json"
    assert scored["train_record"] == str(trained)


def test_without_whitening_the_last_model_is_shared_as_it_was_embedded(
    settings,
):
    steps = by_name(changed(settings, topline=False))
    given = steps["published/export"].options
    assert given["embedder_folder"].endswith("round2/model/embedder")
    assert given["embeddings_folder"].endswith("round2/test_embeddings")
    assert list(steps)[-2:] == ["published/scores", "published/export"]


@pytest.mark.parametrize("key", ["export", "scored"])
def test_nothing_is_shared_when_not_wanted_or_not_scored(settings, key):
    assert not [
        n for n in names(changed(settings, **{key: False})) if "export" in n
    ]


def given(settings, **start):
    """A plan that starts from something, with every kind of row."""
    more = {"n_rounds": 1, "large_margin": True, "whiten_scores": 0.5}
    return changed(settings, ablations={"+ none": {}}, **more, **start)


def test_a_given_embedder_takes_the_place_of_the_bootstraps(settings):
    trained = by_name(given(settings))
    steps = by_name(given(settings, start_embedder="mine/embedder"))
    assert list(steps) == [n for n in trained if n != "bootstrap/model"]
    for name, key in (
        ("bootstrap/train_embeddings", "embedder_folder"),
        ("bootstrap/test_embeddings", "embedder_folder"),
        ("ablation1/model", "init_from"),
        ("round1/model", "init_from"),
        ("topline/model", "init_from"),
    ):
        assert steps[name].options[key] == "mine/embedder"
    scored = steps["bootstrap/scores"].options
    assert scored["train_record"] is None
    assert scored["system"] == "given embedder"


def test_given_embeddings_take_the_place_of_those_of_the_bootstrap(settings):
    values = {"start_embeddings": "mine.pt", "round_init": None}
    trained = by_name(given(settings))
    steps = by_name(given(settings, **values))
    left_out = {
        f"bootstrap/{n}" for n in ("model", "test_embeddings", "scores")
    }
    assert set(steps) == trained.keys() - left_out
    read = steps["bootstrap/train_embeddings"]
    assert read.recipe == "convert_embeddings" and not read.kind.launched
    assert read.options["embeddings"] == "mine.pt"
    assert read.options["annotation"] == str(load_plan(settings).corpus.train)
    labels = steps["bootstrap/labels"].options
    assert labels["embeddings_folder"] == str(read.folder)
    values["start_test_embeddings"] = "theirs.pt"
    steps = by_name(given(settings, **values))
    assert trained.keys() - steps.keys() == {"bootstrap/model"}
    scored = steps["bootstrap/scores"].options
    read = steps["bootstrap/test_embeddings"]
    assert scored["embeddings_folder"] == str(read.folder)
    assert read.options["embeddings"] == "theirs.pt"


def caveats(settings):
    scores = [s for s in load_plan(settings).steps if s.kind is Kind.SCORE]
    return {s.system.name: s.options["caveat"] for s in scores}


def test_rows_say_what_they_start_from_unless_they_owe_it_nothing(settings):
    found = caveats(given(settings, start_embedder="mine"))
    start = "synthetic voices; starts from a given embedder, whose training is "
    assert set(found.values()) == {f"{start}not known"}
    values = {"start_embeddings": "mine.pt", "round_init": None}
    found = caveats(given(settings, **values))
    for name in ("topline", "topline_tuned"):
        assert found.pop(name) == "synthetic voices"
    start = start.replace("a given embedder", "given embeddings")
    assert set(found.values()) == {f"{start}not known"}


def test_rows_say_that_true_labels_trained_the_given_embedder(
    settings, tmp_path
):
    record = {"true_labels": True, "hparams": {"n_epochs": 1}}
    write_json(tmp_path / "model" / "stage.json", record)
    start = given(
        settings,
        start_embedder=str(tmp_path / "model" / "embedder"),
        bootstrap_name="supervised",
    )
    said = set(caveats(start).values())
    assert said == {
        "synthetic voices; starts from a given embedder (supervised); true "
        "speaker labels were used in training"
    }
    scored = by_name(start)["bootstrap/scores"].options
    path = tmp_path / "model" / "stage.json"
    assert scored["train_record"] == str(path)


def test_automatic_rounds_may_follow_given_embeddings(settings):
    values = {"start_embeddings": "mine.pt", "round_init": None}
    settings = changed(settings, n_rounds="auto", **values)
    churn(settings, 1, 0.4)
    assert "round2/model" in names(settings)
    assert "bootstrap/model" not in names(settings)


def test_the_encoder_of_a_plan_is_given_by_one_word():
    given = {"encoder_source": "mine", "data_folder": "given"}
    steps = by_name(read_plan("minivox_whisper", **given))
    options = steps["bootstrap/model"].options
    assert options["embedder"]["encoder_source"] == "mine"
    assert options["augment_folder"] == "given/augment"
    for name in ("round1/model", "topline/model"):
        assert "encoder_source" not in steps[name].options["embedder"]


def test_rounds_are_clustered_with_the_bootstrap_where_asked(settings):
    steps = by_name(changed(settings, join_bootstrap=True))
    first = str(steps["bootstrap/train_embeddings"].folder)
    assert steps["round1/labels"].options["joined_folder"] == first
    assert "joined_folder" not in steps["bootstrap/labels"].options
    steps = by_name(settings)
    assert "joined_folder" not in steps["round1/labels"].options


def test_the_final_model_is_joined_with_the_bootstrap_where_asked(settings):
    values = {"join_final": True, "whiten_scores": 0.5, "large_margin": True}
    plan = load_plan(changed(settings, **values))
    steps = {step.name: step for step in plan.steps}
    first = steps["bootstrap/model"].artifacts.embedder
    for name, last in (
        ("joined", "large_margin"),
        ("topline_joined", "topline_tuned"),
    ):
        options = steps[f"{name}/model"].options
        trained = steps[f"{last}/model"].artifacts.embedder
        assert options["embedder_folders"] == [str(trained), str(first)]
        assert options["embeddings_folders"] == [
            str(steps[f"{system}/train_embeddings"].folder)
            for system in (last, "bootstrap")
        ]
        assert options["whiten"] == 0.5
        # Its parts are whitened already.
        assert steps[f"{name}/scores"].options["whiten"] is None
    assert steps["topline_joined/model"].system.has_true_labels
    shared = steps["published/export"].options["embedder_folder"]
    assert shared == str(steps["joined/model"].artifacts.embedder)
    assert plan.model.kind is Kind.JOIN
    assert "whitened/model" not in steps
    # Without rounds there is nothing to join.
    none = changed(settings, **{**values, "n_rounds": 0})
    assert "joined/model" not in by_name(none)


def test_given_embeddings_are_no_model_to_join(settings, tmp_path):
    with pytest.raises(InputError, match="no model that could be joined"):
        changed(
            settings,
            join_final=True,
            round_init=None,
            start_embeddings=str(tmp_path),
        ).check_together()


def test_a_system_that_is_not_clustered_may_have_a_sampled_cohort(settings):
    settings = changed(settings, large_margin=True, cohort_per_speaker=7)
    steps = by_name(settings)
    for system, labels in (("large_margin", "round1"), ("topline", "topline")):
        assert f"{system}/train_embeddings" not in steps
        labels = str(steps[f"{labels}/labels"].folder / "pseudo_labels.csv")
        drawn = steps[f"{system}/cohort_embeddings"]
        assert drawn.options["annotation"] == labels
        assert drawn.options["max_per_speaker"] == 7
        scored = steps[f"{system}/scores"].options
        assert scored["cohort_folder"] == str(drawn.folder)
        assert scored["cohort_labels"] == labels
        assert scored["cohort_is_sample"] is True
    # What is clustered is embedded in full, and nothing is sampled from it.
    assert "round2/cohort_embeddings" not in steps
    assert "cohort_is_sample" not in steps["round2/scores"].options


def test_a_model_is_whitened_on_the_sample_that_its_scores_are(settings):
    settings = changed(
        settings, large_margin=True, cohort_per_speaker=7, whiten_scores=0.5
    )
    steps = by_name(settings)
    learnt_on = str(steps["large_margin/cohort_embeddings"].folder)
    assert steps["whitened/model"].options["embeddings_folder"] == learnt_on
    assert steps["large_margin/scores"].options["cohort_folder"] == learnt_on
