"""What the Brains of the training recipes are made of.

May import from: augment, clustering, dataio, losses, models, utils,
verification.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "schedules": "cosine exponential linear",
    },
)
