"""Settings of the three trainings: DINO, contrastive, supervised."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from speechbrain_ext.augment.sound_folders import (
    check_downloads,
    check_sounds,
    impulse_responses,
)
from speechbrain_ext.dataio.audio_tree import list_audio
from speechbrain_ext.models.encoder_source import check_source
from speechbrain_ext.models.settings import MODEL as EMBEDDER_MODEL
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings, Wired, argument, setting
from speechbrain_ext.utils.yaml_trees import (
    find_yaml,
    plain,
    read_yaml,
    resolve,
)

DATA, MODEL, LEARNING = "data", "model", "learning"
LABELS, RUN, WATCH = "labels", "run", "validation"
# What transformers reads of a model's folder.
_MODEL_FILES = {".json", ".bin", ".safetensors"}

_OUR_AUGMENT = "!name:speechbrain_ext.augment.Augment"
_AUGMENT = {
    "probabilities": argument(list[float], low=0),
    "reverb_prob": argument(float, low=0, high=1),
    "filter_prob": argument(float, low=0, high=1),
    "filter_db": argument(float, above=0),
    "max_hours": argument(float, above=0),
    "noise_snr": argument(list[float]),
    "music_snr": argument(list[float]),
    "babble_snr": argument(list[float]),
    "n_talkers": argument(list[int], low=1),
}
# Ranges among them, and what is usual.
_RANGES = {
    "noise_snr": [0, 15],
    "music_snr": [5, 15],
    "babble_snr": [13, 20],
    "n_talkers": [3, 8],
}
_CONTRAST = {
    "temperature": argument(float, above=0),
    "margin": argument(float, low=0, high=1),
    "margin_form": argument(Literal["additive", "angular"]),
}


# The hub is asked once in a process: its answer takes seconds.
_check_source = functools.cache(check_source)


def _given(wired: Any) -> dict[str, Any]:
    """Return the arguments of a YAML object, with its class under ``"!"``."""
    return wired


@dataclasses.dataclass(kw_only=True)
class ModelSettings(Settings):
    """Settings of what makes an embedder of utterances and sounds."""

    manifest_kind: ClassVar[str] = "utterances"

    train_annotation: str = setting(
        doc="manifest of the training utterances", path=True, group=DATA
    )
    data_folder: str = setting(
        doc="folder that $data_root in the manifest stands for",
        path=True,
        group=DATA,
    )
    num_workers: int = setting(
        4,
        "number of processes that read audio; 0: the main process alone",
        low=0,
        decides=False,
        group=DATA,
    )
    augment_folder: str | None = setting(
        None,
        "folder with noise, music, speech and rir for augmentation; null: "
        "none, or musan and rirs in its place",
        path=True,
        group=DATA,
    )
    musan: str | None = setting(
        None,
        "folder of MUSAN as it unpacks (music, noise, speech), with rirs in "
        "place of augment_folder; null: none",
        path=True,
        group=DATA,
    )
    rirs: str | None = setting(
        None,
        "folder of RIRS_NOISES as it unpacks, of which simulated_rirs is used; "
        "null: none",
        path=True,
        group=DATA,
    )
    augment: Wired = setting(
        Wired(_OUR_AUGMENT),
        "augmentation of each crop",
        arguments=_AUGMENT,
        group=DATA,
    )

    embedder_yaml: str = setting(
        "hparams/embedders/ecapa.yaml",
        "YAML file of the embedder",
        path=True,
        group=MODEL,
    )
    embedder: dict[str, Any] = setting(
        {}, "values to change in the embedder's YAML", group=MODEL
    )
    trust_yaml: bool = setting(
        False,
        "true trains an embedder of classes that no installed package names "
        "as a plug-in, for yourself alone; false refuses it at the start, as "
        "it could not be exported",
        decides=False,
        group=MODEL,
    )

    def check_together(self) -> None:
        """Raise InputError for values that contradict each other."""
        self._check_sources()
        weights = _given(self.augment).get("probabilities")
        if weights is not None and (len(weights) != 5 or not sum(weights)):
            raise InputError(
                f"augment.probabilities is {list(weights)}; it must be five "
                "weights (clean, rir, music, babble, noise), one of them above "
                "0; for example --augment='{probabilities: [1, 1, 1, 1, 1]}'"
            )
        for name, usual in _RANGES.items():
            ends = _given(self.augment).get(name)
            if ends is not None and (len(ends) != 2 or ends[0] > ends[1]):
                raise InputError(
                    f"augment.{name} is {list(ends)}; it must be [lowest, "
                    f"highest]; for example --augment='{{{name}: {usual}}}'"
                )

    def _check_sources(self) -> None:
        """Raise InputError for sounds that are given twice or by half."""
        augment = _given(self.augment)
        if (self.musan is None) != (self.rirs is None):
            key, other = ("musan", "rirs") if self.musan else ("rirs", "musan")
            raise InputError(
                f"{key} is {getattr(self, key)} and {other} is null; both are "
                f"needed; give --{other}, or leave out --{key}"
            )
        if self.musan is None:
            return
        if self.augment_folder is not None:
            raise InputError(
                f"musan is {self.musan} and augment_folder is "
                f"{self.augment_folder}; sounds come from one of them; give "
                "--augment_folder=null, or --musan=null --rirs=null"
            )
        if augment.get("rir_folder"):
            raise InputError(
                f"augment.rir_folder is {augment['rir_folder']}; rirs, "
                f"{self.rirs}, has the impulse responses; leave one out"
            )
        if augment.get("!") != _OUR_AUGMENT:
            raise InputError(
                f"musan is {self.musan}; {augment.get('!')} takes one folder "
                "for all sounds; give --augment_folder in place of --musan and "
                "--rirs"
            )

    def sound_folders(self) -> tuple[str | None, str | None]:
        """Return the folder of sounds and, if it is another, of responses.

        Returns
        -------
        tuple of (str or None, str or None)
            As `speechbrain_ext.augment.augmenter.from_folder` takes them.

        Raises
        ------
        InputError
            ``musan`` or ``rirs`` is not what its archive unpacks to.
        """
        if self.musan is None or self.rirs is None:
            return self.augment_folder, None
        check_downloads(self.musan, self.rirs)
        return self.musan, str(impulse_responses(self.rirs))

    def check_sounds(self) -> None:
        """Raise InputError if a folder of sounds is not there or is empty."""
        sounds, rirs = self.sound_folders()
        augment = _given(self.augment)
        # What another class needs is not known.
        if sounds is not None and augment.get("!") == _OUR_AUGMENT:
            check_sounds(sounds, rirs or augment.get("rir_folder"))

    def check_encoder(self) -> None:
        """Raise InputError if the pre-trained encoder cannot be loaded."""
        if self.encoder_source:
            _check_source(self.encoder_source)

    def unknown_classes(self) -> list[str]:
        """Return classes of the embedder that are loaded only if trusted."""
        # It imports torch, for which no help waits.
        from speechbrain_ext.models.safe_modules import unknown_classes

        return unknown_classes(resolve(self.embedder_yaml, self.embedder))

    def check_modules(self) -> None:
        """Raise InputError if what is trained could not be exported."""
        # It imports torch, and settings are read without.
        from speechbrain_ext.models.safe_modules import check_trainable

        if not self.trust_yaml:
            check_trainable(self.embedder_yaml, self.embedder)

    @property
    def encoder_source(self) -> str | None:
        """Source of the pre-trained encoder, if the embedder has one."""
        return self.embedder_values.get("encoder_source") or None

    @property
    def hub_encoder(self) -> str | None:
        """Id on the hub of the pre-trained encoder; None if it is a file."""
        source = self.encoder_source
        is_local = source and (source.endswith(".pt") or Path(source).exists())
        return None if is_local else source

    @property
    def embedder_values(self) -> dict[str, Any]:
        """Values of the embedder's YAML, with the changes."""
        return {**plain(read_yaml(self.embedder_yaml)), **self.embedder}

    def inputs(self) -> dict[str, str]:
        """Return the files that decide the result, by name."""
        return {
            "train_annotation": self.train_annotation,
            "embedder_yaml": str(find_yaml(self.embedder_yaml)),
            **self._encoder_files(),
        }

    def _encoder_files(self) -> dict[str, str]:
        """Return the files of a pre-trained encoder that is no hub id."""
        source = Path(self.encoder_source or "")
        if source.is_file():
            return {"encoder": str(source)}
        if source == Path() or not source.is_dir():
            return {}
        files = [p for p in source.iterdir() if p.suffix in _MODEL_FILES]
        return {f"encoder {path.name}": str(path) for path in files}

    def augment_files(self) -> dict[str, Any]:
        """Return a summary of the sounds in folders, for the record."""
        augment = _given(self.augment)
        sounds, rirs = self.sound_folders()
        # What files another class reads is not known.
        if sounds is None or augment.get("!") != _OUR_AUGMENT:
            return {}
        folders = {"sounds": sounds}
        rirs = rirs or augment.get("rir_folder")
        if rirs:
            folders["rir"] = rirs
        found = {
            name: list_audio([folder], with_aac=True).summary()
            for name, folder in folders.items()
        }
        return {"augment_files": found}

    def record(self) -> dict[str, Any]:
        """Return the values that decide the result, and whether it augments."""
        augment = dict(_given(self.augment))
        if augment.get("rir_folder"):
            augment["rir_folder"] = "a folder"
        embedder = dict(self.embedder)
        source = embedder.get("encoder_source")
        if source and Path(source).exists():
            # An input, of which the bytes count and not the place.
            embedder["encoder_source"] = "local files"
        augmented = (self.augment_folder or self.musan) is not None
        return {
            **super().record(),
            "augment": augment,
            "embedder": embedder,
            "augmented": augmented,
        }


