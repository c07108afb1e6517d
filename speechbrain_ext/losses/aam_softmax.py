"""AAM-softmax: classification with an additive angular margin.

Sub-centres and the inter-top-k penalty on the nearest other classes are
options of the one loss; its margin may change during training.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import linear, normalize, softplus

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.precision import single_precision


class AAMSoftmax(torch.nn.Module):
    """AAM-softmax: cross-entropy on cosines with an angular margin.

    Deng et al., "ArcFace", CVPR 2019, Eq. 3: with theta_j the angle between
    an embedding and the prototype of class j, logits are s cos(theta_j) and,
    for the target y, s cos(theta_y + m). Beyond theta_y = pi - m that cosine
    would rise again; there, as in the authors' code, the target's logit is
    s (cos(theta_y) - m sin(m)), which keeps falling.

    Sub-centres (Deng et al., "Sub-center ArcFace", ECCV 2020): a class has
    several prototypes, and its cosine is that of the nearest one. Noisy or
    unlike utterances of a class may then gather around different prototypes.

    Inter-top-k (Zhao et al., "Multi-query multi-head attention pooling and
    inter-topK penalty for speaker verification", ICASSP 2022): the k
    other classes with the highest cosines have the logit s cos(theta_j - m').
    Below theta_j = m' that cosine would fall again; there it is
    s (cos(theta_j) + 1 - cos(m')), which continues it and keeps rising.

    Computed in single precision under autocast too, and as softplus(log-sum-exp
    of the other logits - target logit): small losses keep their digits, which
    `speechbrain_ext.losses.LossGate` needs for their logarithms.

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
    inter_top_k : int
        Number k of other classes that are penalised; 0 for none.
    inter_top_k_margin : float
        Margin m' of these, radians.

    Raises
    ------
    InputError
        ``n_subcentres`` is below 1, or there are fewer than k other classes.

    Example
    -------
    >>> loss = AAMSoftmax(embedding_size=4, n_classes=3, n_subcentres=2)
    >>> embeddings, labels = torch.randn(2, 4), torch.tensor([0, 2])
    >>> loss(embeddings, labels).mean().backward()
    >>> loss(embeddings, labels).shape
    torch.Size([2])
    >>> loss.logits(embeddings).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        embedding_size: int,
        n_classes: int,
        scale: float = 30.0,
        margin: float = 0.2,
        n_subcentres: int = 1,
        inter_top_k: int = 0,
        inter_top_k_margin: float = 0.06,
    ):
        super().__init__()
        _check(n_classes, n_subcentres, inter_top_k)
        self.scale = scale
        self.margin = margin
        self.inter_top_k = inter_top_k
        self.inter_top_k_margin = inter_top_k_margin
        prototypes = torch.empty(n_classes * n_subcentres, embedding_size)
        torch.nn.init.xavier_normal_(prototypes)
        self.prototypes = torch.nn.Parameter(
            prototypes.view(n_classes, n_subcentres, embedding_size)
        )

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of each embedding, not reduced.

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
        """Return scaled cosines without margin: [B, D] to [B, C]."""
        return self.scale * self.cosines(embeddings)

    def cosines(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the cosines [B, C] of embeddings [B, D] with each class.

        Arguments
        ---------
        embeddings : torch.Tensor
            [B, D], of any norm.

        Returns
        -------
        torch.Tensor
            [B, C], float32; of a class's prototypes the nearest one counts.
        """
        with single_precision(embeddings):
            prototypes = normalize(self.prototypes, dim=2)
            cosines = linear(
                normalize(embeddings.float()), prototypes.flatten(0, 1)
            )
            return cosines.unflatten(1, prototypes.shape[:2]).amax(2)

    def losses(
        self, cosines: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of each embedding, given its `cosines`.

        Arguments
        ---------
        cosines : torch.Tensor
            [B, C].
        labels : torch.Tensor
            Target classes [B], int64.

        Returns
        -------
        torch.Tensor
            [B]
        """
        columns = labels[:, None]
        target = add_angle(cosines.gather(1, columns), self.margin)
        others = cosines.scatter(1, columns, -torch.inf)
        if self.inter_top_k:
            near = others.topk(self.inter_top_k)
            penalised = self._penalise(near.values)
            others = others.scatter(1, near.indices, penalised)
        rivals = torch.logsumexp(self.scale * others, dim=1)
        return softplus(rivals - self.scale * target.squeeze(1))

    def _penalise(self, cosine: torch.Tensor) -> torch.Tensor:
        m = self.inter_top_k_margin
        shifted = cosine * math.cos(m) + _sine(cosine) * math.sin(m)
        linear_tail = cosine + 1 - math.cos(m)
        return torch.where(cosine < math.cos(m), shifted, linear_tail)


def add_angle(cosine: torch.Tensor, margin: float) -> torch.Tensor:
    """Return cosines of angles enlarged by a margin; see `AAMSoftmax`.

    Arguments
    ---------
    cosine : torch.Tensor
        cos(theta), any shape.
    margin : float
        m, radians.

    Returns
    -------
    torch.Tensor
        cos(theta + m); beyond theta = pi - m its falling continuation.

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


def _check(n_classes: int, n_subcentres: int, inter_top_k: int) -> None:
    if not isinstance(n_subcentres, int) or n_subcentres < 1:
        raise InputError(
            f"n_subcentres is {n_subcentres!r}; it must be a whole number of "
            "prototypes of a class, 1 or more; correct --n_subcentres"
        )
    if not isinstance(inter_top_k, int) or not 0 <= inter_top_k < n_classes:
        raise InputError(
            f"inter_top_k is {inter_top_k!r}; it must be a whole number from 0 "
            f"to {n_classes - 1}, the number of other classes; correct "
            "--inter_top_k, for example --inter_top_k=0"
        )
