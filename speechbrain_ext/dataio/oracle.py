"""True speakers, for reports and the supervised upper bound only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from speechbrain_ext.dataio.manifest import (
    Manifest,
    read_manifest,
    write_manifest,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike


def true_speakers(path: PathLike, manifest: Manifest) -> np.ndarray:
    """Read the true speaker of each utterance of a manifest.

    Arguments
    ---------
    path : str or os.PathLike
        ``oracle.csv``; it may hold further utterances.
    manifest : Manifest
        The utterances [N].

    Returns
    -------
    numpy.ndarray
        Speaker names [N].

    Raises
    ------
    InputError
        The oracle lacks an utterance.

    Example
    -------
    >>> import pandas as pd
    >>> path = getfixture("tmp_path") / "oracle.csv"
    >>> _ = path.write_text("ID,spk_id\\na,ann\\nb,bob\\n")
    >>> wanted = Manifest(pd.DataFrame({"ID": ["b"]}), "utterances")
    >>> true_speakers(path, wanted).tolist()
    ['bob']
    """
    oracle = read_manifest(path, "oracle")
    rows = oracle.rows_of(manifest.ids)
    if (rows < 0).any():
        raise InputError(
            f"{path} lacks {int((rows < 0).sum())} of {len(manifest)} "
            f"utterances, the first is {manifest.ids[np.argmin(rows)]!r}; "
            "give the oracle.csv of the same corpus, or null"
        )
    return oracle.spk_id[rows]


def write_oracle(path: PathLike, ids: Sequence[str]) -> int:
    """Write true speakers of a VoxCeleb-shaped corpus; return their number.

    There an ID is ``speaker/session/utterance.wav``. Only reports and the
    supervised upper bound read this file.

    Example
    -------
    >>> path = getfixture("tmp_path") / "oracle.csv"
    >>> write_oracle(path, ["s1/a/1.wav", "s1/b/1.wav"])
    1
    >>> path.read_text().splitlines()[1]
    's1/a/1.wav,s1'
    """
    speakers = [name.split("/", 1)[0] for name in ids]
    table = pd.DataFrame({"ID": ids, "spk_id": speakers})
    write_manifest(path, table, "oracle")
    return len(set(speakers))