@dataclasses.dataclass(kw_only=True)
class TrainingSettings(ModelSettings):
    """Settings that all three trainings share."""

    again = "resumes from the last checkpoint"
    # SpeechBrain's run options that would change nothing.
    refused_options: ClassVar[Mapping[str, str]] = {
        "nonfinite_patience": "the first loss that is not finite ends a run",
        "skip_nonfinite_grads": "gradients are never skipped in silence",
        "remove_vector_weight_decay": "vectors never have weight decay",
        "data_parallel_backend": "several GPUs train by torchrun",
        "compile_module_keys": "--compile compiles the networks as a whole",
        "jit": "networks are compiled by --compile alone",
        "jit_module_keys": "networks are compiled by --compile alone",
    }

    n_epochs: int = setting(
        80, "number of training epochs", low=1, group=LEARNING
    )
    n_warmup_epochs: int = setting(
        0,
        "number of epochs of linear learning-rate warm-up; 0: none",
        low=0,
        group=LEARNING,
    )
    batch_size: int = setting(
        128,
        "number of utterances in a batch, over all processes together",
        low=2,
        group=LEARNING,
    )
    grad_accumulation_factor: int = setting(
        1,
        "number of batches whose gradients make one optimiser step",
        low=1,
        group=LEARNING,
    )
    lr: float = setting(
        1e-3,
        "peak learning rate of all parameters that lr_parts does not name",
        low=0,
        group=LEARNING,
    )
    lr_end: float = setting(
        0.01,
        "learning rate at the last step, as a fraction of the peak",
        low=0,
        group=LEARNING,
    )
    lr_schedule: Wired = setting(
        Wired("!name:speechbrain_ext.training.cosine"),
        "learning-rate schedule: a function (step, n_steps, start=, end=, "
        "n_warmup=) that returns the rate",
        group=LEARNING,
    )
    lr_parts: dict[str, float] = setting(
        {},
        "map from parts of the embedding model, by dotted name, to peak "
        "learning rates",
        low=0,
        group=LEARNING,
    )
    layer_decay: float = setting(
        1.0,
        "factor of the learning rate from each transformer layer to the one "
        "below; 1: all equal",
        above=0,
        group=LEARNING,
    )
    opt_class: Wired = setting(
        Wired("!name:torch.optim.AdamW {weight_decay: 0.01}"),
        "optimiser; its weight decay applies to matrices only",
        group=LEARNING,
    )
    max_grad_norm: float = setting(
        5.0,
        "gradient norm above which gradients are clipped; 0: no clipping",
        low=0,
        group=LEARNING,
    )
    clip_per_tensor: bool = setting(
        False,
        "true clips the gradient of each tensor by its own norm, false all "
        "by their joint norm",
        group=LEARNING,
    )
    n_averaged_epochs: int = setting(
        1,
        "number of last epochs whose weights are averaged in the saved "
        "embedder",
        low=1,
        group=LEARNING,
    )

    epoch_counter: Wired = setting(
        Wired("!name:speechbrain.utils.epoch_loop.EpochCounter"),
        "epoch counter, called with n_epochs",
        group=RUN,
    )
    checkpointer: Wired = setting(
        Wired("!name:speechbrain_ext.training.WholeCheckpointer"),
        "checkpointer, called with a folder and the objects to save",
        decides=False,
        group=RUN,
    )
    ckpt_interval_minutes: int = setting(
        15,
        "minutes between checkpoints within an epoch; 0: none",
        low=0,
        decides=False,
        group=RUN,
    )
    train_logger: Wired | None = setting(
        None,
        "SpeechBrain logger that receives the statistics of each epoch; "
        "null: none",
        decides=False,
        group=RUN,
    )

    eer_trials: str | None = setting(
        None,
        "trial list scored during training, for information only; null: none",
        path=True,
        group=WATCH,
    )
    eer_annotation: str | None = setting(
        None, "manifest of the utterances in eer_trials", path=True, group=WATCH
    )
    eer_interval: int = setting(
        5,
        "number of epochs between two scorings of eer_trials",
        low=1,
        decides=False,
        group=WATCH,
    )

    def check_together(self) -> None:
        """Raise InputError for values that contradict each other."""
        super().check_together()
        if self.eer_trials is not None and self.eer_annotation is None:
            raise InputError(
                f"eer_trials is {self.eer_trials!r} and eer_annotation is "
                "null; both are needed; give the manifest of the trials' "
                "utterances with --eer_annotation, or leave out --eer_trials"
            )


