"""Split of utterances into training and validation."""

from __future__ import annotations

import numpy as np

from speechbrain_ext.dataio.manifest import Manifest, select
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.groups import place_in_group


def hold_out(
    manifest: Manifest, fraction: float, seed: int
) -> tuple[Manifest, Manifest | None]:
    """Hold out a share of each speaker's utterances, but never all.

    Shares are rounded at random, so that many small speakers together still
    give the fraction asked for.

    Arguments
    ---------
    manifest : Manifest
        Of kind ``pseudo_labels``.
    fraction : float
        Share held out, from 0 to less than 1.
    seed : int
        The same split for the same seed.

    Returns
    -------
    (Manifest, Manifest or None)
        For training and for validation, if any.

    Raises
    ------
    InputError
        The fraction is not a share.

    Example
    -------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"ID": list("abcdef"), "spk_id": list("xxxxyz")})
    >>> train, valid = hold_out(Manifest(table, "pseudo_labels"), 0.5, seed=1)
    >>> sorted(train.spk_id), sorted(valid.spk_id)
    (['x', 'x', 'y', 'z'], ['x', 'x'])
    """
    if not 0 <= fraction < 1:
        raise InputError(
            f"valid_fraction is {fraction}; it must be at least 0 and less "
            "than 1, e.g. --valid_fraction=0.02"
        )
    generator = np.random.default_rng(seed)
    names, speaker = manifest.speakers()
    counts = np.bincount(speaker, minlength=len(names))
    share = np.floor(fraction * counts + generator.random(len(counts)))
    share = np.minimum(share, counts - 1)
    place = place_in_group(speaker, generator.permutation(len(manifest)))
    held = place < share[speaker]
    valid = select(manifest, held) if held.any() else None
    return select(manifest, ~held), valid
