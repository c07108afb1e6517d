"""Verify whether two files are of one speaker, on the command line:

> python -m speechbrain_ext.inference.verify MODEL a.wav b.wav

MODEL is a folder that export_model wrote, or its id on the hub.
"""

from __future__ import annotations

import argparse

from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.utils.command_line import run


def main(argv: list[str] | None = None) -> None:
    """Print score, probability and decision.

    Arguments
    ---------
    argv : list of str, optional
        The words after the program; the process's own when None.
    """
    parser = argparse.ArgumentParser(
        "python -m speechbrain_ext.inference.verify",
        description="Tell whether two files are of the same speaker.",
    )
    parser.add_argument("model", help="model folder, or its id on the hub")
    parser.add_argument("first", help="first audio file")
    parser.add_argument("second", help="second audio file")
    parser.add_argument(
        "--device", help="device to compute on: cpu, cuda:0, ..."
    )
    parser.add_argument(
        "--prior",
        type=float,
        help="prior probability of the same speaker; default: the model's",
    )
    given = parser.parse_args(argv)
    verifier = SpeakerVerifier.from_pretrained(given.model, given.device)
    found = verifier.verify(given.first, given.second, prior=given.prior)
    print(
        f"{'same speaker' if found.same else 'different speakers'}: "
        f"probability of one speaker {found.probability:.4f}, score "
        f"{found.score:.4f}"
    )


if __name__ == "__main__":
    run(main)
