"""Imports go downwards only: the floors of the house."""

import ast
from pathlib import Path

import pytest
from house import DRIVER, PACKAGE, recipes

FLOORS = {
    0: "files forest mixture rng",
    1: "audio audio_tree channel_filter class_sampler conv_front curve "
    "figures finite gated_attention hub_upload "
    "log_mel lora manifest metrics monitor parameters processes "
    "projection quality ranges receipts regularizers rounds schedules "
    "score_norm toy_sounds trials vectors ward wavlm_official "
    "whitening workers yamls",
    2: "bootstrap calibration checkpoints cllr cluster_curves clustering "
    "debug_plan dino dino_schedules embedder embeddings epoch_figures "
    "holdout label_churn label_cleaning label_formats label_quality "
    "layer_distances lineage loss_gate margin measure plan pooling report "
    "scoring sound_bank ssl_models toy views weight_anchor",
    3: "augment cluster_number cohorts comparison contrastive corpus "
    "embedding_formats extraction health hypersphere noisy_labels "
    "plots_clusters plots_scores plots_training ssps stage "
    "trial_speakers voices wavlm",
    4: "backend breakdowns dino_modules eer_watch gate_files "
    "oracle_positives pseudo_trials safe_modules speaker_modules",
    5: "contrastive_modules hub_folder results scoring_system view_brain",
    6: "model_card run_report verifier",
    7: "embed verify",
}
# Sound is cut where a manifest says: the one neighbour on a floor.
NEIGHBOURS = {("audio", "manifest")}

FLOOR_OF = {
    name: floor for floor, names in FLOORS.items() for name in names.split()
}
MODULES = {path.stem: path for path in PACKAGE.glob("*.py")}
STARTERS = {"subprocess", "runpy", "multiprocessing", "importlib"}


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def own_modules(path: Path) -> set[str]:
    """Modules of ours that a file imports."""
    parts = [name.split(".") for name in imported(path)]
    return {p[1] for p in parts if p[0] == "speechbrain_ext" and len(p) > 1}


def test_every_module_has_one_floor():
    assert MODULES.keys() - {"__init__"} == FLOOR_OF.keys()
    assert sum(len(names.split()) for names in FLOORS.values()) == len(FLOOR_OF)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_from_floors_below(name):
    above = {
        other
        for other in own_modules(MODULES[name]) - {"__version__"}
        if FLOOR_OF[other] >= FLOOR_OF.get(name, -1)
        and (name, other) not in NEIGHBOURS
    }
    assert not above, f"{name} imports {sorted(above)}"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_knows_no_recipe_and_imports_by_full_name(name):
    roots = {dotted.split(".")[0] for dotted in imported(MODULES[name])}
    assert not roots & {"", "recipes", *recipes()}


@pytest.mark.parametrize("stem", sorted(recipes()))
def test_recipes_never_import_each_other(stem):
    roots = {dotted.split(".")[0] for dotted in imported(recipes()[stem])}
    assert not roots & {"", "recipes", *recipes()}


@pytest.mark.parametrize("stem", sorted(recipes()))
def test_only_the_driver_starts_processes(stem):
    roots = {dotted.split(".")[0] for dotted in imported(recipes()[stem])}
    if stem == DRIVER:
        assert "subprocess" in roots
    else:
        assert not roots & STARTERS
        assert "os.system" not in recipes()[stem].read_text("utf-8")
