"""Blocks that compute in full float32, whatever the process does elsewhere."""

import numpy as np
import pytest
import torch
from speechbrain.utils import quirks

from speechbrain_ext.clustering.label_metrics import fit
from speechbrain_ext.losses.aam_softmax import AAMSoftmax
from speechbrain_ext.losses.contrastive import NTXentLoss
from speechbrain_ext.losses.rdino import rdino_regularizer
from speechbrain_ext.models.embedder import WaveEmbedder
from speechbrain_ext.models.heads import DINOHead
from speechbrain_ext.utils.precision import (
    at_least_single,
    full_precision,
    mixed_precision,
    single_precision,
)
from speechbrain_ext.verification.score_norm import cohort_statistics


def flags():
    """Precisions of products and of convolutions, on CUDA and on CPUs."""
    return (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.mkldnn.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,
        torch.backends.cudnn.rnn.fp32_precision,
    )


OFF = ("ieee", "ieee", "none", "none")  # none: as is the default, float32


def as_speechbrain():
    """Allow TF32 as `import speechbrain` does."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True


def as_float32():
    """Forbid it."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def as_medium():
    """Allow bfloat16 too; torch then refuses to name one precision."""
    torch.set_float32_matmul_precision("medium")
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.fixture(params=[as_speechbrain, as_float32, as_medium])
def allowed(request):
    """Flags of a process that does something else than float32."""
    torch.set_float32_matmul_precision("highest")
    request.param()
    yield
    torch.set_float32_matmul_precision("highest")
    as_speechbrain()


def test_speechbrain_allows_tf32():
    """If it no longer did, the contexts would have nothing to do."""
    assert "allow_tf32" in quirks.applied_quirks


def test_tf32_is_off_inside_and_as_before_after(allowed):
    before = flags()
    with full_precision():
        assert flags() == OFF
        with full_precision():
            assert flags() == OFF
        assert flags() == OFF
    assert flags() == before


def test_an_error_inside_restores_it(allowed):
    before = flags()
    with pytest.raises(ValueError, match="inside"), full_precision():
        raise ValueError("inside")
    assert flags() == before


def test_autocast_is_off_too(allowed):
    before, x = flags(), torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with single_precision(x):
            assert flags() == OFF
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16
    assert flags() == before


class Watched(WaveEmbedder):
    """Embedder of nothing but the flags."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.model = torch.nn.Identity()

    def forward(self, wavs, lengths=None):
        torch.matmul(wavs, wavs.T)
        return wavs


def unit(*size):
    return torch.nn.functional.normalize(torch.randn(*size), dim=-1)


# Where float32 is promised: extraction, scoring, clustering, heads and losses.
PROMISES = {
    "extraction": lambda: Watched().embed(torch.ones(2, 8)),
    "scoring": lambda: cohort_statistics(
        unit(2, 4).numpy(), unit(3, 4).numpy(), None
    ),
    "clustering": lambda: fit(
        unit(4, 3).numpy(), np.array([0, 1, 0, 1]), unit(2, 3).numpy()
    ),
    "head": lambda: DINOHead(4, 8)(torch.randn(3, 4)),
    "AAM": lambda: AAMSoftmax(4, 3)(torch.randn(2, 4), torch.tensor([0, 1])),
    "contrastive": lambda: NTXentLoss()(torch.randn(3, 4), torch.randn(3, 4)),
    "RDINO": lambda: rdino_regularizer(torch.randn(2, 5, 4)),
}


class Products(torch.overrides.TorchFunctionMode):
    """Mode that notes the flags at each product of matrices."""

    NAMES = ("matmul", "linear", "__matmul__", "mm", "rmatmul")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in self.NAMES:
            self.seen.append(flags())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("promise", PROMISES)
def test_promised_products_are_in_float32(promise, allowed):
    before = flags()
    with Products() as products:
        PROMISES[promise]()
    assert products.seen
    assert set(products.seen) == {OFF}
    assert flags() == before


def test_fp32_changes_nothing_and_a_product_in_bf16_is_a_sum_in_float32():
    x = torch.full((1, 4096), 1 + 2**-7)
    with mixed_precision("fp32", "cpu"):
        assert (x @ x.T).dtype == torch.float32
    with mixed_precision("bf16", torch.device("cpu")):
        assert (x @ x.T).item() == pytest.approx(4096 * (1 + 2**-7) ** 2, 2e-3)
        with single_precision(x):
            assert (x @ x.T).dtype == torch.float32
    with pytest.raises(ValueError, match="bf8"):
        mixed_precision("bf8", "cpu")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_alone_becomes_float32(given, wanted):
    assert at_least_single(torch.ones(2, dtype=given)).dtype == wanted
