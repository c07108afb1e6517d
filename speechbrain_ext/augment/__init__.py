"""Augmentation: noise, reverberation and channels, drawn for each crop.

May import from: dataio, utils.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "augmenter": "Augment",
    },
)
