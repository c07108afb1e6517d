"""EER on a trial list during training; it is logged only."""

from __future__ import annotations

from speechbrain_ext.dataio.audio import check_audio
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.trials import check_known
from speechbrain_ext.models.embedder import Embedder
from speechbrain_ext.models.extraction import embed_manifest
from speechbrain_ext.training.settings import TrainingSettings
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.verification.cosine import cosine_scores, read_trials
from speechbrain_ext.verification.metrics import equal_error_rate


class TrialValidation:
    """EER of an embedder by cosine on one trial list.

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
        """Compute the EER in percent; the processes share the work."""
        embeddings = embed_manifest(embedder, self.manifest, None, num_workers)
        scores = cosine_scores(
            embeddings,
            *self.trials.of_sides(self.manifest.rows_of(self.trials.names)),
        )
        return 100 * equal_error_rate(scores, self.trials.labels)[0]


def build_validation(settings: TrainingSettings) -> TrialValidation | None:
    """Build the validation that ``eer_*`` settings describe, or None.

    Arguments
    ---------
    settings : TrainingSettings
        Of the recipe.

    Returns
    -------
    TrialValidation or None
        Ready, its files read; None without ``eer_trials``.

    Raises
    ------
    InputError
        See `TrialValidation`.
    """
    if settings.eer_trials is None or settings.eer_annotation is None:
        return None
    return TrialValidation(
        settings.eer_annotation, settings.eer_trials, settings.data_folder
    )
