"""Safe loading, use and sharing of a published model.

May import from: dataio, models, utils.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "verifier": "SpeakerVerifier",
    },
)
