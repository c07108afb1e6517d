"""Networks and data of supervised training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import speechbrain as sb
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import ReproducibleRandomSampler

from speechbrain_ext.dataio.audio import RandomCrop, check_crop
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.dataio.samplers import CappedSampler, DistinctClassSampler
from speechbrain_ext.losses.l2_sp import L2SP
from speechbrain_ext.losses.noisy_labels import NoisyLabels
from speechbrain_ext.models.embedder import Embedder
from speechbrain_ext.models.embedder_folder import load_weights
from speechbrain_ext.models.speech_encoder import SpeakerEncoder
from speechbrain_ext.models.state_cache import RandomStates, StateCopies
from speechbrain_ext.training.brain import ManifestData, TrainingData
from speechbrain_ext.training.networks import Networks, new_embedder
from speechbrain_ext.training.settings import TrainSpeaker
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import atomic_path
from speechbrain_ext.utils.saved_tensors import read_state

logger = logging.getLogger(__name__)


def build_speaker(
    settings: TrainSpeaker,
    objects: Mapping[str, Any],
    manifest: Manifest,
    n_classes: int,
) -> Networks:
    """Build the networks of supervised training.

    Arguments
    ---------
    settings : TrainSpeaker
        Of the recipe.
    objects : mapping
        What its YAML wires: ``loss``, called with the embedding size and the
        number of classes.
    manifest : Manifest
        Of kind ``pseudo_labels``: what is trained on.
    n_classes : int
        Speakers.

    Returns
    -------
    Networks
        Modules are ``embedder``, ``classifier`` (the loss) and
        ``noisy_labels``. Weights are as built, see `initialise`.

    Raises
    ------
    InputError
        Labels are to be weighted and the manifest has no margins.
    """
    embedder = new_embedder(settings)
    classifier = objects["loss"](embedder.embedding_size, n_classes)
    modules = {
        "embedder": embedder,
        "classifier": classifier,
        "noisy_labels": _noisy_labels(settings, classifier, manifest),
    }
    return Networks(modules, embedder, classifier, embedder)


def initialise(settings: TrainSpeaker, networks: Networks) -> L2SP | None:
    """Load the initial weights, and make the L2-SP penalty toward them.

    Pre-trained is the encoder as it came from its source, before
    ``init_from``; of a model without an encoder, all of ``init_from``.

    Arguments
    ---------
    settings : TrainSpeaker
        Of the recipe.
    networks : Networks
        As built.

    Returns
    -------
    L2SP or None
        None without an ``l2_sp_weight``.

    Raises
    ------
    InputError
        Weights do not fit, or there are no pre-trained ones.
    """
    embedder: Embedder = networks.trained
    encoder = getattr(embedder.model, "encoder", None)
    penalty = None
    if settings.l2_sp_weight and encoder is not None:
        penalty = _penalty(settings, encoder)
    if settings.init_from is not None:
        load_weights(embedder, settings.init_from)
    if settings.l2_sp_weight and encoder is None:
        if settings.init_from is None:
            raise InputError(
                f"l2_sp_weight is {settings.l2_sp_weight} and "
                f"{settings.embedder_yaml} has no pre-trained encoder; there "
                "must be pre-trained weights; give --init_from, whose weights "
                "are then held to, or --l2_sp_weight=0"
            )
        penalty = _penalty(settings, embedder.model)
    if settings.init_classifier is not None:
        _load_classifier(networks.head, settings.init_classifier)
    return penalty


def _penalty(settings: TrainSpeaker, module: torch.nn.Module) -> L2SP:
    weight, form = settings.l2_sp_weight, settings.l2_sp_form
    return L2SP(module.parameters(), weight, form)


def save_classifier(path: Path, classifier: torch.nn.Module) -> None:
    """Write a classifier's weights for `init_classifier`."""
    state = {k: value.cpu() for k, value in classifier.state_dict().items()}
    # As a stream: else the archive would contain the temporary name.
    with atomic_path(path) as part, open(part, "wb") as stream:
        torch.save(state, stream)


