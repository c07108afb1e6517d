"""Section F: extraction, in hours of speech in an hour, and what bf16 costs."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.gpu_sections.common import (
    Items,
    Options,
    Row,
    forget_peak,
    peak_gib,
    seconds_of,
)
from benchmarks.gpu_sections.parity_cases import sizes
from speechbrain_ext.models.embedder import Embedder, build_embedder

BATCH_SECONDS = 120
MODELS = {
    "WavLM Base+ with MHFA": "encoder_mhfa.yaml",
    "ECAPA-TDNN": "ecapa.yaml",
}


def items(options: Options) -> Items:
    """Yield each model."""
    for title, name in MODELS.items():
        yield title, partial(extract, options, name)


def build(options: Options, name: str) -> Embedder:
    """Build a model of random weights."""
    torch.manual_seed(0)
    overrides = sizes()[name]
    if options.size == "full":
        is_encoder = name.startswith("encoder")
        overrides = {"encoder_source": None} if is_encoder else {}
    return build_embedder(f"embedders/{name}", overrides).to(options.device)


def extract(options: Options, name: str) -> Row:
    """Measure utterances of 8 s in full float32 and in bf16."""
    model = build(options, name)
    n_rows, n_frames = options.pick((15, 8 * 16000), (2, 8000), (2, 4000))
    wavs = 0.1 * torch.randn(n_rows, n_frames, device=options.device)
    hours = n_rows * n_frames / 16000 / 3600
    found, row = {}, {}
    for precision in ("fp32", "bf16"):
        forget_peak(options)
        half = precision == "bf16"
        with torch.autocast(options.device, torch.bfloat16, enabled=half):
            seconds = seconds_of(partial(model.embed, wavs), options)
            found[precision] = model.embed(wavs).double()
        row[f"{precision}_hours_per_hour"] = hours / seconds * 3600
        row[f"{precision}_peak_gib"] = peak_gib(options)
    cosine = torch.cosine_similarity(found["bf16"], found["fp32"])
    return {**row, "bf16_lowest_cosine": float(cosine.min())}
