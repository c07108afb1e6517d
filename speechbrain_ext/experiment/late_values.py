"""Values of a plan that are known only after its corpus is prepared.

They are found when the first step that needs them begins, and stored, so that
a run that is taken up again gives its steps the same. What is stored holds no
paths: a run, or its data, may move.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from speechbrain_ext.experiment.artifacts import CorpusArtifacts
from speechbrain_ext.experiment.steps import Late
from speechbrain_ext.utils.files import read_json_object, write_json

STORED = "late_values.json"
_KINDS = {
    "corpus_sha256": str,
    "data_in_output": bool,
    "oracle": bool,
    "trials": list,
}


def late_values(
    corpus: CorpusArtifacts, data_folder: str | None
) -> dict[Late, Any]:
    """Return the values found for the prepared corpus.

    Arguments
    ---------
    corpus : CorpusArtifacts
        Of the prepare step, which has ended.
    data_folder : str, optional
        Where the audio is now, unless the prepare step wrote it.

    Returns
    -------
    dict of Late to Any
        What ``$data_root`` stands for, the file of true speakers (None if
        there is none) and the trial lists by name.
    """
    found = _stored(corpus)
    inside = found["data_in_output"] or data_folder is None
    root = corpus.folder if inside else Path(str(data_folder))
    trials = corpus.folder / "trials"
    return {
        Late.DATA_ROOT: str(root.absolute()),
        Late.ORACLE: str(corpus.oracle) if found["oracle"] else None,
        Late.TRIALS: {n: str(trials / f"{n}.txt") for n in found["trials"]},
    }


def stand_ins(corpus: CorpusArtifacts) -> dict[Late, Any]:
    """Return values of the same types, to check a plan without its corpus."""
    return {
        Late.DATA_ROOT: str(corpus.folder),
        Late.ORACLE: str(corpus.oracle),
        Late.TRIALS: {"trials": str(corpus.folder / "trials" / "trials.txt")},
    }


def _stored(corpus: CorpusArtifacts) -> dict[str, Any]:
    """Return what was found for this corpus; find and store it if it is new."""
    path = corpus.folder.parent / STORED
    facts = corpus.facts()
    made = json.dumps(facts.get("outputs", {}), sort_keys=True)
    prepared = hashlib.sha256(made.encode()).hexdigest()
    if path.exists():
        found = read_json_object(path, _KINDS)
        if found["corpus_sha256"] == prepared:
            return found
    found = {
        "corpus_sha256": prepared,
        "data_in_output": facts["data_in_output"],
        "oracle": corpus.oracle.exists(),
        "trials": list(corpus.trials()),
    }
    write_json(path, found)
    return found
