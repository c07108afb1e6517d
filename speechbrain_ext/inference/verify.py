"""Verify whether two files are of one speaker:

> sbext verify MODEL a.wav b.wav

MODEL is a folder that export_model wrote, its id on the hub, or the name of a
model that comes with the package. From a clone that is not installed:

> python -m speechbrain_ext.inference.verify MODEL a.wav b.wav
"""

from __future__ import annotations

from speechbrain_ext.commands.arguments import parser_of
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.inference.verifier import SpeakerVerifier


def main(argv: list[str] | None = None) -> None:
    """Print score, probability and decision.

    Arguments
    ---------
    argv : list of str, optional
        The words after the program; the process's own when None.
    """
    given = parser_of("verify").parse_args(argv)
    verifier = SpeakerVerifier.from_pretrained(given.model, given.device)
    found = verifier.verify(given.first, given.second, prior=given.prior)
    print(
        f"{'same speaker' if found.same else 'different speakers'}: "
        f"probability of one speaker {found.probability:.4f}, score "
        f"{found.score:.4f}"
    )


if __name__ == "__main__":
    run(main)
