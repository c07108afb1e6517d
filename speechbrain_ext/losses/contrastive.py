"""Contrastive losses: NT-Xent (SimCLR) and MoCo's, with margins.

Chen et al., "A simple framework for contrastive learning of visual
representations", ICML 2020 (SimCLR, NT-Xent); He et al., "Momentum contrast
for unsupervised visual representation learning", CVPR 2020 (MoCo); margins on
the positives for speakers, Lepage and Dehak, "Additive margin in contrastive
self-supervised frameworks to learn discriminative speaker representations",
Odyssey 2024.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from speechbrain_ext.losses.aam_softmax import add_angle
from speechbrain_ext.utils.distributed import gathered, joined, n_processes
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.precision import single_precision

MARGINS = ("additive", "angular")


class Contrast(torch.nn.Module):
    r"""InfoNCE: cross-entropy of a positive's cosine among negatives.

    .. math:: L = \frac{-1}{N} \sum_i \log \frac
        {e^{m(p_i) / \tau}}
        {e^{m(p_i) / \tau} + \sum_j e^{n_{ij} / \tau}}

    with p the cosine of a row with its positive, n its cosines with its
    negatives, and the margin m(p) = p - m (additive; Wang et al., "CosFace",
    CVPR 2018, Eq. 4) or cos(arccos(p) + m) (angular; Deng et al., "ArcFace",
    CVPR 2019, Eq. 3, continued as in `speechbrain_ext.losses.AAMSoftmax`).

    Arguments
    ---------
    temperature : float
        tau, above 0.
    margin : float
        m, subtracted from the cosine or in radians; 0 for none.
    margin_form : str
        ``"additive"`` or ``"angular"``.

    Raises
    ------
    InputError
        ``margin_form`` is neither.

    Example
    -------
    >>> contrast = Contrast(temperature=1.0, margin=0.5)
    >>> contrast(torch.tensor([0.5]), torch.tensor([[0.0]])).item()
    0.693...
    """

    def __init__(
        self,
        temperature: float = 0.03,
        margin: float = 0.0,
        margin_form: str = "additive",
    ):
        super().__init__()
        if margin_form not in MARGINS:
            raise InputError(
                f"margin_form is {margin_form!r}; it must be one of "
                f"{list(MARGINS)}; correct margin_form of the loss"
            )
        self.temperature = temperature
        self.margin = margin
        self.margin_form = margin_form

    def forward(
        self, positive: torch.Tensor, negatives: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean loss.

        Arguments
        ---------
        positive : torch.Tensor
            Cosines [N], float32.
        negatives : torch.Tensor
            Cosines [N, M]; minus infinity where a pair does not count.

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        if self.margin_form == "angular":
            positive = add_angle(positive, self.margin)
        else:
            positive = positive - self.margin
        rivals = torch.logsumexp(negatives / self.temperature, dim=1)
        return F.softplus(rivals - positive / self.temperature).mean()


class NTXentLoss(torch.nn.Module):
    r"""SimCLR's symmetric loss (NT-Xent) over the batch of all processes.

    Chen et al., "A simple framework for contrastive learning of visual
    representations", ICML 2020, Eq. 1 and Algorithm 1: each of the 2 B
    embeddings of two views is compared with the 2 B - 1 others, of which one
    is its positive. B counts the utterances of all processes; each process
    returns the mean over its own rows, with gradients to the rows of all.

    Arguments
    ---------
    temperature : float
        Temperature by which cosines are divided, above 0.
    margin : float
        Margin of the positives (Lepage and Dehak, Odyssey 2024): subtracted
        from the cosine, or in radians; 0 for none.
    margin_form : str
        ``"additive"`` or ``"angular"``.

    Raises
    ------
    InputError
        ``margin_form`` is neither.

    Example
    -------
    >>> loss = NTXentLoss()
    >>> first = torch.randn(4, 8, requires_grad=True)
    >>> loss(first, first + 0.1 * torch.randn(4, 8)).backward()
    >>> bool(loss(first, first) < loss(first, first.flip(0)))
    True
    """

    def __init__(
        self,
        temperature: float = 0.03,
        margin: float = 0.0,
        margin_form: str = "additive",
    ):
        super().__init__()
        self.contrast = Contrast(temperature, margin, margin_form)

    def forward(
        self, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean loss of this process's utterances.

        Arguments
        ---------
        first, second : torch.Tensor
            Embeddings [B, D] of one view and of the other, of any norm; row i
            of both is of utterance i.

        Returns
        -------
        torch.Tensor
            Scalar, float32.
        """
        with single_precision(first):
            own = F.normalize(torch.cat([first, second]).float(), dim=1)
            cosines = own @ joined(own).T
            n_rows = len(own)
            rows = torch.arange(n_rows, device=own.device)
            itself = rows + _rank() * n_rows
            partner = (rows + len(first)) % n_rows + _rank() * n_rows
            own_columns = torch.stack([itself, partner], dim=1)
            negatives = cosines.scatter(1, own_columns, -torch.inf)
            positive = cosines.gather(1, partner[:, None])[:, 0]
            return self.contrast(positive, negatives)