@dataclasses.dataclass(kw_only=True)
class ViewSettings(TrainingSettings):
    """Settings that the two trainings without labels share."""

    momentum: float = setting(
        0.996,
        "share of its weights that the momentum encoder (teacher) keeps at "
        "each step",
        low=0,
        high=1,
        group=LEARNING,
    )
    max_grad_norm: float = setting(
        3.0,
        "gradient norm above which gradients are clipped; 0: no clipping",
        low=0,
        group=LEARNING,
    )
    clip_per_tensor: bool = setting(
        True,
        "true clips the gradient of each tensor by its own norm, false all "
        "by their joint norm",
        group=LEARNING,
    )
    n_averaged_epochs: int = setting(
        10,
        "number of last epochs whose weights are averaged in the saved "
        "embedder",
        low=1,
        group=LEARNING,
    )
    positives: Literal["utterance", "ssps"] = setting(
        "utterance",
        "source of positive pairs: crops of the same utterance, or of "
        "utterances that SSPS (self-supervised positive sampling) pairs",
        group=LABELS,
    )
    n_ssps_epochs: int = setting(
        0,
        "number of last epochs in which SSPS chooses the positives; 0: none",
        low=0,
        group=LABELS,
    )
    ssps_clusters: int = setting(
        25000,
        "number of SSPS's k-means clusters, about one per recording session",
        low=1,
        group=LABELS,
    )
    ssps_iterations: int = setting(
        25,
        "maximum number of iterations of SSPS's k-means",
        low=1,
        group=LABELS,
    )
    ssps_neighbours: int = setting(
        1,
        "number of nearest clusters that SSPS draws positives from; 0: the "
        "utterance's own cluster",
        low=0,
        group=LABELS,
    )

    def check_together(self) -> None:
        """Raise InputError for values that contradict each other."""
        super().check_together()
        n_epochs = self.n_ssps_epochs
        if (self.positives == "ssps") != bool(n_epochs):
            raise InputError(
                f"positives is {self.positives!r} and n_ssps_epochs is "
                f"{n_epochs}; SSPS needs both; give --positives=ssps and in "
                "how many of the last epochs, e.g. --n_ssps_epochs=20, or "
                "--positives=utterance and --n_ssps_epochs=0"
            )
        if n_epochs > self.n_epochs:
            raise InputError(
                f"n_ssps_epochs is {n_epochs}; it must be at most n_epochs, "
                f"which is {self.n_epochs}; lower --n_ssps_epochs"
            )
        if n_epochs and self.ssps_neighbours >= self.ssps_clusters:
            raise InputError(
                f"ssps_neighbours is {self.ssps_neighbours}; it must be below "
                f"ssps_clusters, which is {self.ssps_clusters}; correct "
                "--ssps_neighbours or --ssps_clusters"
            )
        if self.grad_accumulation_factor != 1:
            raise InputError(
                f"grad_accumulation_factor is {self.grad_accumulation_factor}; "
                "it must be 1, since utterances are compared within a batch; "
                "leave it out and lower --batch_size"
            )


