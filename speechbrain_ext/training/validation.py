"""The EER on a trial list while training: information, never a choice."""

from __future__ import annotations

from typing import Any

from speechbrain_ext.dataio.audio import check_audio
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.trials import check_known
from speechbrain_ext.models.embedder import Embedder
from speechbrain_ext.models.extraction import embed_manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.validation import check_counts
from speechbrain_ext.verification.cosine import cosine_scores, read_trials
from speechbrain_ext.verification.metrics import equal_error_rate


class EerWatch:
    """Scores an embedder by cosine on one trial list.

    Arguments
    ---------
    annotation : str or os.PathLike
        Manifest of the utterances of the trials.
    trials : str or os.PathLike
        The list, ``label enrol test``.
    data_folder : str
        What ``$data_root`` in the manifest stands for.

    Raises
    ------
    InputError
        A file cannot be read, a trial names an unknown utterance, or there
        is no audio.
    """

    def __init__(
        self, annotation: PathLike, trials: PathLike, data_folder: str
    ):
        self.manifest = read_manifest(annotation, "utterances", data_folder)
        check_audio(self.manifest)
        self.trials = read_trials(trials)
        check_known(self.trials, self.manifest.ids, str(annotation))

    def percent(self, embedder: Embedder, num_workers: int = 0) -> float:
        """EER in percent; the work is shared by the processes."""
        embeddings = embed_manifest(embedder, self.manifest, None, num_workers)
        scores = cosine_scores(
            embeddings,
            self.manifest.rows_of(self.trials.enrol),
            self.manifest.rows_of(self.trials.test),
        )
        return 100 * equal_error_rate(scores, self.trials.labels)[0]


def watch_from(settings: dict[str, Any]) -> EerWatch | None:
    """The watch of a recipe's ``eer_*`` settings; None without trials.

    Arguments
    ---------
    settings : dict
        ``eer_trials``, ``eer_annotation``, ``eer_interval`` (epochs) and
        ``data_folder``.

    Returns
    -------
    EerWatch or None
        Ready, its files read.

    Raises
    ------
    InputError
        Trials without an annotation, or no interval; see `EerWatch`.
    """
    if settings["eer_trials"] is None:
        return None
    if settings["eer_annotation"] is None:
        raise InputError(
            f"eer_trials is {settings['eer_trials']} and eer_annotation is "
            "null; give the manifest of the trials' utterances with "
            "--eer_annotation, or leave out --eer_trials"
        )
    check_counts(settings, eer_interval=1)
    return EerWatch(
        settings["eer_annotation"],
        settings["eer_trials"],
        settings["data_folder"],
    )
