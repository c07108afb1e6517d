"""Training objectives, and weights for labels that may be wrong.

Tensors in, tensors out.

May import from: utils.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "aam_softmax": "AAMSoftmax",
        "contrastive": "MoCoLoss NTXentLoss",
        "dino": "DINOLoss",
        "l2_sp": "L2SP",
        "loss_gate": "LossGate correct_labels",
        "noisy_labels": "NoisyLabels",
        "rdino": "rdino_regularizer",
    },
)
