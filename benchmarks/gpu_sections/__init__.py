"""Sections of ``benchmarks/gpu.py``, one a module.

Each has a function ``items`` that takes the `Options` and yields pairs of a
name and a function without arguments, which returns what it measured.
"""

from __future__ import annotations

from benchmarks.gpu_sections import (
    clustering,
    dino,
    extraction,
    finetune,
    input_data,
    minivox,
    parity,
    semantics,
)

# Letter, title, module, and the share of the time that it may take.
SECTIONS = {
    "A": ("parity", parity, 10),
    "B": ("semantics", semantics, 6),
    "C": ("fine-tuning", finetune, 9),
    "D": ("DINO", dino, 8),
    "E": ("input", input_data, 3),
    "F": ("extraction", extraction, 3),
    "G": ("clustering and scoring", clustering, 6),
    "H": ("MiniVox", minivox, 8),
}
