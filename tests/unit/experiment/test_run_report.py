"""What a run collects for its reader."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from result_records import result_of

from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.experiment.plan import Step
from speechbrain_ext.experiment.run_report import (
    collect_curves,
    collect_results,
    comparison_tables,
    curve_sections,
    final_model,
    map_sections,
    mapped_rows,
    model_folder,
    number_sections,
    score_sections,
    stopping_words,
    write_run_report,
)
from speechbrain_ext.utils.files import write_json, write_text
from speechbrain_ext.verification.bootstrap import single_trials
from speechbrain_ext.verification.comparison import Comparison
from speechbrain_ext.verification.metrics import equal_error_rate


def scored(folder, system, eer):
    """A scored step whose EER is known: 1 of ``eer`` targets is missed."""
    step = Step(f"{system}/scores", "", "", folder / system, {})
    scores = [0.9] * (eer - 1) + [0.1] + [0.0] * (eer - 1) + [0.5]
    labels = [1] * eer + [0] * eer
    facts = {"corpus": "toy", "trials": "dev", "run": "a"}
    row = result_of(scores, labels, system=system, n_bootstrap=5, **facts)
    row.write(step.folder / "result_dev.json")
    return step


def test_results_are_copied_in_the_order_of_the_run(tmp_path):
    steps = [scored(tmp_path, "zeta", 4), scored(tmp_path, "alpha", 8)]
    results = collect_results("run", steps, tmp_path / "results")
    assert [row.system.name for row in results] == ["zeta", "alpha"]
    files = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert files == ["run-00-zeta_dev.json", "run-01-alpha_dev.json"]


def test_rows_of_a_longer_earlier_run_go_and_those_of_others_stay(tmp_path):
    folder = tmp_path / "results"
    steps = [scored(tmp_path, name, 4) for name in ("a", "b")]
    collect_results("run", steps, folder)
    collect_results("run2", steps, folder)
    collect_results("run", steps[:1], folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["run-00-a_dev.json"] + [
        f"run2-0{n}-{s}_dev.json" for n, s in enumerate("ab")
    ]


def test_a_result_is_the_very_file_that_scoring_wrote(tmp_path):
    step = scored(tmp_path, "a", 4)
    collect_results("run", [step], tmp_path / "results")
    copy = Path(tmp_path / "results" / "run-00-a_dev.json")
    assert copy.read_bytes() == (step.folder / "result_dev.json").read_bytes()


def modelled(folder, system, columns="epoch,loss", values="1,2"):
    step = Step(f"{system}/model", "", "", folder / system / "model", {})
    curve = f"{columns}\n{values}\n"
    write_text(step.folder / "train_curve.csv", curve)
    return step


def test_the_runs_curves_are_copied_over_its_earlier_ones(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    steps = [modelled(tmp_path, name) for name in ("bootstrap", "round1")]
    collect_curves("run", steps, folder)
    collect_curves("run", steps[:1], folder)
    copy = folder / "run-curve-bootstrap.csv"
    assert list(folder.iterdir()) == [copy]
    assert copy.read_text() == "epoch,loss\n1,2\n"


def test_the_health_of_a_bootstrap_is_shown(tmp_path):
    columns = "epoch,loss,kl,entropy,information,prototypes,center_norm,"
    columns += "spread,effective_rank"
    first = modelled(tmp_path, "bootstrap", columns, "1,5,2,3,1,9,2,1,7")
    write_json(first.folder / "stage.json", {"ln_k": 7.6})
    sections = curve_sections([first, modelled(tmp_path, "round1")])
    assert [heading for heading, _, _ in sections] == [
        "Training",
        "Health, bootstrap",
    ]
    assert "ln K 7.6; rank 7." in sections[1][2].get_label()


def test_a_model_that_was_not_trained_has_no_curve(tmp_path):
    steps = [modelled(tmp_path, "round1")]
    steps.append(Step("whitened/model", "", "", tmp_path / "whitened", {}))
    ((heading, _, figure),) = curve_sections(steps)
    assert heading == "Training" and len(figure.axes) == 1
    (tmp_path / "results").mkdir()
    collect_curves("a", steps, tmp_path / "results")
    copies = [path.name for path in (tmp_path / "results").iterdir()]
    assert copies == ["a-curve-round1.csv"]


def test_a_contrastive_bootstrap_shows_its_own_figures(tmp_path):
    columns = "epoch,loss,alignment,uniformity,spread,effective_rank,lr"
    first = modelled(tmp_path, "bootstrap", columns, "1,5,2,-3,1,7,0.1")
    distances = "epoch,front,layer_1\n1,0,0.02\n"
    write_text(first.folder / "layer_distances.csv", distances)
    sections = curve_sections([first])
    assert [heading for heading, _, _ in sections] == [
        "Training",
        "Health, bootstrap",
        "Layers, bootstrap",
    ]
    assert "uniformity -3" in sections[1][2].get_label()
    assert "2.00 % in layer_1" in sections[2][2].get_label()


def test_the_gate_of_a_gated_training_is_shown(tmp_path):
    first, second = (modelled(tmp_path, name) for name in ("round1", "round2"))
    entry = {"epoch": 1, "scale": "log loss", "counts": [1, 2]}
    entry |= {"edges": [0.0, 2.0], "mixture": None, "threshold": 1.5}
    write_json(
        second.folder / "gate.json", [{**entry, "is_new": True, "kept": 0.75}]
    )
    sections = curve_sections([first, second])
    assert [heading for heading, _, _ in sections] == [
        "Training",
        "Gate, round2",
        "Gate by epoch, round2",
    ]
    assert "Thresholds by epoch: 1 1.50" in sections[1][2].get_label()
    assert "kept 75.0 % to 75.0 %" in sections[2][2].get_label()


def test_a_run_without_scores_leaves_a_report_and_has_a_model(tmp_path):
    steps = []
    for system in ("bootstrap", "round1"):
        folder = tmp_path / system
        write_json(folder / "labels" / "clusters.json", {"sizes": [3, 2]})
        write_text(folder / "model" / "train_curve.csv", "epoch,loss\n1,2\n")
        for kind in ("model", "labels"):
            name = f"{system}/{kind}"
            steps.append(Step(name, "", "", tmp_path / name, {}))
    settings = {
        "run": "mine",
        "results_folder": str(tmp_path / "results"),
        "output_folder": str(tmp_path),
        "corpus": "a folder",
        "n_rounds": 1,
    }
    page = write_run_report(settings, steps)
    text = page.read_text()
    assert "<h2>Cluster sizes</h2>" in text and "<table>" not in text
    assert not (tmp_path / "results").exists()
    model = tmp_path / "round1" / "model" / "embedder"
    assert model_folder(settings, steps) == model


def automatic(folder, churns):
    """An ended ``auto`` run, of which rounds have these churns."""
    for number, churn in enumerate(churns, 1):
        path = folder / f"round{number}" / "labels" / "stage.json"
        write_json(path, {"churn": churn})
    return {
        "n_rounds": "auto",
        "max_rounds": 9,
        "churn_tolerance": 0.1,
        "churn_floor": 0.02,
        "output_folder": str(folder),
    }


def models(*systems):
    return [Step(f"{name}/model", "", "", Path(name), {}) for name in systems]


def test_the_chosen_round_gives_the_model(tmp_path):
    settings = automatic(tmp_path, [0.2, 0.3])
    steps = models("bootstrap", "round1", "round2", "topline")
    assert final_model(settings, steps).system == "round1"
    steps += models("large_margin")
    assert final_model(settings, steps).system == "large_margin"


def test_without_rounds_the_bootstrap_is_the_model():
    steps = models("bootstrap", "topline")
    assert final_model({"n_rounds": 0}, steps).system == "bootstrap"


def test_the_choice_is_compared_with_the_best_round_afterwards(tmp_path):
    settings = automatic(tmp_path, [0.3, 0.29])
    steps = [scored(tmp_path, name, eer) for name, eer in EERS.items()]
    results = collect_results("run", steps, tmp_path / "results")
    words = stopping_words(settings, results)
    assert "churn 0.2900 after 0.3000 does not fall by more" in words
    assert "chosen round 2 has an EER of 25.00 %" in words
    assert "the best, round 1, of 12.50 %" in words
    assert stopping_words({"n_rounds": 2}, results) == ""


EERS = {"DINO": 2, "round 1": 8, "round 2": 4, "topline": 9}


def test_the_curves_of_a_number_that_was_chosen_are_shown(tmp_path):
    choice = {
        "numbers": [2, 3, 4],
        "curves": {"gap": [1, 2, 1]},
        "by_criterion": {"gap": 3},
        "n_clusters": 3,
    }
    steps = []
    for system, found in (("bootstrap", None), ("round1", choice)):
        step = Step(f"{system}/labels", "", "", tmp_path / system, {})
        write_json(step.folder / "clusters.json", {"choice": found})
        steps.append(step)
    sections = number_sections(steps)
    assert [heading for heading, _, _ in sections] == [
        "Number of clusters, round1"
    ]


BACKENDS = ("raw", "as-norm+qmf")


def with_scores(folder, system, gain):
    """A scored step as score_trials leaves it, with two back-ends."""
    generator = np.random.default_rng(0)
    speaker = generator.integers(0, 9, 400)
    labels = np.arange(400) % 2
    other = np.where(labels == 1, speaker, (speaker + 1) % 9)
    lines = [
        f"{label} s{a}/r/{n}a s{b}/q/{n}b\n"
        for n, (label, a, b) in enumerate(
            zip(labels, speaker, other, strict=True)
        )
    ]
    path = folder / "dev.txt"
    path.write_text("".join(lines))
    options = {"trials": {"dev": str(path)}}
    step = Step(f"{system}/scores", "", "", folder / system, options)
    scores = generator.normal(size=400) + gain * labels
    for backend in BACKENDS:
        result_of(
            scores,
            labels,
            n_bootstrap=5,
            calibrated="+" in backend,
            system=system,
            corpus="toy",
            trials="dev",
            run="a",
            backend=backend,
            calibration=backend.partition("+")[2] or "none",
        ).write(step.folder / f"result_dev_{backend}.json")
        np.save(step.folder / f"scores_dev_{backend}.npy", scores)
    return step


@pytest.fixture
def steps(tmp_path):
    return [
        with_scores(tmp_path, name, gain)
        for name, gain in (("DINO", 1), ("round 1", 2), ("round 2", 2))
    ]


def test_each_list_and_back_end_has_its_pictures(steps, tmp_path):
    results = collect_results("a", steps, tmp_path / "results")
    headings = [h for h, _, _ in score_sections(steps, results)]
    assert headings == [
        "DET, dev, raw",
        "Scores, dev, raw",
        "DET, dev, as-norm+qmf",
        "Calibration, dev, as-norm+qmf",
    ]


def test_each_system_is_compared_with_the_one_before(steps, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "a-comparison-gone_dev_raw.json").write_text("{}")
    ((heading, rows),) = comparison_tables("a", steps, folder).items()
    assert "9 speakers" in heading
    pairs = [(row["first"], row["second"]) for row in rows]
    assert pairs[::2] == [
        ("DINO, raw", "round 1, raw"),
        ("round 1, raw", "round 2, raw"),
    ]
    assert float(rows[0]["p (EER)"]) < 0.05
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 4
    assert "a-comparison-DINO-round 1_dev_raw.json" in names
    value = json.loads((folder / names[-1]).read_text())
    assert value["kind"] == "comparison"


def test_what_labels_would_have_brought_is_printed(tmp_path, capsys):
    steps = [
        with_scores(tmp_path, name, gain)
        for name, gain in (("DINO", 1), ("topline", 3), ("topline_tuned", 4))
    ]
    comparison_tables("a", steps, tmp_path / "results")
    lines = capsys.readouterr().out.splitlines()
    first, second = (
        equal_error_rate(np.load(path), np.arange(400) % 2)[0] * 100
        for path in (
            tmp_path / "topline_tuned" / "scores_dev_raw.npy",
            tmp_path / "DINO" / "scores_dev_raw.npy",
        )
    )
    assert lines[0] == (
        "dev: EER of DINO, raw over that of topline_tuned, raw: "
        f"{second:.2f} / {first:.2f} = {second / first:.3f}"
    )
    assert len(lines) == len(BACKENDS)


def test_a_system_that_is_second_twice_has_a_file_for_each(tmp_path):
    steps = [
        with_scores(tmp_path, name, gain)
        for name, gain in (("DINO", 1), ("round 1", 2), ("topline", 3))
    ]
    comparison_tables("a", steps, tmp_path / "results")
    names = {path.name for path in (tmp_path / "results").glob("*_raw.json")}
    assert names == {
        "a-comparison-DINO-round 1_dev_raw.json",
        "a-comparison-topline-round 1_dev_raw.json",
    }


def test_a_topline_without_errors_has_no_ratio():
    labels = [0, 1] * 20
    found = Comparison.of_scores(
        labels,
        [0.5, 0.4] * 20,
        labels,
        single_trials(40),
        n_bootstrap=5,
        first="a",
        second="b",
        trials="dev",
        trials_sha256="0",
    )
    assert found.ratio_in_words().endswith("100.00 / 0.00 = –")


def test_one_system_is_compared_with_nothing(steps, tmp_path):
    assert comparison_tables("a", steps[:1], tmp_path) == {}


def labelled(folder, n_rows=60):
    """Clusters of embeddings, and the true speakers."""
    step = Step("round1/labels", "", "", folder / "round1" / "labels", {})
    ids = [f"u{n}" for n in range(n_rows)]
    x = np.random.default_rng(0).normal(size=(n_rows, 5)).astype(np.float32)
    embeddings = folder / "round1" / "train_embeddings"
    embeddings.mkdir(parents=True)
    np.save(embeddings / "embeddings.npy", x)
    rows = pd.DataFrame({"ID": ids, "row": np.arange(n_rows)})
    rows.to_csv(embeddings / "embeddings.csv", index=False)
    table = pd.DataFrame({"ID": ids, "duration": 1.0, "wav": "x"})
    table = table.assign(start=0, stop=16000)
    table["spk_id"] = [f"p{n % 7}" for n in range(n_rows)]
    path = step.folder / "pseudo_labels.csv"
    write_manifest(path, table, "pseudo_labels")
    oracle = pd.DataFrame({"ID": ids, "spk_id": [i[-1] for i in ids]})
    oracle.to_csv(folder / "oracle.csv", index=False)
    return step


@pytest.mark.parametrize("known", [True, False])
def test_a_map_shows_clusters_and_speakers_where_known(tmp_path, known):
    step = labelled(tmp_path)
    if known:
        step.options["oracle"] = str(tmp_path / "oracle.csv")
    ((heading, _, figure),) = map_sections([step])
    assert heading == "Map, round1"
    words = "Map of 60 utterances. By cluster: 7."
    assert figure.get_label() == words + (" By speaker: 10." if known else "")


def test_a_map_is_of_the_names_that_have_most():
    sizes = np.arange(1, 61)
    names = np.repeat(sizes, sizes)
    rows = mapped_rows(names)
    assert set(names[rows]) == set(range(37, 61))
    assert len(rows) == 1000 and (np.diff(rows) > 0).all()
