"""Leaves, overrides in their first lines, and the paper's plan are published.

`published_settings` has what was published; here what claims to be it is
resolved as a run does, and compared value by value.
"""

import functools
import inspect
import re
import shlex
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import training_leaf
from house import ROOT, leaves
from published_settings import (
    BEHAVIOUR,
    NOT_IMPLEMENTED,
    ON_PURPOSE,
    PUBLISHED,
    Differs,
)
from tiny_wavlm import TINY

from speechbrain_ext.augment import Augment
from speechbrain_ext.dataio.embedding_files import CROPS
from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.experiment.plan import load_plan
from speechbrain_ext.experiment.recipe_settings import settings_of
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.models import DINOHead
from speechbrain_ext.models.pooling import MHFA
from speechbrain_ext.models.speech_encoder import SpeakerEncoder
from speechbrain_ext.training import schedules
from speechbrain_ext.training.dino import DinoSchedules
from speechbrain_ext.training.optim import decay_groups, parameter_groups
from speechbrain_ext.utils.yaml_trees import (
    merged,
    parse_yaml,
    plain,
    read_yaml,
)
from speechbrain_ext.verification.protocols import read_voices

DIFFERENCES = ROOT / "docs" / "paper_differences.md"
LEAVES = {leaf.stem: leaf for leaf in leaves()}
# What a setting says again for its reader's sake.
AGAIN = ("lr", "n_epochs")


def published(leaf) -> dict[str, dict]:
    """Overrides by the name of the setting, as the first lines have them."""
    settings: dict[str, list] = {}
    for line in leaf.read_text("utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#"):
            break
        if text.endswith(":"):
            settings[text] = words = []
        elif text.startswith("--"):
            words += shlex.split(text)
    pairs = {
        name: [word.removeprefix("--").split("=", 1) for word in words]
        for name, words in settings.items()
    }
    return {
        name: plain(parse_yaml("\n".join(f"{k}: {v}" for k, v in found)))
        for name, found in pairs.items()
        if found
    }


SETTINGS = [
    (stem, name) for stem, leaf in LEAVES.items() for name in published(leaf)
]


def test_leaves_have_published_settings_in_their_heads():
    counts = {
        stem: [len(v) for v in published(LEAVES[stem]).values()]
        for stem, _ in SETTINGS
    }
    assert counts == {
        "train_contrastive_ecapa": [1, 4, 1],
        "train_contrastive_encoder": [1, 1, 1],
        "train_dino_ecapa": [3, 8, 9],
        "train_speaker_encoder_mhfa": [2, 10, 11, 13],
    }


@pytest.mark.parametrize(("stem", "name"), SETTINGS)
def test_a_published_setting_changes_the_leaf(stem, name):
    leaf = LEAVES[stem]
    overrides = published(leaf)[name]
    found = vars(training_leaf.read(stem, **overrides).settings)
    without = vars(training_leaf.read(stem).settings)
    for key, value in overrides.items():
        if isinstance(value, dict):
            assert value.items() <= found[key].items()
        elif "yaml" not in key:
            assert found[key] == value
        assert found[key] != without[key] or key in AGAIN


RATED = [(s, n) for s, n in SETTINGS if "lr_parts" in published(LEAVES[s])[n]]


def groups_of(settings) -> tuple[SpeakerEncoder, list[dict]]:
    """A tiny model and the groups that the optimiser would be given."""
    freeze = embedder_values(settings)["freeze"]
    model = SpeakerEncoder(None, TINY, MHFA, freeze=freeze)
    classifier = torch.nn.Linear(2, 2)
    return model, parameter_groups(
        model, classifier, settings.lr, settings.lr_parts, settings.layer_decay
    )


@pytest.mark.parametrize(("stem", "name"), RATED)
def test_parts_with_a_rate_of_their_own_are_parts_of_a_wavlm(stem, name):
    overrides = published(LEAVES[stem])[name]
    settings = training_leaf.read(stem, **overrides).settings
    _, groups = groups_of(settings)
    rates = {float(rate) for rate in overrides["lr_parts"].values()}
    # No rate of the leaf's own is left beside those that were given.
    assert {group["lr"] for group in groups} == {settings.lr, *rates}


