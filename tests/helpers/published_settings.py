"""Published settings, value by value with its source, and who claims them.

Sources: [C] released code, [S] slides, [L] logs or scripts, [=] arithmetic. A
value that is a map has keys of the YAML; names with a capital are derived
(`test_published_settings.py` says how). Sections are those of the facts that
the project was given.
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
}
# What a round and its large-margin tuning share.
PAPER = {
    **WAVLM,
    "Trained parts of the encoder": (["layers"], "2 [C]"),
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
    # Not 0.1, which divides unbounded logits: see docs/paper_differences.md.
    "correct_temperature": ("auto", "differs"),
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
    "momentum": (0.996, "3: to 1 by a cosine"),
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
    "opt_class.weight_decay": (5e-5, "3: none on 1-D"),
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
}
SSPS = {
    "positives": ("ssps", "3"),
    "ssps_clusters": (25000, "3"),
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
        {"n_crops": (15, "2 [C]: 15 x 15"), "crop": (4.0, "2 [C]")},
    ),
    "paper, scores": Published(
        [Claim("voxceleb", step="round3/scores")],
        {
            "protocol": ("crops", "2 [C]: mean of crops and whole"),
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
