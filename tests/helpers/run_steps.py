"""Steps of a run as plans make them, and a plan of them."""

import numpy as np
from result_records import result_of

from speechbrain_ext.clustering.stopping import Rounds
from speechbrain_ext.experiment.artifacts import (
    CorpusArtifacts,
    EmbeddingArtifacts,
    LabelArtifacts,
    ModelArtifacts,
    ScoreArtifacts,
)
from speechbrain_ext.experiment.plan import Plan
from speechbrain_ext.experiment.run_results import read_scored
from speechbrain_ext.experiment.settings import RunRounds
from speechbrain_ext.experiment.steps import Kind, Role, Step, System
from speechbrain_ext.utils.files import write_text

BOOTSTRAP = System(Role.BOOTSTRAP, "DINO")
ROUND1 = System(Role.ROUND, "round 1", 1)
ROUND2 = System(Role.ROUND, "round 2", 2)
TOPLINE = System(Role.TOPLINE, "topline")
TUNED = System(Role.TOPLINE_TUNED, "topline_tuned")
PUBLISHED = System(Role.PUBLISHED, "published model")
BACKENDS = ("raw", "as-norm+qmf")
LEFT = {
    Kind.TRAIN: ModelArtifacts,
    Kind.EXTRACT_TRAIN: EmbeddingArtifacts,
    Kind.LABELS: LabelArtifacts,
    Kind.SCORE: ScoreArtifacts,
}


def step(folder, system, kind, **options):
    """A step of a system, in its place below the run's folder."""
    place = folder / system.name / kind.folder_name
    return Step(kind, system, "", "", LEFT[kind](place), options)


def modelled(folder, system, columns="epoch,loss", values="1,2"):
    """A training that left its curve."""
    made = step(folder, system, Kind.TRAIN)
    write_text(made.artifacts.curve, f"{columns}\n{values}\n")
    return made


def plan_of(folder, steps, n_rounds=2, **settings):
    """A plan that has these steps, done."""
    given = {
        "run": "a",
        "results_folder": str(folder / "results"),
        "output_folder": str(folder),
        "corpus": "a folder",
        "stages": {},
    }
    return Plan(
        RunRounds(**{**given, **settings}),
        CorpusArtifacts(folder / "corpus"),
        steps,
        Rounds(n_rounds, True, n_rounds, "n_rounds is given"),
        None,
    )


def scored_of(steps):
    """The scored systems of steps that have no late values."""
    return read_scored(steps, {})


def with_scores(folder, system, gain):
    """A scored step as score_trials leaves it, with two back-ends."""
    generator = np.random.default_rng(0)
    speaker = generator.integers(0, 9, 400)
    labels = np.arange(400) % 2
    other = np.where(labels == 1, speaker, (speaker + 1) % 9)
    lines = [
        f"{label} s{a}/r/{n}a s{b}/q/{n}b\n"
        for n, (label, a, b) in enumerate(
            zip(labels, speaker, other, strict=True)
        )
    ]
    path = folder / "dev.txt"
    path.write_text("".join(lines))
    made = step(folder, system, Kind.SCORE, trials={"dev": str(path)})
    scores = generator.normal(size=400) + gain * labels
    for backend in BACKENDS:
        result_of(
            scores,
            labels,
            n_bootstrap=5,
            calibrated="+" in backend,
            system=system.row,
            corpus="toy",
            trials="dev",
            run="a",
            backend=backend,
            calibration=backend.partition("+")[2] or "none",
        ).write(made.artifacts.result("dev", backend))
        np.save(made.artifacts.scores("dev", backend), scores)
    return made