def _load_classifier(classifier: torch.nn.Module, path: str) -> None:
    """Load a classifier that was trained on the same pseudo-speakers."""
    state, reason = read_state(path)
    if reason:
        raise InputError(
            f"init_classifier {path} cannot be read ({reason}); give the "
            "classifier.ckpt of a training, or null"
        )
    wanted = {k: list(v.shape) for k, v in classifier.state_dict().items()}
    found = {k: list(v.shape) for k, v in state.items()}
    if found != wanted:
        raise InputError(
            f"init_classifier {path} has {found} (classes, sub-centres, "
            f"dimension) and this training {wanted}; they must be equal; give "
            "the classifier of a training on the same labels with as many "
            "sub-centres, or null"
        )
    classifier.load_state_dict(state)


def _noisy_labels(
    settings: TrainSpeaker, classifier: Any, manifest: Manifest
) -> NoisyLabels:
    given = settings.correct_temperature
    temperature = given if isinstance(given, float) else None
    return NoisyLabels(
        len(manifest),
        settings.gate,
        settings.gate_fit,
        settings.gate_from_epoch,
        settings.correct_from_epoch,
        settings.correct_confidence,
        temperature,
        getattr(classifier, "scale", 1.0),
        label_confidence(manifest, settings.label_confidence),
    )


def speaker_names(manifest: Manifest) -> list[str]:
    """Return the names of the classes, sorted.

    Raises
    ------
    InputError
        There is one alone, which cannot be told from others.

    Example
    -------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"ID": ["u", "v"], "spk_id": ["b", "a"]})
    >>> speaker_names(Manifest(table, "pseudo_labels"))
    ['a', 'b']
    """
    names = manifest.speakers()[0].tolist()
    if len(names) < 2:
        raise InputError(
            f"train_annotation has the one speaker {names[0]!r}; training "
            "needs two or more; cluster into more, or bring more speakers"
        )
    return names


def held_states(
    settings: TrainSpeaker,
    manifest: Manifest,
    embedder: Embedder,
    request: Mapping[str, Any],
) -> StateCopies | None:
    """Return the states of a frozen encoder to train on, not yet computed.

    Arguments
    ---------
    settings : TrainSpeaker
        Of the recipe.
    manifest : Manifest
        The utterances, held out ones too.
    embedder : Embedder
        Its encoder is frozen.
    request : mapping
        The stage's; what it says of augmentation is recorded.

    Returns
    -------
    StateCopies or None
        None without ``state_copies``.

    Raises
    ------
    InputError
        The embedder has no encoder with states.
    """
    if not settings.state_copies:
        return None
    if not isinstance(embedder.model, SpeakerEncoder):
        raise InputError(
            f"state_copies is {settings.state_copies} and embedder_yaml "
            f"{settings.embedder_yaml}; its embedding_model must be a "
            "SpeakerEncoder, which has hidden states; give the YAML of an "
            "encoder, or --state_copies=0"
        )
    if settings.state_copies == 1 and settings.sound_folders()[0]:
        logger.warning(
            "state_copies is 1: the one copy is clean, nothing is augmented"
        )
    augmentation = {
        "augment": request.get("hparams", {}).get("augment"),
        "augment_files": request.get("augment_files"),
    }
    return StateCopies(
        Path(settings.output_folder) / "states",
        manifest,
        embedder.model.encoder,
        settings.state_copies,
        settings.seed,
        augmentation,
    )


