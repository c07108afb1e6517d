"""AAM-softmax: classification with an additive angular margin."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import cross_entropy, linear, normalize


class AAMSoftmax(torch.nn.Module):
    """Cross-entropy on cosines, the target's angle enlarged by a margin.

    Deng et al., "ArcFace", CVPR 2019, Eq. 3: with theta_j the angle between
    an embedding and the prototype of class j, logits are s cos(theta_j) and,
    for the target y, s cos(theta_y + m). Beyond theta_y = pi - m that cosine
    would rise again; there, as in the authors' code and the field's, the
    target's logit is s (cos(theta_y) - m sin(m)), which keeps falling.
    Computed in single precision whatever the autocast.

    Arguments
    ---------
    embedding_size : int
        Dimension D of an embedding.
    n_classes : int
        Speakers.
    scale : float
        Scale s of the cosines.
    margin : float
        Margin m, radians; the attribute may change during training.

    Example
    -------
    >>> loss = AAMSoftmax(embedding_size=4, n_classes=3)
    >>> loss(torch.randn(2, 4), torch.tensor([0, 2])).shape
    torch.Size([2])
    """

    def __init__(
        self,
        embedding_size: int,
        n_classes: int,
        scale: float = 30.0,
        margin: float = 0.2,
    ):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.prototypes = torch.nn.Parameter(
            torch.empty(n_classes, embedding_size)
        )
        torch.nn.init.xavier_normal_(self.prototypes)

    def logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Scaled cosines without margin: embeddings [B, D] to [B, C]."""
        return self.scale * self._cosines(embeddings)

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Loss of each embedding.

        Arguments
        ---------
        embeddings : torch.Tensor
            [B, D], of any norm.
        labels : torch.Tensor
            Target classes [B], int64.

        Returns
        -------
        torch.Tensor
            [B]
        """
        cosines = self._cosines(embeddings)
        target = cosines.gather(1, labels[:, None])
        with_margin = self._add_margin(target)
        logits = self.scale * cosines.scatter(1, labels[:, None], with_margin)
        return cross_entropy(logits, labels, reduction="none")

    def _cosines(self, embeddings: torch.Tensor) -> torch.Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            return linear(
                normalize(embeddings.float()), normalize(self.prototypes)
            )

    def _add_margin(self, cosine: torch.Tensor) -> torch.Tensor:
        # A product of differences: 1 - cosine^2 loses the digits of small
        # angles. The clamp keeps the root's gradient finite at angle 0.
        sine = ((1 - cosine) * (1 + cosine)).clamp(min=1e-7).sqrt()
        m = self.margin
        shifted = cosine * math.cos(m) - sine * math.sin(m)
        linear_tail = cosine - m * math.sin(m)
        return torch.where(cosine > -math.cos(m), shifted, linear_tail)
