"""The modules of a supervised training, from the recipe's settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.losses.aam_softmax import AAMSoftmax
from speechbrain_ext.losses.l2_sp import L2SP
from speechbrain_ext.losses.loss_gate import FITS
from speechbrain_ext.losses.noisy_labels import NoisyLabels
from speechbrain_ext.models.embedder import (
    Embedder,
    build_embedder,
    load_weights,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.validation import check_counts

GATES = (None, "hard", "soft")
AUTO = "auto"


def build_modules(
    settings: dict[str, Any], manifest: Manifest, n_classes: int
) -> dict[str, Any]:
    """What a checkpoint of train_speaker holds of modules.

    Arguments
    ---------
    settings : dict
        Of train_speaker.
    manifest : Manifest
        Of kind ``pseudo_labels``: what is trained on.
    n_classes : int
        Speakers.

    Returns
    -------
    dict of str to torch.nn.Module
        ``embedder``, ``classifier`` and ``noisy_labels``, on the CPU.

    Raises
    ------
    InputError
        A setting makes no such module.
    """
    embedder = build_embedder(settings["embedder_yaml"], settings["embedder"])
    classifier = AAMSoftmax(
        embedder.embedding_size,
        n_classes,
        settings["scale"],
        settings["margin"],
        settings["n_subcentres"],
        settings["n_nearest"],
        settings["nearest_margin"],
    )
    noisy_labels = _noisy_labels(settings, manifest)
    return {
        "embedder": embedder,
        "classifier": classifier,
        "noisy_labels": noisy_labels,
    }


def initialise(
    settings: dict[str, Any], embedder: Embedder, classifier: AAMSoftmax
) -> L2SP | None:
    """Load the weights to start from; the anchor at the pre-trained ones.

    Pre-trained is the encoder as it came from its source, before
    ``init_from``; of a model without an encoder, all of ``init_from``.

    Arguments
    ---------
    settings : dict
        Of train_speaker.
    embedder : Embedder
        As built.
    classifier : AAMSoftmax
        As built.

    Returns
    -------
    L2SP or None
        None without an ``anchor_weight``.

    Raises
    ------
    InputError
        Weights do not fit, or there are none to hold to.
    """
    encoder = getattr(embedder.model, "encoder", None)
    anchor = None
    if settings["anchor_weight"] and encoder is not None:
        anchor = _anchor(settings, encoder)
    if settings["init_from"] is not None:
        load_weights(embedder, settings["init_from"])
    if settings["anchor_weight"] and encoder is None:
        if settings["init_from"] is None:
            raise InputError(
                f"anchor_weight is {settings['anchor_weight']} and "
                f"{settings['embedder_yaml']} has no pre-trained encoder; "
                "give --init_from, whose weights are then held to, or "
                "--anchor_weight=0"
            )
        anchor = _anchor(settings, embedder.model)
    if settings["init_classifier"] is not None:
        _load_classifier(classifier, settings["init_classifier"])
    return anchor


def _anchor(settings: dict[str, Any], module: torch.nn.Module) -> L2SP:
    weight, form = settings["anchor_weight"], settings["anchor_form"]
    return L2SP(module.parameters(), weight, form)


def _load_classifier(classifier: AAMSoftmax, path: str) -> None:
    """Go on from a classifier of the same pseudo-speakers."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["prototypes"].shape != classifier.prototypes.shape:
        raise InputError(
            f"init_classifier {path} has {list(state['prototypes'].shape)} "
            "prototypes (classes, sub-centres, dimension) and this training "
            f"{list(classifier.prototypes.shape)}; give the classifier of a "
            "training on the same labels with as many sub-centres, or null"
        )
    classifier.load_state_dict(state)


