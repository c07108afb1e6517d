"""Settings of the recipe that publishes a model."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from speechbrain_ext.models.settings import embedder_files
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike
from speechbrain_ext.utils.settings import Settings, setting

_RECORD = "stage.json"  # the stage record of a finished recipe
# Rules of the hub for what the card's front matter names.
_DATASET = re.compile(r"[\w.-]+(/[\w.-]+)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_LICENSE = re.compile(r"[\w.+-]+")


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
    base_models: list[str] = setting(
        [],
        "ids on the hub of the encoders that the weights began as; []: those "
        "that the records of the trainings name",
    )
    languages: list[str] = setting(
        [], "codes of the languages of the training speech, as en; []: unsaid"
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

    def inputs(self) -> dict[str, PathLike]:
        """Return the files that decide the result, by name."""
        return {
            **embedder_files(self.embedder_folder),
            "embeddings_receipt": Path(self.embeddings_folder) / _RECORD,
            "scores_receipt": Path(self.scores_folder) / _RECORD,
        }

    def check_together(self) -> None:
        """Raise InputError for what the hub, or its card, does not take."""
        self._check_card()
        if self.push is not None:
            # Imported here, because it loads the hub's client.
            from speechbrain_ext.inference.hub_upload import check_id

            check_id(self.push)

    def _check_card(self) -> None:
        for key in ("datasets", "base_models"):
            for name in getattr(self, key):
                if not _DATASET.fullmatch(name):
                    raise InputError(
                        f"{key} has {name!r}; an id on the hub is a name or "
                        "owner/name, of letters, digits, dots and dashes; "
                        f'correct it, for example --{key}="[me/voices]"'
                    )
        for code in self.languages:
            if not _LANGUAGE.fullmatch(code):
                raise InputError(
                    f"languages has {code!r}; a language has a code of two or "
                    'three letters; correct it, for example --languages="[en]"'
                )
        if not _LICENSE.fullmatch(self.license):
            raise InputError(
                f"license is {self.license!r}; it must be an id of the hub, of "
                "letters, digits, dots and dashes; correct it, for example "
                "--license=cc-by-4.0"
            )
        if not self.title.strip() or not self.title.isprintable():
            raise InputError(
                f"title is {self.title!r}; it must be one line of text; "
                "correct --title"
            )
