"""L2-SP: an L2 penalty on the distance from the pre-trained weights.

Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning
with convolutional networks", ICML 2018. Miara, Lepage and Dehak, Interspeech
2024, keep a fine-tuned speech encoder near the pre-trained one with it; their
slides and their code have different forms.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from speechbrain_ext.utils.compat import (
    foreach_add_,
    foreach_mul_,
    foreach_norm,
    foreach_sub,
)
from speechbrain_ext.utils.distributed import process_mean
from speechbrain_ext.utils.errors import InputError

FORMS = ("squared", "normalised")
_EPSILON = 1e-5


class L2SP:
    r"""Penalty on the distance of trained weights from their initial values.

    Li et al., ICML 2018. With p a trained tensor, p* its pre-trained
    values, w the weight and CE the classification loss, the forms are

    .. math:: \mathrm{squared:}\quad \mathrm{CE} + w \sum_p |p - p^*|^2

    (the slides of Miara et al., Interspeech 2024) and, with sg for "no
    gradient", that of their code:

    .. math:: \mathrm{normalised:}\quad
        \frac{\mathrm{CE}}{\mathrm{sg}(\mathrm{CE})} +
        w \frac{L}{\mathrm{sg}(L) + 10^{-5}}, \qquad L = \sum_p |p - p^*|

    with Euclidean norms that are not squared. In the second form the gradient
    on a tensor has the norm w / L at any distance. With a hundred tensors that
    moved by 1 each and w = 0.01, that is 0.0001, while the gradient of
    CE / sg(CE) is of the order of 1: the penalty is weak, and the form mainly
    gives batches of low loss more weight.

    The gradients have a closed form, so no graph is built. Call `scale` on
    the loss before ``backward``, and `pull_` after it.

    Arguments
    ---------
    parameters : iterable of torch.nn.Parameter
        Parameters without ``requires_grad`` are left out. The values that
        they have now are the pre-trained ones.
    weight : float
        w; 0.01 in the paper.
    form : str
        ``"squared"`` or ``"normalised"``.

    Raises
    ------
    InputError
        ``form`` is neither.

    Example
    -------
    >>> parameter = torch.nn.Parameter(torch.zeros(2))
    >>> penalty = L2SP([parameter], weight=0.1)
    >>> parameter.data += 3
    >>> loss = penalty.scale((0 * parameter).sum())
    >>> loss.backward()
    >>> penalty.pull_()
    >>> round(penalty.distance(), 3), parameter.grad
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
                f"form is {form!r}; it must be one of {list(FORMS)}; correct "
                "the form of the L2-SP penalty"
            )
        self.parameters = [p for p in parameters if p.requires_grad]
        self.weight = weight
        self.form = form
        self.pretrained = [p.detach().clone() for p in self.parameters]

    def to(self, device: torch.device | str) -> L2SP:
        """Move the pre-trained values to the parameters' device."""
        self.pretrained = [p.to(device) for p in self.pretrained]
        return self

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """Scale the loss's gradient as the form requires; keep its value.

        Arguments
        ---------
        loss : torch.Tensor
            CE of this process, scalar.

        Returns
        -------
        torch.Tensor
            Scalar of the same value.
        """
        if self.form == "squared":
            return loss
        constant = process_mean(loss.detach(), loss.device)
        # The loss is 0 when the gate rejects the whole batch.
        constant = torch.where(constant > 0, constant, 1.0)
        # CE / sg(CE) always has the value 1; logs need the value of CE.
        return loss / constant + (loss - loss / constant).detach()

    @torch.no_grad()
    def pull_(self) -> None:
        """Add the penalty's gradient to each parameter's ``grad``."""
        if not self.parameters:
            return
        gradients = [_gradient(p) for p in self.parameters]
        offsets, norms = self._offsets()
        if self.form == "squared":
            foreach_add_(gradients, offsets, alpha=2 * self.weight)
            return
        # The norm has gradient 0 at the pre-trained values.
        scales = self.weight / (norms.sum() + _EPSILON) / norms
        scales = torch.where(norms > 0, scales, 0.0)
        foreach_mul_(offsets, list(scales.unbind()))
        foreach_add_(gradients, offsets)

    @torch.no_grad()
    def distance(self) -> float:
        """Return the sum of distances of tensors, squared unless normalised."""
        if not self.parameters:
            return 0.0
        norms = self._offsets()[1]
        if self.form == "squared":
            norms = norms.square()
        return float(norms.sum())

    def _offsets(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return each tensor minus its pre-trained values, and norms [P]."""
        offsets = list(foreach_sub(self.parameters, self.pretrained))
        return offsets, torch.stack(foreach_norm(offsets))


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """Return the gradient of a parameter, set to zeros if there is none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
