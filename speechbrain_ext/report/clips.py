"""Short clips of audio beside a report, bounded in number and size."""

from __future__ import annotations

from pathlib import Path

import soundfile

from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import SAMPLE_RATE, Manifest
from speechbrain_ext.report.page import Clip
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, atomic_path

FOLDER = "report_files"
SECONDS = 4.0  # of a clip
MOST_BYTES = 10_000_000  # of all clips of a report


class ClipCutter:
    """Cutter of clips into the folder beside a page.

    Clips of an earlier report in that folder are removed.

    Arguments
    ---------
    page_folder : str or os.PathLike
        Folder of the page; clips lie in ``report_files`` below it.
    seconds : float
        Longest clip.
    most_bytes : int
        Size of all clips together.

    Example
    -------
    >>> ClipCutter(getfixture("tmp_path")).n_clips
    0
    """

    def __init__(
        self,
        page_folder: PathLike,
        seconds: float = SECONDS,
        most_bytes: int = MOST_BYTES,
    ):
        self.folder = Path(page_folder) / FOLDER
        self.seconds = seconds
        self.bytes_left = most_bytes
        self.n_clips = 0
        self.n_unreadable = 0
        for stale in self.folder.glob("clip*.flac"):
            stale.unlink()

    def cut(self, manifest: Manifest, row: int, words: str) -> Clip | None:
        """Write the begin of an utterance as FLAC.

        Arguments
        ---------
        manifest : Manifest
            Utterances, with ``$data_root`` known.
        row : int
            Which one.
        words : str
            What the clip is, besides its ID.

        Returns
        -------
        Clip or None
            None where the audio cannot be read, for instance because the data
            have moved, or the report has enough clips.
        """
        if self.bytes_left <= 0:
            return None
        start, stop = int(manifest.start[row]), int(manifest.stop[row])
        n_frames = min(stop - start, int(self.seconds * SAMPLE_RATE))
        try:
            path = manifest[manifest.ids[row]]["wav"]
            wav = read_crop(path, start, n_frames)
        except (InputError, OSError):
            self.n_unreadable += 1
            return None
        name = f"clip{self.n_clips + 1:03d}.flac"
        with atomic_path(self.folder / name) as part:
            soundfile.write(part, wav.clamp(-1, 1).numpy(), SAMPLE_RATE)
            self.bytes_left -= part.stat().st_size
        self.n_clips += 1
        return Clip(
            ": ".join(filter(None, [manifest.ids[row], words])),
            f"{FOLDER}/{name}",
        )