class MoCoQueue(torch.nn.Module):
    """Queue of the keys of earlier batches.

    He et al., CVPR 2020, section 3.2. It starts with random directions, which
    are easy negatives: the loss rises until keys have replaced them.

    Arguments
    ---------
    n_keys : int
        Number of keys that it holds; new ones replace the oldest.
    size : int
        Dimension D of a key.

    Example
    -------
    >>> queue = MoCoQueue(n_keys=3, size=2)
    >>> for number in range(1, 5):
    ...     queue.push(torch.full((1, 2), float(number)))
    >>> queue.keys
    tensor([[4., 4.],
            [2., 2.],
            [3., 3.]])
    """

    keys: torch.Tensor
    place: torch.Tensor

    def __init__(self, n_keys: int = 32768, size: int = 192):
        super().__init__()
        keys = F.normalize(torch.randn(n_keys, size), dim=1)
        self.register_buffer("keys", keys)
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: torch.Tensor) -> None:
        """Add the keys [B, D] of each process's batch."""
        keys = gathered(keys.float())
        n_keys = len(self.keys)
        rows = torch.arange(len(keys), device=keys.device)
        self.keys[(self.place + rows) % n_keys] = keys
        self.place.copy_((self.place + len(keys)) % n_keys)


class MoCoLoss(torch.nn.Module):
    """MoCo's loss, symmetric in two views, each with a queue of keys.

    He et al., "Momentum contrast for unsupervised visual representation
    learning", CVPR 2020, Eq. 1: a query's positive is the momentum encoder's
    key of the other view; its negatives are keys of that view from earlier
    batches. Both views are queries in turn (Chen et al., "An empirical study
    of training self-supervised vision transformers", ICCV 2021, Algorithm 1).
    Call `push` after each batch, with the same keys.

    Arguments
    ---------
    size : int
        Dimension D of queries and keys.
    n_keys : int
        Number of keys that each queue holds.
    temperature : float
        Temperature by which cosines are divided, above 0.
    margin : float
        Margin of the positives, subtracted from the cosine or in radians; 0
        for none.
    margin_form : str
        ``"additive"`` or ``"angular"``.

    Raises
    ------
    InputError
        ``margin_form`` is neither.

    Example
    -------
    >>> loss = MoCoLoss(size=8, n_keys=16)
    >>> queries = torch.randn(2, 4, 8, requires_grad=True)
    >>> keys = torch.randn(2, 4, 8)
    >>> loss(queries, keys).backward()
    >>> loss.push(keys)
    """

    def __init__(
        self,
        size: int,
        n_keys: int = 32768,
        temperature: float = 0.03,
        margin: float = 0.0,
        margin_form: str = "additive",
    ):
        super().__init__()
        self.contrast = Contrast(temperature, margin, margin_form)
        self.first, self.second = (MoCoQueue(n_keys, size) for _ in range(2))

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor
    ) -> torch.Tensor:
        """Return this process's mean loss; the queues do not change.

        Arguments
        ---------
        queries : torch.Tensor
            Embeddings of two views [2, B, D], of any norm.
        keys : torch.Tensor
            The momentum encoder's embeddings of the same views [2, B, D];
            they get no gradient.

        Returns
        -------
        torch.Tensor
            Scalar, float32.
        """
        with single_precision(queries):
            queries = F.normalize(queries.float(), dim=2)
            others = F.normalize(keys.detach().float(), dim=2).flip(0)
            queues = [self.second.keys, self.first.keys]
            losses = [
                self.contrast((query * key).sum(1), query @ queue.T)
                for query, key, queue in zip(
                    queries, others, queues, strict=True
                )
            ]
            return torch.stack(losses).mean()

    @torch.no_grad()
    def push(self, keys: torch.Tensor) -> None:
        """Add a batch's keys to the queues, after its loss.

        Arguments
        ---------
        keys : torch.Tensor
            The momentum encoder's embeddings of the two views [2, B, D].
        """
        units = F.normalize(keys.float(), dim=2)
        self.first.push(units[0])
        self.second.push(units[1])


def _rank() -> int:
    return torch.distributed.get_rank() if n_processes() > 1 else 0
