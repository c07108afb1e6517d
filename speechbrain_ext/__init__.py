"""Speaker verification without labels, as a SpeechBrain extension.

The package holds the mathematics and the file formats; the programs that a
user runs are in ``recipes/`` and what a user changes is in ``hparams/``.
"""

__version__ = "0.1.0"
