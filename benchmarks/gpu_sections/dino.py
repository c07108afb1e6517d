"""Section D: a step of DINO at the published size, beside sslsv's."""

from __future__ import annotations

import argparse
import gc
from functools import partial

from benchmarks import dino_step
from benchmarks.gpu_sections.common import (
    Items,
    NotMeasuredError,
    Options,
    Row,
    forget_peak,
    peak_gib,
    seconds_of,
)
from benchmarks.gpu_sections.semantics import DINO_WORDS

CARD_GIB = 80


def items(options: Options) -> Items:
    """Yield ours and theirs at each size of batch."""
    for size in options.pick((16, 32, 64, 128), (2, 4), (2,)):
        for precision in ("fp32", "bf16"):
            name = f"batch {size}, {precision}"
            yield f"ours, {name}", partial(ours, options, size, precision)
        name = f"batch {size}, bf16, blocks computed again"
        again = partial(ours, options, size, "bf16", "--recompute_blocks")
        yield f"ours, {name}", again
        yield f"sslsv, batch {size}", partial(sslsv, options, size)


def arguments_of(
    options: Options, size: int, precision: str, *flags: str
) -> argparse.Namespace:
    """Return the arguments of the benchmark of this step."""
    words = [*flags, *(() if options.size == "full" else DINO_WORDS)]
    words += [f"--device={options.device}", f"--precision={precision}"]
    words += [f"--sslsv={options.sslsv or 'none'}", f"--batch_size={size}"]
    return dino_step.parse(words)


def measured(
    side: dino_step.Side, arguments: argparse.Namespace, options: Options
) -> Row:
    """Measure time and memory of a side."""
    wavs = dino_step.draw(arguments)
    forget_peak(options)
    _, step = side(arguments, wavs)
    seconds = seconds_of(step, options, options.pick(5, 3, 1))
    peak = peak_gib(options)
    gc.collect()
    return {
        "seconds": seconds,
        "samples_per_second": arguments.batch_size / seconds,
        "peak_gib": peak,
        "fits_80_gib": None if peak is None else peak < CARD_GIB,
    }


def ours(options: Options, size: int, precision: str, *flags: str) -> Row:
    """Measure our step."""
    arguments = arguments_of(options, size, precision, *flags)
    return measured(dino_step.ours, arguments, options)


def sslsv(options: Options, size: int) -> Row:
    """Measure theirs."""
    if options.sslsv is None:
        raise NotMeasuredError("no --sslsv, the folder of their checkout")
    arguments = arguments_of(options, size, "fp32")
    return measured(dino_step.sslsvs, arguments, options)
