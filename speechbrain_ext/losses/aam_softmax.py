"""AAM-softmax: classification with an additive angular margin.

Its stronger forms are options of the one loss: sub-centres, a penalty on the
nearest other speakers, a margin that rises.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import linear, normalize, softplus

from speechbrain_ext.utils.errors import InputError


class AAMSoftmax(torch.nn.Module):
    """Cross-entropy on cosines, the target's angle enlarged by a margin.

    Deng et al., "ArcFace", CVPR 2019, Eq. 3: with theta_j the angle between
    an embedding and the prototype of class j, logits are s cos(theta_j) and,
    for the target y, s cos(theta_y + m). Beyond theta_y = pi - m that cosine
    would rise again; there, as in the authors' code and the field's, the
    target's logit is s (cos(theta_y) - m sin(m)), which keeps falling.

    Sub-centres (Deng et al., "Sub-center ArcFace", ECCV 2020): a class has
    several prototypes and an embedding's cosine with it is that with the
    nearest, so that noisy or unlike utterances of a class need not pull at
    one point.

    Inter-top-k (Zhao et al., "Multi-query multi-head attention pooling and
    inter-topK penalty for speaker verification", ICASSP 2022): the k
    other classes nearest an embedding have the logit s cos(theta_j - m').
    Below theta_j = m' that cosine would fall again; there it is
    s (cos(theta_j) + 1 - cos(m')), which continues it and keeps rising.

    Computed in single precision whatever the autocast, and as softplus of
    the other logits' log-sum-exp less the target's: small losses keep their
    digits, so that their logarithm can be gated
    (`speechbrain_ext.losses.loss_gate`).

    Arguments
    ---------
    embedding_size : int
        Dimension D of an embedding.
    n_classes : int
        Speakers C.
    scale : float
        Scale s of the cosines.
    margin : float
        Margin m, radians; the attribute may change during training.
    n_subcentres : int
        Prototypes K of a class.
    n_nearest : int
        Other classes k that are penalised; 0 for none.
    nearest_margin : float
        Their margin m', radians.

    Raises
    ------
    InputError
        There are not so many other classes, or no prototype.

    Example
    -------
    >>> loss = AAMSoftmax(embedding_size=4, n_classes=3, n_subcentres=2)
    >>> loss(torch.randn(2, 4), torch.tensor([0, 2])).shape
    torch.Size([2])
    >>> loss.logits(torch.randn(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        embedding_size: int,
        n_classes: int,
        scale: float = 30.0,
        margin: float = 0.2,
        n_subcentres: int = 1,
        n_nearest: int = 0,
        nearest_margin: float = 0.06,
    ):
        super().__init__()
        _check(n_classes, n_subcentres, n_nearest)
        self.scale = scale
        self.margin = margin
        self.n_nearest = n_nearest
        self.nearest_margin = nearest_margin
        prototypes = torch.empty(n_classes * n_subcentres, embedding_size)
        torch.nn.init.xavier_normal_(prototypes)
        self.prototypes = torch.nn.Parameter(
            prototypes.view(n_classes, n_subcentres, embedding_size)
        )

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
        return self.losses(self.cosines(embeddings), labels)

    def logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Scaled cosines without margin: embeddings [B, D] to [B, C]."""
        return self.scale * self.cosines(embeddings)

    def cosines(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Of embeddings [B, D] with the nearest prototype a class [B, C]."""
        with torch.autocast(embeddings.device.type, enabled=False):
            prototypes = normalize(self.prototypes, dim=2)
            cosines = linear(
                normalize(embeddings.float()), prototypes.flatten(0, 1)
            )
            return cosines.unflatten(1, prototypes.shape[:2]).amax(2)

    def losses(
        self, cosines: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """As `forward`, of cosines [B, C] in place of embeddings."""
        columns = labels[:, None]
        target = add_angle(cosines.gather(1, columns), self.margin)
        others = cosines.scatter(1, columns, -torch.inf)
        if self.n_nearest:
            near = others.topk(self.n_nearest)
            penalised = self._penalise(near.values)
            others = others.scatter(1, near.indices, penalised)
        rivals = torch.logsumexp(self.scale * others, dim=1)
        return softplus(rivals - self.scale * target.squeeze(1))

    def _penalise(self, cosine: torch.Tensor) -> torch.Tensor:
        m = self.nearest_margin
        shifted = cosine * math.cos(m) + _sine(cosine) * math.sin(m)
        linear_tail = cosine + 1 - math.cos(m)
        return torch.where(cosine < math.cos(m), shifted, linear_tail)


def add_angle(cosine: torch.Tensor, margin: float) -> torch.Tensor:
    """Cosines of angles that are larger by a margin; see `AAMSoftmax`.

    Arguments
    ---------
    cosine : torch.Tensor
        cos(theta), any shape.
    margin : float
        m, radians.

    Returns
    -------
    torch.Tensor
        cos(theta + m), and beyond theta = pi - m what keeps falling.

    Example
    -------
    >>> angles = torch.tensor([0.5, 3.1])
    >>> add_angle(angles.cos(), 0.2) - (angles + 0.2).cos()
    tensor([ 0.0000, -0.0514])
    """
    shifted = cosine * math.cos(margin) - _sine(cosine) * math.sin(margin)
    linear_tail = cosine - margin * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), shifted, linear_tail)


def _sine(cosine: torch.Tensor) -> torch.Tensor:
    # A product of differences: 1 - cosine^2 loses the digits of small
    # angles. The clamp keeps the root's gradient finite at angle 0.
    return ((1 - cosine) * (1 + cosine)).clamp(min=1e-7).sqrt()


def _check(n_classes: int, n_subcentres: int, n_nearest: int) -> None:
    if not isinstance(n_subcentres, int) or n_subcentres < 1:
        raise InputError(
            f"n_subcentres is {n_subcentres}; a class has a whole number of "
            "prototypes, 1 or more: correct --n_subcentres"
        )
    if not isinstance(n_nearest, int) or not 0 <= n_nearest < n_classes:
        raise InputError(
            f"n_nearest is {n_nearest} and there are {n_classes - 1} other "
            "classes; penalise as many or fewer, or 0: correct --n_nearest"
        )
