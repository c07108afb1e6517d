"""A DINO training's modules: which, of which sizes, from which settings."""

from functools import partial

import pytest
import torch

from speechbrain_ext.models.heads import DINOHead
from speechbrain_ext.training.dino import build_modules
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.yaml_trees import plain, read_yaml

SMALL = {"n_mels": 20, "width": 16, "width_last": 24, "embedding_size": 8}


def build(expander_size=0, **changes):
    settings = plain(read_yaml("hparams/train_dino_ecapa.yaml"))
    settings.update(embedder=SMALL, ssps_clusters=6, **changes)
    sizes = {"hidden_size": 32, "bottleneck_size": 16, "n_prototypes": 64}
    head = partial(DINOHead, **sizes, expander_size=expander_size)
    return build_modules(settings, {"head": head}, 20, 5)


def test_positives_come_with_ssps_alone():
    names = {"student", "teacher", "mean_teacher", "loss", "health"}
    assert build().keys() == names
    assert build(n_ssps_epochs=1).keys() == {*names, "positives"}


def test_the_student_alone_is_trained():
    modules = build(n_ssps_epochs=1)
    trained = {
        name
        for name, module in modules.items()
        if any(p.requires_grad for p in module.parameters())
    }
    assert trained == {"student"}
    own, theirs = modules["student"], modules["teacher"].model
    for first, second in zip(
        own.state_dict().values(), theirs.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second)


@pytest.mark.parametrize(("epochs", "steps"), [(2.0, 10), (None, None)])
def test_the_detectors_patience_is_in_steps(epochs, steps):
    assert build(collapse_patience=epochs)["health"].patience == steps


def test_rdinos_terms_need_their_layer():
    assert "student" in build(24, regularizer_weight=0.2)
    with pytest.raises(InputError, match="regularizer_weight is 0.2 and head"):
        build(0, regularizer_weight=0.2)
