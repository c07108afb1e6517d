"""Safe loading, use and sharing of a published model.

May import from: clustering, commands, dataio, models, utils.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "enrolment": "Enrolment",
        "grouping": "group_embeddings",
        "verifier": "SpeakerVerifier",
    },
)