@dataclasses.dataclass(kw_only=True)
class TrainDino(ViewSettings):
    """Settings of DINO training with multi-crop views."""

    recipe = "train_dino"

    global_crop: float = setting(
        4.0,
        "length in seconds of a global crop, seen by teacher and student",
        above=0,
        group=DATA,
    )
    local_crop: float = setting(
        2.0,
        "length in seconds of a local crop, seen by the student only",
        above=0,
        group=DATA,
    )
    n_global: int = setting(
        2, "number of global crops per utterance", low=1, group=DATA
    )
    n_local: int = setting(
        4, "number of local crops per utterance", low=0, group=DATA
    )

    recompute_blocks: bool = setting(
        False,
        "true keeps the inputs of the student's blocks alone for the backward "
        "pass, which computes each block again: less memory, more time, the "
        "same result",
        decides=False,
        group=MODEL,
    )
    head: Wired = setting(
        Wired("!name:speechbrain_ext.models.DINOHead"),
        "projection head, called with the embedding size",
        arguments={
            "hidden_size": argument(int, low=1),
            "bottleneck_size": argument(int, low=1),
            "n_prototypes": argument(int, low=1),
            "expander_size": argument(int, low=0),
        },
        group=MODEL,
    )
    loss: Wired = setting(
        Wired("!name:speechbrain_ext.losses.DINOLoss"),
        "loss, called with the number of prototypes",
        arguments={
            "student_temperature": argument(float, above=0),
            "center_momentum": argument(float, low=0, high=1),
        },
        group=LEARNING,
    )
    teacher_temperature: float = setting(
        0.04,
        "final softmax temperature of the teacher",
        above=0,
        group=LEARNING,
    )
    teacher_temperature_start: float = setting(
        0.04,
        "initial softmax temperature of the teacher, before it rises over "
        "n_temperature_epochs",
        above=0,
        group=LEARNING,
    )
    n_temperature_epochs: float = setting(
        0,
        "number of epochs over which the teacher's temperature rises; 0: "
        "constant",
        low=0,
        group=LEARNING,
    )
    regularizer: Wired = setting(
        Wired(
            "!name:speechbrain_ext.losses.rdino_regularizer "
            "{variance_weight: 10.0, covariance_weight: 0.125}"
        ),
        "RDINO's variance and covariance terms, on the output of the head's "
        "expander layer",
        arguments={
            "variance_weight": argument(float, low=0),
            "covariance_weight": argument(float, low=0),
        },
        group=LEARNING,
    )
    regularizer_weight: float = setting(
        0.0,
        "final weight of RDINO's regularisation; 0: none",
        low=0,
        group=LEARNING,
    )
    regularizer_weight_start: float = setting(
        0.0,
        "initial weight of RDINO's regularisation, before it rises over "
        "n_regularizer_epochs",
        low=0,
        group=LEARNING,
    )
    n_regularizer_epochs: float = setting(
        0,
        "number of epochs over which the weight of RDINO's regularisation "
        "rises; 0: constant",
        low=0,
        group=LEARNING,
    )
    n_frozen_prototype_epochs: float = setting(
        1,
        "number of first epochs in which the prototypes are frozen",
        low=0,
        group=LEARNING,
    )

    n_warmup_epochs: int = setting(
        10,
        "number of epochs of linear learning-rate warm-up; 0: none",
        low=0,
        group=LEARNING,
    )
    lr: float = setting(
        0.2,
        "peak learning rate of all parameters that lr_parts does not name",
        low=0,
        group=LEARNING,
    )
    lr_end: float = setting(
        5e-5,
        "learning rate at the last step, as a fraction of the peak",
        low=0,
        group=LEARNING,
    )
    opt_class: Wired = setting(
        Wired("!name:torch.optim.SGD {momentum: 0.9, weight_decay: 5.0e-5}"),
        "optimiser; its weight decay applies to matrices only",
        group=LEARNING,
    )
    collapse_patience: float | None = setting(
        1.0,
        "epochs of collapsed outputs after which the run ends; null: it "
        "never ends for that",
        above=0,
        decides=False,
        group=RUN,
    )

    def check_together(self) -> None:
        """Raise InputError for values that contradict each other."""
        super().check_together()
        if self.n_global + self.n_local < 2:
            raise InputError(
                f"n_global is {self.n_global} and n_local is {self.n_local}; a "
                "global crop is compared with other crops; raise --n_global or "
                "--n_local"
            )
        head = _given(self.head)
        ours = head.get("!") == "!name:speechbrain_ext.models.DINOHead"
        without = ours and not head.get("expander_size", 0)
        if self.regularizer_weight > 0 and without:
            raise InputError(
                f"regularizer_weight is {self.regularizer_weight} and "
                "head.expander_size is 0; RDINO's terms are of that layer; "
                "give --head='{expander_size: 8192}', or "
                "--regularizer_weight=0"
            )


