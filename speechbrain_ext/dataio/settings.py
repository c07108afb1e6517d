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

    n_speakers: int = setting(60, "number of training speakers", low=1)
    n_test_speakers: int = setting(
        20, "number of test speakers, none of them a training speaker", low=2
    )
    n_sessions: int = setting(
        4, "number of sessions per speaker, each with its own channel", low=2
    )
    n_utterances: int = setting(4, "number of utterances per session", low=1)
    min_seconds: float = setting(
        2.5,
        "length of the shortest utterance in seconds; lengths are drawn in "
        "tenths of a second",
        low=0.1,
    )
    max_seconds: float = setting(
        3.5, "length of the longest utterance in seconds", low=0.1
    )
    n_trials: int = setting(
        6000,
        "number of trials; half are target trials, or as many as there are",
        low=2,
    )
    n_sounds: int = setting(
        12,
        "number of noises, of music pieces, of babble talkers and of room "
        "responses, each",
        low=1,
    )
    num_workers: int = setting(
        2,
        "number of processes that synthesise; 0: the main process alone",
        low=0,
        decides=False,
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
        doc="folder of the audio, which $data_root in the manifests stands for",
        path=True,
    )
    min_duration: float = setting(
        1.0, "length in seconds below which a training file is rejected", low=0
    )
    convert_to_wav: bool = setting(
        False,
        "true writes 16 kHz mono PCM16 copies of all files below "
        "output_folder, false of AAC files (m4a) alone, which ffmpeg decodes",
    )
    check_samples: bool = setting(
        True,
        "true decodes each file once and leaves out, with the reason, what is "
        "damaged, cut short, silent or not finite; false reads headers alone, "
        "and such a file stops what reads it later",
    )
    shard_rows: int | None = setting(
        None,
        "utterances of a part, if train.csv is to be a folder of parts; null: "
        "one file",
        low=1,
        decides=False,
    )
    num_workers: int = setting(
        4,
        "number of threads that read files, or of processes that convert",
        low=0,
        decides=False,
    )


@dataclasses.dataclass(kw_only=True)
class PrepareFolder(_PrepareFiles):
    """Settings of preparing any folder of speech."""

    recipe = "prepare_folder"

    # Not `path`: manifests name test files by their path from data_folder.
    test_folder: str | None = setting(
        None, "folder of files kept out of training, for trials; null: none"
    )
    trials: dict[str, str] = setting(
        {},
        "map from names to paths of trial lists with lines `label enrol "
        "test`, which name files by their path below test_folder",
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
        "dev/aac",
        "folder of the training files below data_folder, or a list of folders",
    )
    test_wav: str | list[str] | None = setting(
        "wav",
        "folder of the test files below data_folder, or a list of folders; "
        "null: training files only",
    )
    trials: dict[str, str] = setting(
        {},
        "map from names of trial lists to paths below data_folder or URLs; "
        "{} takes official_trials",
        path=True,
    )
    official_trials: dict[str, str] = setting(
        {
            "O": f"{_OFFICIAL}/veri_test2.txt",
            "E": f"{_OFFICIAL}/list_test_all2.txt",
            "H": f"{_OFFICIAL}/list_test_hard2.txt",
        },
        "map from names to URLs of the cleaned trial lists of VoxCeleb1",
        path=True,
    )


@dataclasses.dataclass(kw_only=True)
class MakeOracleLabels(Settings):
    """Settings of true labels for the supervised upper bound."""

    recipe = "make_oracle_labels"

    train_annotation: str = setting(
        doc="train.csv, the manifest of the utterances to label", path=True
    )
    oracle: str = setting(
        doc="oracle.csv with the true speakers of the same corpus", path=True
    )

    def inputs(self) -> dict[str, str]:
        """Return the files that decide the result, by name."""
        return {
            "train_annotation": self.train_annotation,
            "oracle": self.oracle,
        }


@dataclasses.dataclass(kw_only=True)
class ConvertEmbeddings(Settings):
    """Settings of converting embeddings between the formats of tools."""

    recipe = "convert_embeddings"

    embeddings: str = setting(
        doc="embeddings to convert: a folder of extract_embeddings, a .npy "
        "with its .csv beside it, a .pt, an .ark or an .scp",
        path=True,
    )
    from_format: EmbeddingFormat | Literal["auto"] = setting(
        "auto", "format of the embeddings to convert; auto: as their name tells"
    )
    to_format: EmbeddingFormat = setting(doc="format to write")
    annotation: str | None = setting(
        None,
        "manifest of the utterances to write, in its order; each must have "
        "an embedding, others are left out; null: all that are read",
        path=True,
    )


@dataclasses.dataclass(kw_only=True)
class ConvertLabels(Settings):
    """Settings of converting labels between the formats of tools."""

    recipe = "convert_labels"

    labels: str = setting(
        doc="labels to convert: a file, or a folder in Kaldi's or wespeaker's "
        "format",
        path=True,
    )
    from_format: LabelFormat = setting(
        "speechbrain", "format of the labels to convert"
    )
    to_format: LabelFormat = setting(doc="format to write")
    train_annotation: str | None = setting(
        None,
        "train.csv with the audio path and length of each utterance; null "
        "will do if from_format is speechbrain",
        path=True,
    )
    data_folder: str | None = setting(
        None,
        "folder that $data_root in the manifest stands for; needed to write "
        "kaldi and wespeaker",
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
