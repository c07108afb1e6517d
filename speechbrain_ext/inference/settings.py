"""Settings of the recipe that publishes a model."""

from __future__ import annotations

import dataclasses

from speechbrain_ext.utils.settings import Settings, setting


@dataclasses.dataclass(kw_only=True)
class ExportModel(Settings):
    """Settings of the export: model, card and examples in one folder."""

    recipe = "export_model"

    embedder_folder: str = setting(
        doc="folder of the embedder, written by a train recipe or "
        "whiten_embedder",
        path=True,
    )
    embeddings_folder: str = setting(
        doc="folder of this embedder's embeddings of the test utterances",
        path=True,
    )
    scores_folder: str = setting(
        doc="folder of the scores of these embeddings, from score_trials with "
        "the back-ends raw and raw+linear",
        path=True,
    )
    run_folder: str | None = setting(
        None,
        "folder that holds the folders of all stages, for the training "
        "history in the card; null: the folder that holds embedder_folder",
        path=True,
    )
    prior: float = setting(
        0.5,
        "prior probability of the same speaker at which the decision "
        "threshold is set",
        above=0,
        below=1,
    )
    title: str = setting(
        "Speaker embeddings learnt without labels", "title of the model card"
    )
    license: str = setting(
        "apache-2.0",
        "licence of the weights; check that the licence of the training "
        "data permits it",
    )
    datasets: list[str] = setting(
        [], "ids of the training data sets on the hub; []: none"
    )

    for_speechbrain: bool = setting(
        True,
        "true writes the files that stock SpeechBrain loads too; false: "
        "SpeakerVerifier alone loads the folder, which is half as large",
    )

    push: str | None = setting(
        None,
        "owner/name of the hub repository to upload to; log in by hf auth "
        "login or HF_TOKEN; null: no upload",
        decides=False,
        group="upload",
    )
    private: bool = setting(
        True,
        "true makes a newly created hub repository private",
        decides=False,
        group="upload",
    )
    dry_run: bool = setting(
        False,
        "true lists what would be uploaded and uploads nothing",
        decides=False,
        group="upload",
    )

    def check_together(self) -> None:
        """Raise InputError if a repository is not named ``owner/name``."""
        if self.push is not None:
            # Imported here, because it loads the hub's client.
            from speechbrain_ext.inference.hub_upload import check_id

            check_id(self.push)
