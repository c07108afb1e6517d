"""Section A: a GPU computes what the CPU computes.

Each case is computed on the CPU in float32 and again on the device, with the
same weights and inputs. Without a GPU the second time is on the CPU by another
way: in double precision, or without oneDNN. And each case is computed once more
with a fault, a twentieth of noise on inputs and weights, which must be seen.
The errors of bf16, and with a GPU of TF32, are reported too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch

from benchmarks.gpu_sections.common import Items, Options, Row
from benchmarks.gpu_sections.parity_cases import Case, cases
from speechbrain_ext.utils.precision import full_precision

TOLERANCE = 1e-3  # relative, of the norm; of labels, the share that differs
FAULT = 0.05
_FLOOR = 1e-3  # of the largest norm: below, a gradient is rounding
Values = dict[str, torch.Tensor]


def items(options: Options) -> Items:
    """Yield the check of each case, and the sight of its fault."""
    for name, build in cases():
        yield name, partial(check, build, options)


def check(build: Callable[[], Case], options: Options) -> Row:
    """Compare a case with itself computed otherwise, and with its fault."""
    case = build()
    reference = values(case, "cpu")
    row: Row = {}
    row["other"], found = other_way(case, options)
    row["error"], row["worst"] = compare(found, reference, case.exact)
    row["error_of_fault"], _ = compare(
        values(case, options.device, fault=FAULT), reference, case.exact
    )
    row["holds"] = row["error"] <= TOLERANCE
    # NaN is a fault too.
    row["fault_is_seen"] = not row["error_of_fault"] <= TOLERANCE
    if not case.exact:
        row |= reported(case, options, reference)
    row["ok"] = row["holds"] and row["fault_is_seen"]
    return row


def other_way(case: Case, options: Options) -> tuple[str, Values]:
    """Compute a case on the GPU, or on the CPU by another way."""
    if options.on_gpu:
        return f"{options.device}, float32", values(case, options.device)
    if case.double:
        return "cpu, float64", values(case, "cpu", torch.float64)
    with torch.backends.mkldnn.flags(enabled=False):
        return "cpu, float32 without oneDNN", values(case, "cpu")


def reported(case: Case, options: Options, reference: Values) -> Row:
    """Return the errors of lower precisions, which are not judged."""
    row: Row = {}
    ways = {"bf16": torch.autocast(options.device, torch.bfloat16)}
    if options.on_gpu:
        ways["tf32"] = contextlib.nullcontext()
    for name, context in ways.items():
        try:
            with context:
                found = values(case, options.device, exact_products=False)
            row[f"error_{name}"] = compare(found, reference, False)[0]
        except Exception as error:
            row[f"error_{name}"] = f"{type(error).__name__}: {error}"[:200]
    return row


def values(
    case: Case,
    device: str,
    dtype: torch.dtype = torch.float32,
    fault: float = 0.0,
    exact_products: bool = True,
) -> Values:
    """Compute outputs and gradients of a case, and return them as doubles."""
    torch.manual_seed(0)
    module = None
    if case.module is not None:
        module = deepcopy(case.module)
        with torch.no_grad():
            for weight in module.parameters():
                weight.copy_(_noisy(weight, fault))
        module.to(device=device, dtype=dtype)
    inputs = [_input(x, device, dtype, fault) for x in case.inputs]
    with full_precision() if exact_products else contextlib.nullcontext():
        outputs = case.call(module, *inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        _backward(outputs)
    found = {f"output {i}": x for i, x in enumerate(outputs)}
    named = [] if module is None else module.named_parameters()
    grads = [(name, parameter.grad) for name, parameter in named]
    grads += [(f"input {i}", x.grad) for i, x in enumerate(inputs)]
    found |= {f"d {name}": grad for name, grad in grads if grad is not None}
    return {name: x.detach().double().cpu() for name, x in found.items()}


def _input(
    x: torch.Tensor, device: str, dtype: torch.dtype, fault: float
) -> torch.Tensor:
    """Move an input; one that is not whole gets the fault, and a gradient."""
    if not x.is_floating_point():
        return x.to(device)
    return _noisy(x, fault).to(device, dtype).requires_grad_()


def _noisy(x: torch.Tensor, fault: float) -> torch.Tensor:
    """Add noise of a share of the size of the values."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(x.shape, generator=generator)
    return x + fault * x.square().mean().sqrt() * noise


def _backward(outputs: tuple[torch.Tensor, ...]) -> None:
    """Compute gradients of a sum with fixed weights of the outputs."""
    total = None
    for output in outputs:
        if output.requires_grad:
            weights = torch.linspace(0.5, 1.5, output.numel())
            weights = weights.to(output).view(output.shape)
            part = (output * weights).sum()
            total = part if total is None else total + part
    if total is not None:
        total.backward()


def compare(found: Values, reference: Values, exact: bool) -> tuple[float, str]:
    """Return the largest relative error, and of which value it is."""
    if found.keys() != reference.keys():
        return float("inf"), "values differ in their names"
    if exact:
        errors = {
            name: float((x != reference[name]).double().mean())
            for name, x in found.items()
        }
    else:
        norms = {name: float(x.norm()) for name, x in reference.items()}
        floor = _FLOOR * max(norms.values())
        errors = {
            name: float((x - reference[name]).norm()) / max(norms[name], floor)
            for name, x in found.items()
        }
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst
