"""L2 toward the pre-trained weights, while a model is fine-tuned.

Miara, Lepage and Dehak, Interspeech 2024, keep the fine-tuned encoder near
the one that was pre-trained. Their slides and their code differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from speechbrain_ext.utils.distributed import process_mean
from speechbrain_ext.utils.errors import InputError

FORMS = ("squared", "normalised")
_EPSILON = 1e-5


# Their annotations know only some of what they take.
_foreach_add_: Any = torch._foreach_add_
_foreach_sub: Any = torch._foreach_sub


class WeightAnchor:
    r"""The term's gradient, added to those of the loss before a step.

    With p a trained tensor, p* its pre-trained values, w the weight and CE
    the loss of the labels, the forms are

    .. math:: \mathrm{squared:}\quad \mathrm{CE} + w \sum_p |p - p^*|^2

    of the slides, and of the code, with sg for no gradient,

    .. math:: \mathrm{normalised:}\quad
        \frac{\mathrm{CE}}{\mathrm{sg}(\mathrm{CE})} +
        w \frac{L}{\mathrm{sg}(L) + 10^{-5}}, \qquad L = \sum_p |p - p^*|

    with Euclidean norms, not squared. In the second the pull on a tensor has
    the norm w / L however far it has gone: with a hundred tensors that moved
    by 1 each, 0.0001 where that of CE / sg(CE) is of the order of 1, so it
    hardly holds; what it changes is that batches of small loss count more.

    The gradients are known, so no graph is built: they need the pre-trained
    values, kept once on the parameters' device, and a passing difference.

    Arguments
    ---------
    parameters : iterable of torch.nn.Parameter
        Those without ``requires_grad`` are passed over. Their values now are
        the pre-trained ones.
    weight : float
        w; 0.01 in the paper.
    form : str
        ``"squared"`` or ``"normalised"``.

    Raises
    ------
    InputError
        The form is none of these.

    Example
    -------
    >>> parameter = torch.nn.Parameter(torch.zeros(2))
    >>> anchor = WeightAnchor([parameter], weight=0.1)
    >>> parameter.data += 3
    >>> parameter.grad = torch.zeros(2)
    >>> anchor.pull_()
    >>> round(anchor.distance(), 3), parameter.grad
    (18.0, tensor([0.6000, 0.6000]))
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        weight: float = 0.01,
        form: str = "squared",
    ):
        if form not in FORMS:
            raise InputError(
                f"anchor_form is {form!r}; it must be one of {list(FORMS)}"
            )
        self.parameters = [p for p in parameters if p.requires_grad]
        self.weight = weight
        self.form = form
        self.pretrained = [p.detach().clone() for p in self.parameters]

    def to(self, device: torch.device | str) -> WeightAnchor:
        """Move the pre-trained values to where the parameters are."""
        self.pretrained = [p.to(device) for p in self.pretrained]
        return self

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss, whose gradient is the form's and whose value stays.

        Arguments
        ---------
        loss : torch.Tensor
            CE of this process, scalar.
        """
        if self.form == "squared":
            return loss
        constant = process_mean(loss.detach(), loss.device)
        # A batch of which the gate rejects all has no loss.
        constant = torch.where(constant > 0, constant, 1.0)
        # The value of CE / sg(CE) would say nothing.
        return loss / constant + (loss - loss / constant).detach()

    @torch.no_grad()
    def pull_(self) -> None:
        """Add the term's gradient to each parameter's ``grad``."""
        if not self.parameters:
            return
        gradients = [_gradient(p) for p in self.parameters]
        offsets, norms = self._offsets()
        if self.form == "squared":
            _foreach_add_(gradients, offsets, alpha=2 * self.weight)
            return
        # At the pre-trained values the norm has the gradient 0.
        scales = self.weight / (norms.sum() + _EPSILON) / norms
        scales = torch.where(norms > 0, scales, 0.0)
        torch._foreach_mul_(offsets, list(scales.unbind()))
        _foreach_add_(gradients, offsets)

    @torch.no_grad()
    def distance(self) -> float:
        """The sum over tensors: of squares, or of norms."""
        if not self.parameters:
            return 0.0
        norms = self._offsets()[1]
        if self.form == "squared":
            norms = norms.square()
        return float(norms.sum())

    def _offsets(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """How far each tensor has gone, and the norms of that."""
        offsets = list(_foreach_sub(self.parameters, self.pretrained))
        return offsets, torch.stack(torch._foreach_norm(offsets))


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """Its gradient, made of zeros where there is none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
