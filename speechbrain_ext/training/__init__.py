"""Parts of the training recipes: a Brain base class, data, diagnostics.

May import from: augment, clustering, dataio, losses, models, utils,
verification.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "brain": "TrainingBrain",
        "checkpoints": "WholeCheckpointer",
        "schedules": "cosine exponential linear",
        "view_brain": "ViewBrain",
    },
)
