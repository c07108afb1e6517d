"""Settings of the recipes that prepare a corpus or convert files."""

from __future__ import annotations

import dataclasses
from typing import Literal

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings, setting

_OFFICIAL = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta"

EmbeddingFormat = Literal["npy", "pt", "kaldi"]
LabelFormat = Literal["speechbrain", "list", "kaldi", "wespeaker"]


@dataclasses.dataclass(kw_only=True)
class PrepareToy(Settings):
    """Settings of a synthetic corpus in the shape of VoxCeleb."""

    recipe = "prepare_toy"

    n_speakers: int = setting(60, "speakers for training", low=1)
    n_test_speakers: int = setting(20, "other speakers, for trials", low=2)
    n_sessions: int = setting(
        4, "sessions of each speaker, each with its own channel", low=2
    )
    n_utterances: int = setting(4, "utterances of each session", low=1)
    min_seconds: float = setting(
        2.5, "shortest utterance (s); lengths are drawn in tenths", low=0.1
    )
    max_seconds: float = setting(3.5, "longest utterance (s)", low=0.1)
    n_trials: int = setting(
        6000, "trials; half are targets, or as many as there are", low=2
    )
    n_sounds: int = setting(
        12, "noises, pieces of music, babble talkers and rooms, each", low=1
    )
    num_workers: int = setting(
        2, "processes that synthesise", low=0, decides=False
    )

    def check_together(self) -> None:
        """Raise InputError if ``min_seconds`` is above ``max_seconds``."""
        if self.min_seconds > self.max_seconds:
            raise InputError(
                f"min_seconds is {self.min_seconds:g}; it must not be above "
                f"max_seconds, {self.max_seconds:g}; lower --min_seconds or "
                "raise --max_seconds"
            )


@dataclasses.dataclass(kw_only=True)
class _PrepareFiles(Settings):
    """Settings that preparing any folder of audio files needs."""

    data_folder: str = setting(
        doc="the audio; $data_root in the manifests stands for it", path=True
    )
    min_duration: float = setting(
        1.0, "shorter training files are rejected (s)", low=0
    )
    convert_to_wav: bool = setting(
        False, "true writes 16 kHz mono PCM16 copies below output_folder"
    )
    num_workers: int = setting(
        4,
        "threads that read headers, or processes that convert",
        low=0,
        decides=False,
    )


@dataclasses.dataclass(kw_only=True)
class PrepareFolder(_PrepareFiles):
    """Settings of preparing any folder of speech."""

    recipe = "prepare_folder"

    # Not `path`: manifests name test files by their path from data_folder.
    test_folder: str | None = setting(
        None, "files kept out of training, for trials"
    )
    trials: dict[str, str] = setting(
        {},
        "name and path of lists of lines `label enrol test`, whose files are "
        "named by their path below test_folder",
        path=True,
    )

    def check_together(self) -> None:
        """Raise InputError for trials without a folder of their files."""
        if self.trials and not self.test_folder:
            raise InputError(
                f"trials is {self.trials}; its lists name files below "
                "test_folder, which is null; give --test_folder=/data/test"
            )


@dataclasses.dataclass(kw_only=True)
class PrepareVoxCeleb(_PrepareFiles):
    """Settings of preparing VoxCeleb, or a corpus of its shape."""

    recipe = "prepare_voxceleb"

    # Not `path`: the manifests contain these names.
    train_wav: str | list[str] = setting(
        "dev/aac", "training files: folder, or folders, below data_folder"
    )
    test_wav: str | list[str] | None = setting(
        "wav", "the same for test files; null for training files only"
    )
    trials: dict[str, str] = setting(
        {},
        "name of each trial list, and its path below data_folder or its "
        "address; {} for official_trials",
        path=True,
    )
    official_trials: dict[str, str] = setting(
        {
            "O": f"{_OFFICIAL}/veri_test2.txt",
            "E": f"{_OFFICIAL}/list_test_all2.txt",
            "H": f"{_OFFICIAL}/list_test_hard2.txt",
        },
        "the lists of VoxCeleb1, cleaned",
        path=True,
    )


@dataclasses.dataclass(kw_only=True)
class MakeOracleLabels(Settings):
    """Settings of true labels for the supervised upper bound."""

    recipe = "make_oracle_labels"

    train_annotation: str = setting(
        doc="train.csv, the utterances to label", path=True
    )
    oracle: str = setting(doc="oracle.csv of the same corpus", path=True)


@dataclasses.dataclass(kw_only=True)
class ConvertEmbeddings(Settings):
    """Settings of converting embeddings between the formats of tools."""

    recipe = "convert_embeddings"

    embeddings: str = setting(
        doc="folder of extract_embeddings, a .npy with its .csv beside it, a "
        ".pt or an .ark",
        path=True,
    )
    from_format: EmbeddingFormat = setting("npy", "format that is read")
    to_format: EmbeddingFormat = setting(doc="format that is written")


@dataclasses.dataclass(kw_only=True)
class ConvertLabels(Settings):
    """Settings of converting labels between the formats of tools."""

    recipe = "convert_labels"

    labels: str = setting(
        doc="file, or folder of Kaldi or wespeaker", path=True
    )
    from_format: LabelFormat = setting("speechbrain", "format that is read")
    to_format: LabelFormat = setting(doc="format that is written")
    train_annotation: str | None = setting(
        None,
        "train.csv: where the audio is and how long; not needed from "
        "speechbrain",
        path=True,
    )
    data_folder: str | None = setting(
        None,
        "what $data_root stands for; needed to write kaldi and wespeaker",
        path=True,
    )

    def check_together(self) -> None:
        """Raise InputError if a format lacks the files that it needs."""
        if self.to_format in ("kaldi", "wespeaker") and not self.data_folder:
            raise InputError(
                f"to_format is '{self.to_format}'; it names audio files by "
                "their paths; give --data_folder, what $data_root in the "
                "manifest stands for"
            )
        if self.from_format != "speechbrain" and not self.train_annotation:
            raise InputError(
                f"from_format is '{self.from_format}'; it does not say how "
                "long utterances are; give the manifest that does, "
                "--train_annotation"
            )