@dataclasses.dataclass(kw_only=True)
class TrainContrastive(ViewSettings):
    """Settings of contrastive training, SimCLR or MoCo."""

    recipe = "train_contrastive"

    crop: float = setting(
        2.0,
        "length in seconds of each of the two crops of an utterance",
        above=0,
        group=DATA,
    )
    positives: Literal["utterance", "ssps", "oracle"] = setting(  # type: ignore[assignment]
        "utterance",
        "source of positive pairs: crops of the same utterance, of "
        "utterances that SSPS (self-supervised positive sampling) pairs or, "
        "as a diagnostic, of the same TRUE speaker (oracle)",
        group=LABELS,
    )
    oracle: str | None = setting(
        None,
        "oracle.csv with the true speakers; for positives=oracle only",
        path=True,
        group=LABELS,
    )

    projection: Wired = setting(
        Wired("!name:speechbrain_ext.models.Projection"),
        "projection head, called with the embedding size",
        arguments={
            "hidden_size": argument(int, low=0),
            "output_size": argument(int, low=1),
        },
        group=MODEL,
    )
    method: Literal["simclr", "moco"] = setting(
        "simclr",
        "source of negatives: the batch (simclr) or a queue of earlier "
        "embeddings (moco)",
        group=LEARNING,
    )
    loss: Wired = setting(
        Wired("!name:speechbrain_ext.losses.NTXentLoss"),
        "contrastive loss of two views; with method=moco it is MoCoLoss, "
        "called with the size of the compared vectors and n_keys",
        arguments=_CONTRAST,
        group=LEARNING,
    )
    n_keys: int = setting(
        32768,
        "number of keys in MoCo's queue, a multiple of batch_size",
        low=1,
        group=LEARNING,
    )
    momentum: float = setting(
        0.999,
        "share of its weights that MoCo's momentum encoder keeps at each step",
        low=0,
        high=1,
        group=LEARNING,
    )
    n_epochs: int = setting(
        100, "number of training epochs", low=1, group=LEARNING
    )
    batch_size: int = setting(
        256,
        "number of utterances in a batch, over all processes together",
        low=2,
        group=LEARNING,
    )
    lr_end: float = setting(
        0.95**20,
        "learning rate at the last step, as a fraction of the peak",
        low=0,
        group=LEARNING,
    )
    lr_schedule: Wired = setting(
        Wired("!name:speechbrain_ext.training.exponential"),
        "learning-rate schedule: a function (step, n_steps, start=, end=, "
        "n_warmup=) that returns the rate",
        group=LEARNING,
    )
    opt_class: Wired = setting(
        Wired("!name:torch.optim.Adam"),
        "optimiser; its weight decay applies to matrices only",
        group=LEARNING,
    )

    @classmethod
    def default_of(cls, key: str, given: Mapping[str, Any]) -> Any:
        """Return the default of a key; that of a loss depends on the method."""
        if key == "loss" and given.get("method") == "moco":
            return Wired("!name:speechbrain_ext.losses.MoCoLoss")
        return super().default_of(key, given)

    def check_together(self) -> None:
        """Raise InputError for values that contradict each other."""
        super().check_together()
        self._check_oracle()
        self._check_method()

    def _check_oracle(self) -> None:
        if self.positives == "oracle" and self.oracle is None:
            raise InputError(
                "positives is 'oracle'; these are of the TRUE speaker, a "
                "diagnostic; give the true speakers with --oracle=oracle.csv, "
                "or --positives=ssps, which needs none"
            )
        if self.positives != "oracle" and self.oracle is not None:
            raise InputError(
                f"oracle is {self.oracle!r} and positives {self.positives!r}; "
                "such positives read no true speakers; leave --oracle out"
            )

    def _check_method(self) -> None:
        n_keys, size = self.n_keys, self.batch_size
        if self.method == "moco" and (n_keys < size or n_keys % size):
            nearest = max(round(n_keys / size), 1) * size
            raise InputError(
                f"n_keys is {n_keys} and batch_size {size}; MoCo's queue must "
                "hold whole batches; give a multiple of batch_size, e.g. "
                f"--n_keys={nearest}"
            )
        other = {"simclr": "MoCoLoss", "moco": "NTXentLoss"}[self.method]
        if (
            _given(self.loss).get("!")
            == f"!name:speechbrain_ext.losses.{other}"
        ):
            raise InputError(
                f"loss is {other} and method {self.method!r}; each method has "
                "a loss of its own; change --method and leave the loss's class "
                "out"
            )

    def inputs(self) -> dict[str, str]:
        """Return the files that decide the result, by name."""
        oracle = {} if self.oracle is None else {"oracle": self.oracle}
        return {**super().inputs(), **oracle}


