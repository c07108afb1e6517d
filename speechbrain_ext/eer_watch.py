"""The EER on a trial list while training: information, never a choice."""

from __future__ import annotations

from speechbrain_ext.embedder import Embedder
from speechbrain_ext.extraction import embed_manifest
from speechbrain_ext.files import PathLike
from speechbrain_ext.manifest import read_manifest
from speechbrain_ext.metrics import equal_error_rate
from speechbrain_ext.scoring import cosine_scores, read_trials
from speechbrain_ext.trials import check_known


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
        A file cannot be read, or a trial names an unknown utterance.
    """

    def __init__(
        self, annotation: PathLike, trials: PathLike, data_folder: str
    ):
        self.manifest = read_manifest(annotation, "utterances", data_folder)
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
