"""Published settings, value by value with its source, and who claims them.

Sources: [C] released code, [S] slides, [L] logs or scripts, [=] arithmetic. A
value that is a map has keys of the YAML; names with a capital are derived
(`test_published_settings.py` says how). Sections are those of the facts that
the project was given: 2 (the paper), 3 (DINO and its like), 5 (BUT), 8 (what a
first version had wrong). What they publish is in one of five places here:

`PUBLISHED`
    Values that a leaf, an override or a step of a plan claims to have.
`Differs`, among these
    Values that are another on purpose: ``docs/paper_differences.md`` says why.
`BEHAVIOUR`
    What is no value of a key: the test that holds it.
`ON_PURPOSE`
    What the code does otherwise: the row of that document that says why.
`NOT_IMPLEMENTED`
    Settings that nothing here claims, and what of them is missing.

Not settings, and so left out: error rates, and the cost of a round (2 A100, 20
h at most; 2.77 GPU-hours of an A6000 for an epoch).
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Claim:
    """Where a setting is claimed: a leaf, with overrides of its first lines.

    Arguments
    ---------
    name : str
        Of a leaf, or of a plan.
    override : str, optional
        Beginning of the line that names the overrides.
    step : str, optional
        Of the plan; None: the name is a leaf's.
    """

    name: str
    override: str | None = None
    step: str | None = None


@dataclasses.dataclass(frozen=True)
class Published:
    """A published setting.

    Arguments
    ---------
    claims : list of Claim
        All of them must resolve to the values.
    values : dict
        By dotted key: a value and its source.
    """

    claims: list[Claim]
    values: dict[str, tuple[Any, str]]


@dataclasses.dataclass(frozen=True)
class Differs:
    """Value that is another on purpose.

    Arguments
    ---------
    published : Any
        The published one.
    ours : Any
        What the claim must resolve to.
    row : str
        First words of the row of ``docs/paper_differences.md`` with the reason.
    """

    published: Any
    ours: Any
    row: str


def fall(first: float, last: float, peak: float) -> list[float]:
    """Rates of the epochs ``first`` to ``last``, x 0.95 after each."""
    return [peak * 0.95 ** (n - 1) for n in range(int(first), int(last) + 1)]


# The sources have nothing of the kind.
NONE = "not mentioned"

MHFA = "train_speaker_encoder_mhfa"
FROZEN = "train_speaker_encoder_mhfa_frozen"
DINO, SIMCLR = "train_dino_ecapa", "train_contrastive_ecapa"
BATCHES = "Batches of the paper"

WAVLM = {
    "embedder.encoder_source": ("microsoft/wavlm-base-plus", "2 [C]"),
    "embedder.n_heads": (64, "2 [C]"),
    "embedder.compression_size": (128, "2 [C]"),
    "embedder.embedding_size": (256, "2 [C]"),
    "Million parameters of MHFA": (2.30, "2 [C]"),
    "Million parameters in all": (96.7, "2 [C]: of 12 layers, 768 wide"),
    "Layers that MHFA weighs": (13, "2 [C]: L = layers + 1"),
    "Layer weights of MHFA at the start": (1.0, "2 [C]"),
}
# What a round and its large-margin tuning share.
PAPER = {
    **WAVLM,
    "Trained parts of the encoder": (["layers"], "2 [C]"),
    "Trained parts besides the encoder": (
        ["classifier", "pooling"],
        "2 [C]: MHFA and classifier",
    ),
    "embedder.lora_rank": (0, "2 [C]: layers themselves are trained"),
    "loss.scale": (30.0, "2 [C]"),
    "loss.n_subcentres": (1, NONE),
    "loss.inter_top_k": (0, NONE),
    "opt_class.!": ("!name:torch.optim.AdamW", "2 [C]"),
    "opt_class.weight_decay": (0.01, "2 [C]"),
    "layer_decay": (1.0, "2 [C]: off"),
    "n_warmup_epochs": (0, NONE),
    "l2_sp_weight": (0.01, "2 [C]"),
    "l2_sp_form": ("normalised", "2 [C]; slides: squared"),
    "gate": ("hard", "2 [C]"),
    "gate_fit": ("mixture", "2 [C]: two Gaussians of log losses"),
    # 0.1 divides unbounded logits there.
    "correct_temperature": (
        Differs(0.1, "auto", "confidence of a correction"),
        "2 [C]",
    ),
    "correct_confidence": (0.5, "2 [C]"),
    "max_per_class": (500, "8 [C]"),
    "one_per_class": (True, "8 [C]"),
    "valid_fraction": (0.0, NONE),
    "max_grad_norm": (0.0, NONE),
    "label_confidence": (None, NONE),
    "n_averaged_epochs": (1, NONE),
    "Shares of augmentation": (
        dict.fromkeys(("clean", "rir", "music", "babble", "noise"), 0.2),
        "2 [C]: one of five",
    ),
    "augment.music_snr": ((5, 15), "2 [C]"),
    "augment.babble_snr": ((13, 20), "2 [C]"),
    "augment.n_talkers": ((3, 8), "2 [C]"),
    "augment.noise_snr": ((0, 15), "2 [C]"),
}
# DINO: what is the same everywhere.
EVERY_DINO = {
    "n_global": (2, "3"),
    "local_crop": (2.0, "3"),
    "n_local": (4, "3"),
    "head.!": ("!name:speechbrain_ext.models.DINOHead", "3: BN GELU, L2"),
    "head.hidden_size": (2048, "3"),
    "head.bottleneck_size": (256, "3"),
    "head.n_prototypes": (65536, "3"),
    "loss.student_temperature": (0.1, "3"),
    "loss.center_momentum": (0.9, "3: everywhere"),
    "teacher_temperature_start": (0.04, "3"),
    "momentum": (0.996, "3"),
    "EMA in the middle": (0.998, "3: by a cosine"),
    "EMA at the end": (1.0, "3"),
    "Layers of the head": (
        2 * ["Linear", "BatchNorm1d", "GELU"] + ["Linear"],
        "3: 2048-2048-256 BN GELU",
    ),
    "Length of what meets the prototypes": (1.0, "3: L2"),
    "Gain of the prototypes": (1.0, "3: weight-norm, g = 1 frozen"),
    "n_frozen_prototype_epochs": (1, "3: everywhere"),
    "opt_class.!": ("!name:torch.optim.SGD", "3"),
    "embedder.width": (1024, "3: ECAPA-1024"),
    "embedder.n_mels": (80, "3"),
}
SSLSV_DINO = {
    **EVERY_DINO,
    "global_crop": (4.0, "3"),
    "Has a VICReg term": (False, "3"),
    "teacher_temperature": (0.04, "3"),
    "opt_class.momentum": (0.9, "3"),
    "opt_class.weight_decay": (5e-5, "3"),
    "Weight decay of vectors": (0.0, "3: none on 1-D"),
    "lr": (0.2, "3"),
    "Last rate": (0.0076, "8"),
    "lr_schedule.!": ("!name:speechbrain_ext.training.cosine", "3"),
    "n_warmup_epochs": (10, "3"),
    "max_grad_norm": (3.0, "3"),
    "clip_per_tensor": (True, "3"),
    "batch_size": (128, "3"),
    "n_averaged_epochs": (10, "3"),
    "embedder.embedding_size": (512, "8"),
    "embedder.std_norm": (True, "8: InstanceNorm"),
    "Shares of augmentation": (
        {"clean": 0.25, "rir": 0.25, "sound": 0.25, "sound + rir": 0.25},
        "8",
    ),
}
SSLSV_SIMCLR = {
    "embedder.n_mels": (40, "8"),
    "embedder.embedding_size": (512, "8"),
    "embedder.width": (1024, "3: ECAPA-1024"),
    "method": ("simclr", "3"),
    # Of its configuration; the facts do not name them.
    "crop": (2.0, "the leaf [C]"),
    "loss.temperature": (0.03, "the leaf [C]"),
    "projection.hidden_size": (0, "the leaf [C]: no projection"),
    "batch_size": (256, "the leaf [C]"),
    "opt_class.!": ("!name:torch.optim.Adam", "the leaf [C]"),
    "lr": (1e-3, "the leaf [C]"),
    "embedder.std_norm": (True, "the encoder [C]: InstanceNorm"),
    "Shares of augmentation": (
        {"clean": 0.0, "rir": 0.0, "sound": 0.0, "sound + rir": 1.0},
        "the leaf [C]: both, the default of its configuration",
    ),
}
SSPS = {
    "positives": ("ssps", "3"),
    "ssps_clusters": (25000, "3: K"),
    "ssps_neighbours": (1, "3: neighbouring clusters"),
}
BUT = {
    **WAVLM,
    "loss.scale": (32.0, "5"),
    "l2_sp_weight": (0.0, "5: no such term"),
}

PUBLISHED = {
    "paper, a round": Published(
        [
            Claim(MHFA, BATCHES),
            *(Claim("voxceleb", step=f"round{n}/model") for n in (1, 2, 3)),
        ],
        {
            **PAPER,
            "crop": (3.015, "2 [C]; slides: 3 s and 2 s"),
            "loss.margin": (0.2, "2 [C]"),
            "margin_rise": (None, NONE),
            "n_epochs": (15, "2 [C]"),
            "batch_size": (240, "2 [C]: 120 on each of 2 GPUs"),
            "gate_from_epoch": (5, "2 [C]"),
            "correct_from_epoch": (9, "2 [C]"),
            "Rates": (fall(1, 15, 5e-3), "2 [C]"),
            "Rates of the encoder": (fall(1, 15, 2e-5), "2 [C]"),
            "init_from": (None, "2 [C]: each restarts from WavLM"),
        },
    ),
    "paper, large margin": Published(
        [
            Claim(MHFA, "Large-margin fine-tuning of a round"),
            Claim("voxceleb", step="large_margin/model"),
        ],
        {
            **{k: v for k, v in PAPER.items() if "per_class" not in k},
            "crop": (6.015, "2 [C]; slides: 5 s"),
            "loss.margin": (0.5, "2 [C]"),
            "n_epochs": (3, "2 [C]: 2 or 3"),
            "batch_size": (100, "2 [C]: 50 on each of 2 GPUs"),
            "Rates": (fall(16, 18, 5e-3), "8: 2.3e-3, 2.2e-3, 2.1e-3"),
            "Rates of the encoder": (fall(16, 18, 2e-5), "8"),
            **{
                key: (
                    Differs(1, 2, "gate and correction in large-margin tuning"),
                    "2 [C]: from epochs 5 and 9, so from its first, the 16th",
                )
                for key in ("gate_from_epoch", "correct_from_epoch")
            },
        },
    ),
    "paper, clusters": Published(
        [
            Claim("voxceleb", step=f"{system}/labels")
            for system in ("bootstrap", "round1", "round2", "round3")
        ],
        {
            "n_centroids": (50000, "2 [C]"),
            "n_clusters": (7500, "2 [C]"),
            "weighted": (False, "8"),
            "whiten": (None, NONE),
            "min_cluster_size": (1, NONE),
        },
    ),
    "paper, crops that are scored": Published(
        [Claim("voxceleb", step="round3/test_embeddings")],
        {
            "n_crops": (15, "2 [C]: 15 x 15"),
            "crop": (4.015, "2 [C]: 400 frames"),
        },
    ),
    "paper, scores": Published(
        [Claim("voxceleb", step="round3/scores")],
        {
            "protocol": ("crops", "2 [C]"),
            "Share of whole utterances": (0.5, "2 [C]: mean of both"),
            "Share of each pair of crops": (
                0.5 / 15**2,
                "2 [C]: mean of 15 x 15",
            ),
            "whiten": (None, "2 [C]: no centring"),
            "First back-end": ("raw", "2 [C]: cosine, no AS-norm"),
        },
    ),
    "sslsv, DINO 2.82": Published(
        [Claim(DINO)], {**SSLSV_DINO, "n_epochs": (80, "3")}
    ),
    "sslsv, DINO with SSPS 2.53": Published(
        [Claim(DINO, "sslsv with SSPS")],
        {
            **SSLSV_DINO,
            **SSPS,
            "n_epochs": (100, "3"),
            "n_ssps_epochs": (20, "3: the last"),
        },
    ),
    "wespeaker, DINO 2.63": Published(
        [Claim(DINO, "wespeaker")],
        {
            **EVERY_DINO,
            "global_crop": (3.0, "3"),
            "teacher_temperature": (0.07, "3"),
            "Share of the temperature's rise": (0.2, "3"),
            "Rate for a batch of 256": (0.2, "3"),
            "Batch of each of 4 processes": (64, "3: 64 a GPU"),
            "n_warmup_epochs": (20, "3"),
            "n_epochs": (150, "3"),
            "n_averaged_epochs": (10, "3: as sslsv"),
        },
    ),
    "RDINO 3.16": Published(
        [Claim(DINO, "RDINO")],
        {
            **EVERY_DINO,
            "global_crop": (4.0, "3"),
            "head.expander_size": (8192, "3"),
            "teacher_temperature": (0.04, "3"),
            "Has a VICReg term": (True, "3"),
            "Rate for a batch of 256": (0.4, "3"),
            "batch_size": (208, "3"),
            "n_epochs": (70, "3"),
            "n_averaged_epochs": (1, "3: the teacher"),
        },
    ),
    "sslsv, SimCLR 6.41": Published(
        [Claim(SIMCLR)], {**SSLSV_SIMCLR, "n_epochs": (100, "8")}
    ),
    "sslsv, SimCLR with SSPS 2.57": Published(
        [Claim(SIMCLR, "sslsv with SSPS")],
        {
            **SSLSV_SIMCLR,
            **SSPS,
            "n_epochs": (110, "8: 100 -> 110"),
            "n_ssps_epochs": (10, "8: 100 -> 110"),
            "ssps_iterations": (10, "8"),
        },
    ),
    "BUT, frozen": Published(
        [Claim(FROZEN)],
        {
            **BUT,
            "Trained parts of the encoder": ([], "5"),
            "n_epochs": (10, "5"),
            "opt_class.!": ("!name:torch.optim.SGD", "5"),
            "lr": (0.1, "5"),
            "Last rate": (5e-3, "5"),
            "loss.margin": (0.2, "5"),
            "margin_rise": ([2, 5], "5"),
            "Has sub-centres": (True, "5"),
            "Has inter-top-k": (True, "5"),
        },
    ),
    "BUT, joint": Published(
        [Claim(MHFA, "BUT's joint training")],
        {
            **BUT,
            "n_epochs": (10, "5"),
            "opt_class.!": ("!name:torch.optim.AdamW", "5"),
            "lr": (1e-4, "5"),
            "Last rate": (1e-6, "5"),
            "Rate of the CNN, relative to its neighbours'": (0.1, "5"),
            "Trained parts of the encoder": (
                ["feature_extractor", "layers", "others"],
                "5",
            ),
            "Has sub-centres": (True, "5"),
            "Has inter-top-k": (True, "5"),
        },
    ),
    "BUT, large margin": Published(
        [Claim(MHFA, "BUT's large-margin fine-tuning")],
        {
            **BUT,
            "n_epochs": (3, "5"),
            "crop": (5.0, "5"),
            "loss.margin": (0.5, "5"),
            "Rate of the CNN, relative to its neighbours'": (0.1, "5"),
            "Has sub-centres": (True, "5"),
        },
    ),
}

ORACLES, UNIT, RECIPES = "tests/oracles", "tests/unit", "tests/recipes"
# What is published, and no value of a key: the test that holds it.
BEHAVIOUR = {
    "2: keys, values and attention of MHFA": f"{ORACLES}/test_mhfa_oracle.py",
    "2: L2 with sg(CE), sg(L2) + 1e-5": f"{ORACLES}/test_l2_sp_oracle.py",
    "2: gate, the root between the means": f"{ORACLES}/test_gate_oracle.py",
    "2: gate, no root: the last threshold": f"{ORACLES}/test_gate_oracle.py",
    "2: gate, soft: the low mode's posterior": f"{ORACLES}/test_gate_oracle.py",
    "2: losses of the epoch before": f"{UNIT}/losses/test_loss_gate.py",
    "2: DLG, LC": f"{UNIT}/losses/test_noisy_labels.py",
    "2: DINO, its centre and teacher": f"{ORACLES}/test_dino_oracle.py",
    "2: centre of all processes": f"{RECIPES}/test_two_processes.py",
    "3: SyncBN": f"{RECIPES}/test_two_processes.py",
    "3: VICReg term": f"{UNIT}/losses/test_rdino.py",
    "3: teacher's encoder, last 10 averaged": f"{RECIPES}/test_train_dino.py",
    "3: last layer frozen": f"{RECIPES}/test_train_dino.py",
    "3: positives of neighbours": f"{UNIT}/training/test_positives.py",
    "3: uniform at ln K": f"{ORACLES}/test_dino_oracle.py",
    "8: one of a label in a batch, 500 an epoch": (
        f"{UNIT}/dataio/test_samplers.py"
    ),
    "8: Ward with equal weights": f"{ORACLES}/test_ward_oracle.py",
}
# What the released code does and this does not: rows of the document.
ON_PURPOSE = {
    "1: RDINO-like start of 3.16 %": "bootstrap",
    "2: k-means of embeddings as they are": "k-means",
    "2: embeddings with dropout": "embeddings to cluster",
    "2: an assertion without a crossing": "no crossing between the means",
    "2: EM from a k-means start": "fit of the two Gaussians",
    "2: the crossing on a grid": "where they cross",
    "2: weight decay of all parameters": "weight decay 0.01",
    "2: at most 700,000 samples are scored": "whole utterances that are scored",
    "2: a loss file for each process to read": "threshold",
    "2: a clean forward in every step": "clean embeddings for correction",
    "2: the documented tuning has no epoch": "large-margin tuning",
    "2: no L2 term in one process": "L2 toward the pre-trained weights",
    "2: babble is overwritten by music": "kinds of augmentation",
    "2: 120 on each of 2 GPUs": "batch",
    "8: margin on the old label's column": "loss of a corrected label",
    "8: 500 of a cluster, the same each epoch": "clusters above 500 utterances",
    "8: SSPS on frames of 4 s": "sslsv, SSPS",
    "3: 64 a GPU": "wespeaker, DINO",
}
# Published settings that no leaf or override claims, and what is missing.
NOT_IMPLEMENTED = {
    "SDPN 1.80": {
        "1 x 4 s clean for the teacher": "3; every crop is augmented alike",
        "4 x 2 s augmented for the student": "3; as n_local and local_crop",
        "1,024 prototypes": "3; as head.n_prototypes, of DINO's head",
        "Sinkhorn": "3; missing",
        "me-max": "3; missing",
        "KoLeo": "3; missing",
        "temperature 0.1, sharpening 0.25": "3; as temperatures of DINO",
        "EMA 0.996 -> 1 by a cosine": "3; as momentum",
        "rate 0.4 x batch / 256": "3; as lr",
        "150 epochs": "3; as n_epochs",
        "batch of 384": "3; as batch_size",
        "the teacher": "3; as n_averaged_epochs of 1",
    }
}