def speaker_data(
    settings: TrainSpeaker,
    manifest: Manifest,
    parts: tuple[Manifest, Manifest | None],
    names: list[str],
    states: StateCopies | None = None,
) -> tuple[TrainingData, DynamicItemDataset | None]:
    """Return the data of a training, and of its validation if there is any.

    Arguments
    ---------
    settings : TrainSpeaker
        Of the recipe.
    manifest : Manifest
        Of kind ``pseudo_labels``.
    parts : tuple of Manifest
        As `speechbrain_ext.dataio.splits.hold_out` parts it.
    names : list of str
        The classes.
    states : StateCopies, optional
        Crops are of these in place of audio.

    Raises
    ------
    InputError
        A crop is longer than all utterances, or batches cannot be filled.
    """
    train_part, valid_part = parts
    n_samples = check_crop(train_part, settings.crop, "crop")

    def crops(only_clean: bool) -> RandomCrop:
        if states is None:
            return RandomCrop([n_samples], settings.seed)
        n_frames = int(states.encoder.n_states(n_samples))
        return RandomStates(states, n_frames, settings.seed, only_clean)

    crop = crops(only_clean=False)
    data = TrainingData(
        train_part,
        manifest,
        labelled_crops(train_part, crop, names),
        crop,
        speaker_sampler(settings, train_part),
    )
    if valid_part is None:
        return data, None
    # Of a separate object: its epoch stays the same, and so do its crops.
    return data, labelled_crops(valid_part, crops(only_clean=True), names)


def labelled_crops(
    manifest: Manifest, crop: RandomCrop, names: list[str]
) -> DynamicItemDataset:
    """Build a dataset of one random crop and one class per utterance.

    Arguments
    ---------
    manifest : Manifest
        The utterances.
    crop : RandomCrop
        Cuts them.
    names : list of str
        The classes, whose places are the labels.
    """
    label_of = {name: label for label, name in enumerate(names)}

    @sb.utils.data_pipeline.takes("id", "wav", "start", "stop")
    @sb.utils.data_pipeline.provides("sig")
    def audio_pipeline(utterance, wav, start, stop):
        return crop(utterance, wav, start, stop)[0]

    @sb.utils.data_pipeline.takes("spk_id")
    @sb.utils.data_pipeline.provides("label")
    def label_pipeline(spk_id):
        return label_of[spk_id]

    return ManifestData(
        manifest, [audio_pipeline, label_pipeline], ["id", "sig", "label"]
    )


def speaker_sampler(
    settings: TrainSpeaker, manifest: Manifest
) -> CappedSampler | ReproducibleRandomSampler:
    """Build the sampler of an epoch: all utterances, or n of each speaker.

    Raises
    ------
    InputError
        Batches are to have distinct speakers and there are too few.
    """
    if settings.one_per_class:
        return DistinctClassSampler(
            manifest.speakers()[1],
            settings.batch_size,
            settings.seed,
            settings.max_per_class,
        )
    if settings.max_per_class is not None:
        return CappedSampler(
            manifest.speakers()[1], settings.max_per_class, settings.seed
        )
    return ReproducibleRandomSampler(manifest, settings.seed)


def label_confidence(manifest: Manifest, quantile: float | None) -> Any:
    r"""Return the confidence in each cluster label, from its ``margin``.

    .. math:: k_i = \min(1, \max(0, m_i / m^*))

    with m_i the difference of the cosines of utterance i with its cluster and
    with the next, and m* a quantile of it over the manifest: those above it
    count in full, those below in proportion, and those that are nearer to
    another cluster not at all.

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
        The manifest has no margins, or the quantile of them is not above 0.

    Example
    -------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"ID": list("abc"), "margin": [-0.1, 0.1, 0.3]})
    >>> label_confidence(Manifest(table, "pseudo_labels"), 0.75).round(3)
    array([0. , 0.5, 1. ])
    """
    if quantile is None:
        return None
    if "margin" not in manifest.columns:
        raise InputError(
            f"label_confidence is {quantile} and the training annotation has "
            "no column margin; both are needed; cluster with "
            "make_pseudo_labels, which writes it, or give null"
        )
    reference = np.quantile(manifest.margin, quantile)
    if reference <= 0:
        raise InputError(
            f"label_confidence is {quantile}; that quantile of the margins "
            f"must be above 0 and is {reference:.3g}; raise it, or cluster anew"
        )
    return np.clip(manifest.margin / reference, 0, 1)
