"""Section C: a step of fine-tuning at the paper's size, beside the authors'."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import finetune_step
from benchmarks.gpu_sections.common import (
    Items,
    NotMeasuredError,
    Options,
    Row,
    forget_peak,
    peak_gib,
    seconds_of,
)
from benchmarks.gpu_sections.semantics import SPEAKER_WORDS
from speechbrain_ext.models.embedder import build_embedder
from speechbrain_ext.utils.precision import full_precision

# Dense products of an H100 and an H200, in units of 1e12 operations a second.
PEAK_TFLOPS = {"fp32": 495.0, "bf16": 989.0}
WHISPER_BASE = {
    "model_type": "whisper",
    "hidden_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
}


def items(options: Options) -> Items:
    """Yield ours in each precision and phase, then the others."""
    for precision in ("fp32", "bf16"):
        for phase in ("before_correction", "after", "after_all_rejected"):
            name = f"WavLM Base+, {precision}, {phase}"
            yield name, partial(ours, options, precision, phase)
    yield "WavLM Base+, fp32 without TF32", partial(exact, options)
    yield "WavLM Base+, bf16, compiled", partial(compiled, options)
    yield "Whisper base, bf16", partial(whisper, options)
    yield "the authors' step", partial(authors, options)


def arguments_of(options: Options, precision: str) -> argparse.Namespace:
    """Return the arguments of the benchmark of this step."""
    words = [f"--device={options.device}", f"--precision={precision}"]
    words.append(f"--authors={options.authors or 'none'}")
    if options.size == "full":
        return finetune_step.parse([*words, "--batch_size=120"])
    return finetune_step.parse([*words, *SPEAKER_WORDS])


def measured(
    step: Callable[[], object], n_rows: int, options: Options, precision: str
) -> Row:
    """Measure time, memory and the share of the peak of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    forget_peak(options)
    seconds = seconds_of(step, options, options.pick(8, 3, 1))
    flops = counter.get_total_flops()
    row: Row = {
        "batch_size": n_rows,
        "seconds": seconds,
        "samples_per_second": n_rows / seconds,
        "peak_gib": peak_gib(options),
        "tflop_of_a_step": flops / 1e12,
    }
    if options.on_gpu:
        reached = flops / seconds / 1e12
        row["mfu"] = reached / PEAK_TFLOPS[precision]
    return row


def ours(options: Options, precision: str, phase: str) -> Row:
    """Measure our step in a phase of the training."""
    arguments = arguments_of(options, precision)
    _, step = finetune_step.ours(arguments)
    found = finetune_step.phases(arguments)[phase]
    call = partial(step, found)
    row = measured(call, arguments.batch_size, options, precision)
    return {**row, "rejected": found.rejected}


def exact(options: Options) -> Row:
    """Measure our step in full float32."""
    with full_precision():
        row = ours(options, "fp32", "after")
    return {**row, "mfu": None}


def compiled(options: Options) -> Row:
    """Compare the encoder's forward and backward, compiled and not."""
    if not options.on_gpu:
        raise NotMeasuredError("compiled for a GPU only")
    arguments = arguments_of(options, "bf16")
    config = {"encoder_source": None, "encoder_config": {}}
    model = build_embedder("embedders/encoder_mhfa.yaml", config)
    model.to(options.device).train()
    wavs = finetune_step.draw(arguments)[0].to(options.device)

    def step(forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        with torch.autocast(options.device, torch.bfloat16):
            forward(wavs).square().sum().backward()

    plain = seconds_of(partial(step, model), options)
    fast = seconds_of(partial(step, torch.compile(model)), options)
    return {"seconds": plain, "compiled_seconds": fast, "ratio": plain / fast}


def whisper(options: Options) -> Row:
    """Measure forward and backward of Whisper base with MHFA."""
    config = {**WHISPER_BASE}
    if options.size != "full":
        config |= {"hidden_size": 16, "num_hidden_layers": 2}
        config |= {"num_attention_heads": 2, "encoder_ffn_dim": 32}
        config["max_source_positions"] = 50
    overrides = {"encoder_source": None, "encoder_config": config}
    model = build_embedder("embedders/whisper_mhfa.yaml", overrides)
    model.to(options.device).train()
    arguments = arguments_of(options, "bf16")
    wavs = finetune_step.draw(arguments)[0].to(options.device)

    def step() -> None:
        with torch.autocast(options.device, torch.bfloat16):
            model(wavs).square().sum().backward()

    return measured(step, len(wavs), options, "bf16")


def authors(options: Options) -> Row:
    """Measure the authors' step, on half of the batch for its two graphs."""
    if options.authors is None:
        raise NotMeasuredError("no --authors, the folder of their checkout")
    arguments = arguments_of(options, "fp32")
    _, step = finetune_step.authors(arguments)
    rows = {}
    for name, phase in finetune_step.phases(arguments).items():
        forget_peak(options)
        seconds = seconds_of(partial(step, phase), options, 3)
        rows[name] = {
            "samples_per_second": arguments.batch_size / seconds,
            "peak_gib": peak_gib(options),
        }
    gc.collect()
    return {"batch_size": arguments.batch_size, **rows}
