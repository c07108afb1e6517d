"""Settings of the recipe that publishes a model."""

from __future__ import annotations

import dataclasses

from speechbrain_ext.utils.settings import Settings, setting


@dataclasses.dataclass(kw_only=True)
class ExportModel(Settings):
    """Settings of the export: model, card and examples in one folder."""

    recipe = "export_model"

    embedder_folder: str = setting(
        doc="what a train recipe or whiten_embedder wrote", path=True
    )
    embeddings_folder: str = setting(
        doc="embeddings of the test utterances, by that embedder", path=True
    )
    scores_folder: str = setting(
        doc="scores of those, from score_trials with raw and raw+linear",
        path=True,
    )
    run_folder: str | None = setting(
        None,
        "folder above all stages, for the card's history; null: the folder "
        "that holds embedder_folder",
        path=True,
    )
    prior: float = setting(
        0.5,
        "probability of one speaker for which the threshold decides",
        above=0,
        below=1,
    )
    title: str = setting(
        "Speaker embeddings learnt without labels", "title of the card"
    )
    license: str = setting(
        "apache-2.0", "of the weights; mind that of the training data"
    )
    datasets: list[str] = setting(
        [], "ids of the training data on the hub, if it is there"
    )

    push: str | None = setting(
        None,
        "owner/name on the hub to upload to; log in by hf auth login or "
        "HF_TOKEN; null: no upload",
        decides=False,
        group="upload",
    )
    private: bool = setting(
        True,
        "whether a repository that is created is private",
        decides=False,
        group="upload",
    )
    dry_run: bool = setting(
        False,
        "true lists what would be uploaded",
        decides=False,
        group="upload",
    )

    def check_together(self) -> None:
        """Raise InputError if a repository is not named ``owner/name``."""
        if self.push is not None:
            # Imported here, because it loads the hub's client.
            from speechbrain_ext.inference.hub_upload import check_id

            check_id(self.push)
