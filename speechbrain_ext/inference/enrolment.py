"""Speakers that are known by name, and answers for voices that are not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from speechbrain_ext.inference.decision import Decision
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.vectors import unit_rows


class Identification(NamedTuple):
    """Answer to who speaks.

    ``name`` is None for a voice that is nobody's; ``nearest`` is the most
    alike of those enrolled, with the cosine ``score`` and the ``probability``
    that it is this speaker.
    """

    name: str | None
    nearest: str
    score: float
    probability: float


class Enrolment:
    """Voices by name: the mean of each speaker's embeddings, scaled to one.

    Arguments
    ---------
    decision : Decision
        Calibration and prior of the model's cosines.

    Example
    -------
    >>> enrolment = Enrolment(Decision(10.0, -3.0, 0.5, "nothing"))
    >>> enrolment.add("Ada", np.array([[1.0, 0.1], [1.0, -0.1]]))
    >>> enrolment.add("Bob", np.array([[0.0, 1.0]]))
    >>> enrolment.identify(np.array([0.9, 0.1])).name
    'Ada'
    >>> enrolment.identify(np.array([-1.0, 0.2])).name is None
    True
    """

    def __init__(self, decision: Decision):
        self.decision = decision
        self.voices: dict[str, np.ndarray] = {}

    def add(self, name: str, embeddings: np.ndarray) -> None:
        """Enrol a speaker, in place of an earlier one of that name.

        Arguments
        ---------
        name : str
            The speaker's.
        embeddings : numpy.ndarray
            Of one or more utterances, [D] or [N, D].

        Raises
        ------
        InputError
            The name is empty, an embedding is of length 0 or not finite, or of
            another dimension than those enrolled before.
        """
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"name is {name!r}; give the speaker a name")
        rows = unit_rows(np.atleast_2d(np.asarray(embeddings, np.float32)))
        for other in self.voices.values():
            if len(other) != rows.shape[1]:
                raise InputError(
                    f"the embeddings of {name!r} have {rows.shape[1]} values "
                    f"and those enrolled before {len(other)}; embed all with "
                    "one model"
                )
        self.voices[name] = unit_rows(rows.mean(axis=0, keepdims=True))[0]

    def identify(self, embedding: np.ndarray) -> Identification:
        """Tell who speaks, if anybody who is enrolled.

        A voice is taken for the most alike of those enrolled, if the same
        speaker is then the likelier answer.

        Arguments
        ---------
        embedding : numpy.ndarray
            Of one utterance [D].

        Returns
        -------
        Identification

        Raises
        ------
        InputError
            Nobody is enrolled, or the embedding is of another dimension.
        """
        if not self.voices:
            raise InputError(
                "nobody is enrolled; enrol a speaker first: "
                "verifier.enrol(name, files)"
            )
        names = list(self.voices)
        voices = np.stack([self.voices[name] for name in names])
        row = unit_rows(np.asarray(embedding, np.float32)[None])
        if row.shape[1] != voices.shape[1]:
            raise InputError(
                f"the embedding has {row.shape[1]} values and those enrolled "
                f"{voices.shape[1]}; embed all with one model"
            )
        scores = (voices @ row[0]).astype(float)
        best = int(scores.argmax())
        score = float(scores[best])
        known = score >= self.decision.threshold
        return Identification(
            names[best] if known else None,
            names[best],
            score,
            float(self.decision.probability(score)),
        )
