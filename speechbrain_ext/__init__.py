"""Speaker verification without labels, as a SpeechBrain extension.

The package holds the mathematics and the file formats in ten rooms; the
programs that a user runs are in ``recipes/`` and what a user changes is in
``hparams/``.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {"speechbrain_ext.inference.verifier": "SpeakerVerifier"}
)