@dataclasses.dataclass(kw_only=True)
class TrainSpeaker(TrainingSettings):
    """Settings of training with a margin classifier of (pseudo-)speakers."""

    recipe = "train_speaker"
    manifest_kind = "pseudo_labels"

    valid_fraction: float = setting(
        0.02,
        "share of each speaker's utterances held out of training, to "
        "measure valid_error; 0: none",
        low=0,
        below=1,
        group=DATA,
    )
    crop: float = setting(
        3.0, "length of a training crop in seconds", above=0, group=DATA
    )
    max_per_class: int | None = setting(
        None,
        "maximum number of utterances per speaker in an epoch, taken in "
        "turns; null: all",
        low=1,
        group=DATA,
    )
    one_per_class: bool = setting(
        False,
        "true fills each batch with utterances of different speakers only",
        group=DATA,
    )

    init_from: str | None = setting(
        None,
        "embedder folder whose weights training starts from; null: those of "
        "the embedder's YAML",
        path=True,
        group=MODEL,
    )
    init_classifier: str | None = setting(
        None,
        "classifier.ckpt of an earlier training on the same labels, to "
        "start from; null: a new classifier",
        path=True,
        group=MODEL,
    )

    state_copies: int = setting(
        0,
        "copies of each utterance, the first clean and the others augmented, "
        "whose hidden states are computed once and kept on disk during "
        "training, with an encoder that is frozen whole; 0: states are "
        "computed anew in each step",
        low=0,
        group=MODEL,
    )

    loss: Wired = setting(
        Wired("!name:speechbrain_ext.losses.AAMSoftmax"),
        "classification loss, called with the embedding size and the number "
        "of speakers",
        arguments={
            "scale": argument(float, above=0),
            "margin": argument(float, low=0),
            "n_subcentres": argument(int, low=1),
            "inter_top_k": argument(int, low=0),
            "inter_top_k_margin": argument(float, low=0),
        },
        group=LEARNING,
    )
    margin_rise: list[int] | None = setting(
        None,
        "first and last epoch, e.g. [2, 5], of the margin's rise from 0; "
        "null: full margin throughout",
        low=1,
        group=LEARNING,
    )
    l2_sp_weight: float = setting(
        0.0,
        "weight of the L2 penalty on the distance from the pre-trained "
        "weights; 0: none",
        low=0,
        group=LEARNING,
    )
    l2_sp_form: Literal["squared", "normalised"] = setting(
        "squared",
        "form of the L2 penalty: squared, as in the paper's slides; "
        "normalised, as in its code",
        group=LEARNING,
    )

    gate: Literal["hard", "soft"] | None = setting(
        None,
        "loss gate: hard leaves out utterances of high loss, soft gives "
        "them less weight; null: no gate",
        group=LABELS,
    )
    gate_fit: Literal["mixture", "valley", "drawn"] = setting(
        "mixture",
        "how the loss gate finds its threshold: mixture fits two Gaussians "
        "to log losses, as published, and rejects most right labels where "
        "utterances are few (2,740 are); valley sets no threshold if their "
        "density has no valley; drawn compares with the losses of labels "
        "drawn at random",
        group=LABELS,
    )
    gate_from_epoch: int = setting(
        5,
        "first epoch in which the loss gate acts, by the losses of the "
        "epoch before",
        low=1,
        group=LABELS,
    )
    correct_from_epoch: int | None = setting(
        None,
        "first epoch in which labels that the gate rejects may be replaced "
        "by the network's; null: never",
        low=1,
        group=LABELS,
    )
    correct_confidence: float = setting(
        0.5,
        "softmax probability above which the network's label replaces a "
        "rejected one",
        above=0,
        below=1,
        group=LABELS,
    )
    correct_temperature: Literal["auto"] | float = setting(
        "auto",
        "temperature of the softmax in label correction; auto: calibrated",
        above=0,
        group=LABELS,
    )
    label_confidence: float | None = setting(
        None,
        "share of utterances, those of least clustering margin, that get "
        "less weight; null: none",
        above=0,
        below=1,
        group=LABELS,
    )

    n_epochs: int = setting(
        30, "number of training epochs", low=1, group=LEARNING
    )
    batch_size: int = setting(
        240,
        "number of utterances in a batch, over all processes together",
        low=2,
        group=LEARNING,
    )

    def check_together(self) -> None:
        """Raise InputError for values that contradict each other."""
        super().check_together()
        if self.state_copies:
            self._check_states()
        rise = self.margin_rise
        if rise is not None and (len(rise) != 2 or rise[0] > rise[1]):
            raise InputError(
                f"margin_rise is {rise}; it must be null or two epochs, the "
                "first no later than the last; for example "
                "--margin_rise='[2, 5]'"
            )
        first = self.correct_from_epoch
        late = first is not None and first < self.gate_from_epoch
        if late or (first is not None and self.gate is None):
            gate = "null" if self.gate is None else repr(self.gate)
            raise InputError(
                f"correct_from_epoch is {first}, gate {gate} and "
                f"gate_from_epoch {self.gate_from_epoch}; labels are corrected "
                "where the gate rejects them; give a gate that begins no "
                "later, or --correct_from_epoch=null"
            )

    def _check_states(self) -> None:
        """Raise InputError if states would change, or be augmented by none."""
        values = self.embedder_values
        freeze, rank = values.get("freeze"), values.get("lora_rank", 0)
        said = f"state_copies is {self.state_copies}"
        if freeze != "all" or rank:
            raise InputError(
                f"{said}; the embedder has freeze {freeze} and lora_rank "
                f"{rank}, and only states of an encoder that is frozen whole "
                "stay the same; give --embedder='{freeze: all, lora_rank: 0}' "
                "with the YAML of an encoder, or --state_copies=0"
            )
        if self.state_copies > 1 and not (self.augment_folder or self.musan):
            raise InputError(
                f"{said} and nothing augments; all copies would be the same; "
                "give --augment_folder, or --state_copies=1"
            )

    def inputs(self) -> dict[str, str]:
        """Return the files that decide the result, by name."""
        found = super().inputs()
        if self.init_from is not None:
            found["init_from"] = f"{self.init_from}/{EMBEDDER_MODEL}"
        if self.init_classifier is not None:
            found["init_classifier"] = self.init_classifier
        return found


