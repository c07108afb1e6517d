"""Summary of all sections: checks, aims and the hours of the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.gpu_sections.common import Options, Row

NOT_MEASURED = "not measured"
N_UTTERANCES = 1_092_009  # of VoxCeleb2
HOURS = 2442  # of its speech
# Of the paper's plan (hparams/plans/voxceleb.yaml): epochs of DINO; epochs of
# round 1, its two ablations, rounds 2 and 3, and true labels; of large-margin
# tuning, whose crops are twice as long, twice; and sets that are embedded.
DINO_EPOCHS = 80
SPEAKER_EPOCHS = 6 * 15
LARGE_MARGIN_EPOCHS = 2 * 3 * 2
N_EXTRACTIONS = 7
N_CLUSTERINGS = 3


def summary(report: dict[str, Any], options: Options) -> dict[str, Any]:
    """Summarise the rows so far.

    Arguments
    ---------
    report : dict
        ``sections``, each with ``rows``.
    options : Options
        What was asked for; the aims are of a GPU at full size.
    """
    rows = [r for part in report["sections"].values() for r in part["rows"]]
    failed = [
        f"{r['section']}: {r['item']}" for r in rows if r.get("ok") is False
    ]
    n_checks = sum("ok" in row for row in rows)
    parity = [row for row in rows if row["section"] == "A" and "ok" in row]
    # A section that was cut short proves nothing of the rest.
    whole = bool(parity) and not any(
        row["section"] == "A" and row["item"] in ("deadline", "end")
        for row in rows
    )
    aims = dict(measured_aims(rows, options))
    found = {
        "ok": not failed,
        "n_checks": n_checks,
        "failed": failed,
        "parity_items": len(parity),
        "parity_holds": whole and all(row["ok"] for row in parity),
        "faults_seen": sum(bool(row.get("fault_is_seen")) for row in parity),
        **aims,
    }
    parity_line = "holds" if found["parity_holds"] else "is not shown"
    lines = [f"parity of {len(parity)} items {parity_line}"]
    lines += [f"{n_checks - len(failed)} of {n_checks} checks hold"]
    lines += [f"does not hold: {name}" for name in failed]
    lines += [f"{name}: {value}" for name, value in aims.items()]
    return {**found, "lines": lines}


def measured_aims(
    rows: list[Row], options: Options
) -> Iterator[tuple[str, float | str]]:
    """Yield each figure that a GPU is to give; NOT_MEASURED without one."""
    value = Reader(rows, options.on_gpu and options.size == "full")
    ours = value("C", "WavLM Base+, bf16, after", "samples_per_second")
    memory = value("C", "WavLM Base+, bf16, after", "peak_gib")
    theirs = value("C", "the authors' step", "after") or {}
    dino = value("D", "ours, batch 128, bf16", "samples_per_second")
    sslsv = value("D", "sslsv, batch 128", "samples_per_second")
    speech = value("F", "WavLM Base+ with MHFA", "fp32_hours_per_hour")
    k_means = value("G", "k-means", "seconds_of_25_extrapolated")
    ward = value("G", "Ward tree", "seconds")
    figures = {
        "fine-tuning, samples/s": ours,
        "fine-tuning, peak GiB": memory,
        "fine-tuning, MFU": value("C", "WavLM Base+, bf16, after", "mfu"),
        "fine-tuning, samples/s over the authors'": over(
            ours, theirs.get("samples_per_second")
        ),
        "fine-tuning, memory over the authors'": over(
            memory, theirs.get("peak_gib")
        ),
        "DINO, samples/s at batch 128": dino,
        "DINO, samples/s over sslsv's": over(dino, sslsv),
        "DINO, peak GiB at batch 128": value(
            "D", "ours, batch 128, bf16", "peak_gib"
        ),
        "augmentation, share of a step": value(
            "E", "augmentation beside ECAPA-TDNN", "share_of_both"
        ),
        "loader, crops/s": value("E", "loader", "crops_per_second"),
        "GPU idle for want of crops, share": idle(
            ours, value("E", "loader", "crops_per_second")
        ),
        "extraction, hours of speech an hour": speech,
        "k-means of 50,000 on 1.09 M, s": k_means,
        "Ward of 50,000, s": ward,
        "reads of values in a fine-tuning step": value(
            "B", "host syncs, fine-tuning", "n_reads"
        ),
        "the paper's plan, GPU hours by extrapolation": plan_hours(
            ours, dino, speech, k_means, ward
        ),
    }
    for name, figure in figures.items():
        yield name, NOT_MEASURED if figure is None else round(figure, 4)


class Reader:
    """Look-up of a value of a row; None where it was not measured."""

    def __init__(self, rows: list[Row], counts: bool):
        self.rows = {(row["section"], row["item"]): row for row in rows}
        self.counts = counts

    def __call__(self, section: str, item: str, key: str) -> Any:
        """Return the value, None if there is none or it does not count."""
        return (
            self.rows.get((section, item), {}).get(key) if self.counts else None
        )


def over(ours: float | None, theirs: float | None) -> float | None:
    """Return a ratio; None if one of the two was not measured."""
    return ours / theirs if ours and theirs else None


def idle(needed: float | None, read: float | None) -> float | None:
    """Return the share of time that a GPU waits for a loader."""
    return max(0.0, 1 - read / needed) if needed and read else None


def plan_hours(
    speaker: float | None,
    dino: float | None,
    speech: float | None,
    k_means: float | None,
    ward: float | None,
) -> float | None:
    """Extrapolate the GPU hours of the paper's plan.

    Arguments
    ---------
    speaker, dino : float or None
        Samples a second of fine-tuning and of DINO.
    speech : float or None
        Hours of speech embedded in an hour.
    k_means, ward : float or None
        Seconds of each.

    Returns
    -------
    float or None
        None if one of them was not measured. Reading of audio, scoring and
        checkpoints are not counted.
    """
    if not (speaker and dino and speech and k_means and ward):
        return None
    epochs = SPEAKER_EPOCHS + LARGE_MARGIN_EPOCHS
    seconds = N_UTTERANCES * (epochs / speaker + DINO_EPOCHS / dino)
    seconds += N_CLUSTERINGS * (k_means + ward)
    return seconds / 3600 + N_EXTRACTIONS * HOURS / speech