def embedder_values(settings) -> dict:
    """Values of the embedder's YAML, with the changes to it."""
    return plain(merged(read_yaml(settings.embedder_yaml), settings.embedder))


def settings_that_claim(claim):
    """Settings of a leaf with its overrides, or of a step of a plan."""
    if claim.step is None:
        heads = published(LEAVES[claim.name])
        overrides = {}
        if claim.override is not None:
            (name,) = [n for n in heads if n.startswith(claim.override)]
            overrides = heads[name]
        return training_leaf.read(claim.name, **overrides).settings
    return settings_of_step(plan_steps(claim.name)[claim.step])


def settings_of_step(step):
    """Settings that a step of a plan is run with."""
    given = {**step.options, **dict.fromkeys(step.late, "x")}
    given["output_folder"] = "x"
    return read_leaf(settings_of(step.recipe), step.hparams, given).settings


def plan_steps(name) -> dict:
    given = dict.fromkeys(("data_folder", "musan", "rirs"), "x")
    plan = read_leaf(RunRounds, f"plans/{name}.yaml", given).settings
    return {step.name: step for step in load_plan(plan).steps}


def flat(values, above="") -> dict:
    """Values by dotted key."""
    found = {}
    for key, value in values.items():
        if isinstance(value, dict) and value and key != "lr_parts":
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def resolved_values(settings) -> dict:
    """All values of a recipe, and what follows from them."""
    found = flat(vars(settings))
    if hasattr(settings, "backends"):
        backends = settings.backends
        first = backends if isinstance(backends, str) else backends[0]
        return {**found, "First back-end": first, **shares_of_crops(settings)}
    if hasattr(settings, "lr_schedule"):
        embedder = embedder_values(settings)
        found |= {f"embedder.{key}": value for key, value in embedder.items()}
        defaults = inspect.signature(Augment).parameters
        own = {k: p.default for k, p in defaults.items()} | settings.augment
        found |= {f"augment.{key}": value for key, value in own.items()}
        found |= {"Shares of augmentation": shares(own)} | rates(settings)
        found |= of_views(settings) | of_speakers(settings)
    return found


def shares_of_crops(settings) -> dict[str, float]:
    """Shares of whole utterances and of each pair of 15 crops in a score.

    The one utterance has orthogonal crops, of which the other has the first.
    """
    basis = np.eye(17, dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        np.save(path / "embeddings.npy", basis[[15, 16]])
        np.save(path / CROPS, np.stack([basis[:15], basis[[0] + 14 * [16]]]))
        (path / "embeddings.csv").write_text("ID,row\na,0\nb,1\n")
        ids = np.array(["a", "b"])
        first, second = read_voices(path, ids, settings.protocol).vectors
        np.save(path / "embeddings.npy", basis[[15, 15]])
        whole, again = read_voices(path, ids, settings.protocol).vectors
    pair = float(first @ second)
    return {
        "Share of whole utterances": float(whole @ again) - pair,
        "Share of each pair of crops": pair,
    }


def shares(augment) -> dict[str, float]:
    """Share of each kind of crop; sounds are one where some have rir too."""
    weights = [
        w / sum(augment["probabilities"]) for w in augment["probabilities"]
    ]
    both = augment["reverb_prob"]
    kinds = dict(zip(Augment.KINDS, weights, strict=True))
    if not both:
        return kinds
    sound = sum(kinds.pop(kind) for kind in ("music", "babble", "noise"))
    return {**kinds, "sound": (1 - both) * sound, "sound + rir": both * sound}


def rates(settings) -> dict:
    """Rates in the middle of each epoch, and in the last step."""
    arguments = dict(settings.lr_schedule)
    schedule = getattr(schedules, arguments.pop("!").rpartition(".")[2])
    per_epoch = 100

    def rate(step):
        return schedule(
            step,
            settings.n_epochs * per_epoch,
            start=1.0,
            end=settings.lr_end,
            n_warmup=settings.n_warmup_epochs * per_epoch,
            **arguments,
        )

    middles = [rate(n * per_epoch + 50) for n in range(settings.n_epochs)]
    last = settings.lr * rate(settings.n_epochs * per_epoch - 1)
    encoder = settings.lr_parts.get("encoder", settings.lr)
    return {
        "Rates": [settings.lr * factor for factor in middles],
        "Rates of the encoder": [encoder * factor for factor in middles],
        "Last rate": last,
        "Rate for a batch of 256": settings.lr * 256 / settings.batch_size,
        "Batch of each of 4 processes": settings.batch_size / 4,
    }


def of_views(settings) -> dict:
    """What follows from the values of a training without labels."""
    if not hasattr(settings, "n_temperature_epochs"):
        return {}
    rise = settings.n_temperature_epochs / settings.n_epochs
    schedules, n_steps = DinoSchedules(settings, 100), 100 * settings.n_epochs
    (_, vectors) = decay_groups([torch.nn.Parameter(torch.ones(2))])
    return {
        "Share of the temperature's rise": rise,
        "Has a VICReg term": settings.regularizer_weight > 0,
        "EMA in the middle": round(schedules.at(n_steps // 2).momentum, 5),
        "EMA at the end": schedules.at(n_steps - 1).momentum,
        "Weight decay of vectors": vectors["weight_decay"],
        **of_the_head(),
    }


@functools.cache
def of_the_head() -> dict:
    """Layers of DINO's head, and what becomes of lengths in it."""
    torch.manual_seed(0)
    head = DINOHead(4, hidden_size=8, bottleneck_size=4, n_prototypes=3).eval()
    with torch.no_grad():
        # Prototypes and hidden vector all along the first axis.
        head.prototypes.copy_(torch.tensor([[5.0, 0, 0, 0]] * 3))
        cosines = head.cosines(torch.tensor([[7.0, 0, 0, 0]]))
    return {
        "Layers of the head": [type(layer).__name__ for layer in head.mlp],
        "Length of what meets the prototypes": cosines.max().item(),
        "Gain of the prototypes": cosines.min().item(),
    }


@functools.cache
def of_wavlm_base(**sizes) -> dict:
    """Numbers of MHFA and of WavLM Base+ with it, counted without memory."""
    base = {"hidden_size": 768, "num_hidden_layers": 12}
    with torch.device("meta"):
        model = SpeakerEncoder(None, base, functools.partial(MHFA, **sizes))
    mhfa = MHFA(13, 768, **sizes)
    (start,) = {*mhfa.key_layers.tolist(), *mhfa.value_layers.tolist()}
    return {
        "Million parameters of MHFA": round(n_parameters(mhfa) / 1e6, 2),
        "Million parameters in all": round(n_parameters(model) / 1e6, 1),
        "Layers that MHFA weighs": len(model.pooling.key_layers),
        "Layer weights of MHFA at the start": start,
    }


def n_parameters(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def of_speakers(settings) -> dict:
    """What follows from the values of a WavLM with MHFA."""
    found = embedder_values(settings)
    if "compression_size" not in found:
        return {}
    model, groups = groups_of(settings)
    rate_of = {id(p): g["lr"] for g in groups for p in g["params"]}
    by_part = {}
    for name, parameter in model.encoder.named_parameters():
        if parameter.requires_grad:
            parts = name.split(".")
            known = [p for p in ("feature_extractor", "layers") if p in parts]
            part = known[0] if known else "others"
            by_part.setdefault(part, set()).add(rate_of[id(parameter)])
    cnn, layers = (by_part.get(k) for k in ("feature_extractor", "layers"))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    others = {name.partition(".")[0] for name in trained} - {"encoder"}
    names = ("n_heads", "compression_size", "embedding_size")
    return {
        **of_wavlm_base(**{name: found[name] for name in names}),
        "Trained parts of the encoder": sorted(by_part),
        # The groups that the optimiser gets have the classifier's weights.
        "Trained parts besides the encoder": sorted(
            others | ({"classifier"} if len(rate_of) > len(trained) else set())
        ),
        "Rate of the CNN, relative to its neighbours'": (
            max(cnn) / max(layers) if cnn else None
        ),
        "Has sub-centres": settings.loss["n_subcentres"] > 1,
        "Has inter-top-k": settings.loss["inter_top_k"] > 0,
    }


CLAIMS = [
    pytest.param(setting, claim, id=f"{name}: {claim.step or claim.name}")
    for name, setting in PUBLISHED.items()
    for claim in setting.claims
]


@pytest.mark.parametrize(("setting", "claim"), CLAIMS)
def test_what_claims_a_published_setting_has_its_values(setting, claim):
    found = resolved_values(settings_that_claim(claim))
    wrong = {
        key: (found.get(key, "missing"), value, source)
        for key, (value, source) in setting.values.items()
        if not is_equal(found.get(key, "missing"), value)
    }
    assert not wrong


def is_equal(found, value) -> bool:
    if isinstance(value, Differs):
        return is_equal(found, value.ours)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return found is value or found == value
    if isinstance(found, str):
        return False
    if isinstance(value, tuple):
        found = tuple(found)
    if isinstance(value, list) and value and isinstance(value[0], str):
        return found == value
    return found == pytest.approx(value, rel=1e-5)


def test_every_published_override_is_compared():
    """Those of the first lines that name a published error rate."""
    claimed = {
        (claim.name, claim.override)
        for setting in PUBLISHED.values()
        for claim in setting.claims
    }
    for stem, name in SETTINGS:
        if "%)" in name and "MoCo" not in name or "BUT" in name:
            assert any(
                stem == leaf and override and name.startswith(override)
                for leaf, override in claimed
            ), name


def test_the_paper_trains_wavlm_three_times_before_the_large_margin():
    models = [n for n in plan_steps("voxceleb") if n.endswith("/model")]
    assert models == [
        "bootstrap/model",
        "ablation1/model",
        "ablation2/model",
        "round1/model",
        "round2/model",
        "round3/model",
        "large_margin/model",
        "topline/model",
        "topline_tuned/model",
    ]


def test_the_rows_of_the_paper_add_the_gate_and_then_correction():
    steps = plan_steps("voxceleb")
    rows = [
        settings_of_step(steps[f"{system}/model"])
        for system in ("ablation1", "ablation2", "round1")
    ]
    assert [(r.gate, r.correct_from_epoch) for r in rows] == [
        (None, None),
        ("hard", None),
        ("hard", 9),
    ]
    assert len({r.train_annotation for r in rows}) == 1


def rows_of_differences() -> set[str]:
    """First cells of the tables of what differs from what was published."""
    text = DIFFERENCES.read_text("utf-8")
    # Words may be linked to the glossary.
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text)
    return set(re.findall(r"^\| ([^|]+?) \|", text, re.M))


def test_what_differs_on_purpose_is_in_the_document_with_its_reason():
    differing = {
        value.row
        for setting in PUBLISHED.values()
        for value, _ in setting.values.values()
        if isinstance(value, Differs)
    }
    assert differing
    lacking = (differing | {*ON_PURPOSE.values()}) - rows_of_differences()
    assert not lacking


def test_a_value_that_differs_is_not_the_published_one():
    for setting in PUBLISHED.values():
        for key, (value, _) in setting.values.items():
            if isinstance(value, Differs):
                assert not is_equal(value.ours, value.published), key


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_what_is_no_value_has_a_test_of_its_own(name):
    path = ROOT / BEHAVIOUR[name]
    assert "def test_" in path.read_text("utf-8")


@pytest.mark.parametrize("name", NOT_IMPLEMENTED)
def test_what_is_not_implemented_is_said_to_be_and_claimed_by_nothing(name):
    word = name.partition(" ")[0]
    (row,) = [
        line
        for line in DIFFERENCES.read_text("utf-8").splitlines()
        if line.startswith(f"| {word} ")
    ]
    missing = [k for k, v in NOT_IMPLEMENTED[name].items() if "missing" in v]
    assert missing and all(part in row for part in missing)
    assert "not offered" in row
    for leaf in LEAVES.values():
        assert word not in leaf.read_text("utf-8")