@dataclasses.dataclass(kw_only=True)
class EmbedPretrained(ModelSettings):
    """Settings of a pre-trained encoder used as it is, without training."""

    recipe = "embed_pretrained"

    augment: Wired = setting(
        Wired(
            f"{_OUR_AUGMENT} {{probabilities: [1, 2, 1, 1, 1], "
            "reverb_prob: 0.5, filter_prob: 1.0, filter_db: 9.0}"
        ),
        "augmentation of the crops that layers are compared by; without a "
        "folder of sounds, its filter alone",
        arguments=_AUGMENT,
        group=DATA,
    )
    embedder_yaml: str = setting(
        "hparams/embedders/encoder_mean.yaml",
        "YAML file of the embedder, whose pooling is LayerMeans",
        path=True,
        group=MODEL,
    )
    layers: Literal["auto"] | list[int] = setting(
        "auto",
        "hidden states to average, from 0 (the input of the first transformer "
        "layer); auto: the one whose averages tell crops of different "
        "utterances apart best",
        low=0,
        group=MODEL,
    )
    whiten: float = setting(
        0.5,
        "exponent of whitening: each principal component is divided by this "
        "power of its standard deviation; 0 only standardises, 1 whitens fully",
        low=0,
        high=1,
        group=MODEL,
    )
    n_choice_utterances: int = setting(
        1000,
        "number of utterances, at most, that layers=auto compares",
        low=10,
        group=MODEL,
    )
    choice_crop: float = setting(
        1.25,
        "length in seconds of the two crops of an utterance that layers=auto "
        "compares; shorter utterances than two crops are left out",
        above=0,
        group=MODEL,
    )
    max_batch_seconds: float = setting(
        120.0,
        "seconds of audio in a batch, whose utterances are all of one length",
        above=0,
        group=RUN,
    )
    chunk_size: int = setting(
        5000,
        "number of utterances computed between two writes to disk",
        low=1,
        group=RUN,
    )

    def check_together(self) -> None:
        """Raise InputError for values that contradict each other."""
        super().check_together()
        if "layers" in self.embedder:
            raise InputError(
                f"embedder.layers is {self.embedder['layers']}; the key layers "
                "of this recipe says which; give --layers in its place"
            )

    def filter_arguments(self) -> dict[str, float]:
        """Return the arguments of the filter, where there are no sounds."""
        keys = ("filter_prob", "filter_db")
        return {k: v for k, v in _given(self.augment).items() if k in keys}
