"""Parts of the training recipes: a Brain base class, data, diagnostics.

May import from: augment, clustering, dataio, losses, models, utils,
verification.
"""

import logging

from speechbrain_ext.utils.lazy import lazy_exports
from speechbrain_ext.utils.terminal import WithoutText

# SpeechBrain's loggers miss torchvision when they are imported, to save images,
# of which speaker verification has none.
logging.getLogger("speechbrain.utils.train_logger").addFilter(
    WithoutText("torchvision is not available")
)

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "brain": "TrainingBrain",
        "checkpoints": "WholeCheckpointer",
        "schedules": "cosine exponential linear",
        "view_brain": "ViewBrain",
    },
)