def check_noisy_labels(settings: dict[str, Any]) -> None:
    """Refuse settings of gate and correction that make no sense.

    Raises
    ------
    InputError
        With the key, its value and the rule.

    Example
    -------
    >>> settings = {"gate": "harsh", "correct_from_epoch": None}
    >>> check_noisy_labels(settings)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: gate is 'harsh'; it must be one ...
    """
    gate, correct = settings["gate"], settings["correct_from_epoch"]
    if gate not in GATES:
        raise InputError(
            f"gate is {gate!r}; it must be one of null, hard and soft"
        )
    fit = settings["gate_fit"]
    if fit not in FITS:
        raise InputError(
            f"gate_fit is {fit!r}; it must be one of {' and '.join(FITS)}"
        )
    check_counts(settings, gate_from_epoch=1)
    confidence = settings["correct_confidence"]
    if not isinstance(confidence, (int, float)) or not 0 < confidence < 1:
        raise InputError(
            f"correct_confidence is {confidence}; it must be between 0 and 1, "
            "e.g. 0.5"
        )
    sharpening = settings["correct_sharpening"]
    is_number = isinstance(sharpening, (int, float)) and sharpening > 0
    if sharpening != AUTO and not is_number:
        raise InputError(
            f"correct_sharpening is {sharpening!r}; it must be auto or a "
            "number above 0, e.g. 0.033"
        )
    if correct is None:
        return
    check_counts(settings, correct_from_epoch=1)
    if gate is None or correct < settings["gate_from_epoch"]:
        raise InputError(
            f"correct_from_epoch is {correct}, gate {gate} and gate_from_epoch "
            f"{settings['gate_from_epoch']}; labels are corrected where the "
            "gate rejects them: give a gate that begins no later, or null"
        )


def _noisy_labels(settings: dict[str, Any], manifest: Manifest) -> NoisyLabels:
    check_noisy_labels(settings)
    sharpening = settings["correct_sharpening"]
    return NoisyLabels(
        len(manifest),
        settings["gate"],
        settings["gate_fit"],
        settings["gate_from_epoch"],
        settings["correct_from_epoch"],
        settings["correct_confidence"],
        None if sharpening == AUTO else sharpening,
        settings["scale"],
        label_confidence(manifest, settings["label_confidence"]),
    )


def label_confidence(manifest: Manifest, quantile: float | None) -> Any:
    r"""How far clustering is to be believed, from its ``margin``.

    .. math:: k_i = \min(1, \max(0, m_i / m^*))

    with m_i how much nearer (in cosine) utterance i is to its cluster than to
    the next, and m* a quantile of it over the manifest: those above it count
    in full, those below in proportion, those nearer to another cluster than
    to their own not at all.

    Arguments
    ---------
    manifest : Manifest
        Of kind ``pseudo_labels``.
    quantile : float or None
        Share of the utterances below m*, above 0 and below 1; None: no
        weights.

    Returns
    -------
    numpy.ndarray or None
        k [N] in [0, 1].

    Raises
    ------
    InputError
        The quantile is none, the manifest has no margins, or half of them or
        more are not above 0.

    Example
    -------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"ID": list("abc"), "margin": [-0.1, 0.1, 0.3]})
    >>> label_confidence(Manifest(table, "pseudo_labels"), 0.75).round(3)
    array([0. , 0.5, 1. ])
    """
    if quantile is None:
        return None
    if not isinstance(quantile, float) or not 0 < quantile < 1:
        raise InputError(
            f"label_confidence is {quantile}; it must be null or a share "
            "between 0 and 1, e.g. --label_confidence=0.25"
        )
    if "margin" not in manifest.table:
        raise InputError(
            f"label_confidence is {quantile} and the training annotation has "
            "no column margin; cluster with make_pseudo_labels, which writes "
            "it, or give null"
        )
    reference = np.quantile(manifest.margin, quantile)
    if reference <= 0:
        raise InputError(
            f"label_confidence is {quantile} and so many utterances have a "
            "margin of 0 or less: nearly none would count; raise it, or "
            "cluster anew"
        )
    return np.clip(manifest.margin / reference, 0, 1)
