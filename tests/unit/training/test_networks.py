"""Networks that compute their blocks again: less memory, the same step."""

import copy

import pytest
import torch
import training_leaf
from torch.profiler import ProfilerActivity, profile

from speechbrain_ext.models.embedder import build_embedder
from speechbrain_ext.training.dino import build_dino
from speechbrain_ext.training.networks import new_embedder, recompute_blocks_
from speechbrain_ext.utils.distributed import share_batch_norm
from speechbrain_ext.utils.errors import InputError

ECAPA = {"n_mels": 20, "width": 32, "width_last": 96, "embedding_size": 8}
RESNET = {
    "n_mels": 20,
    "channels": [4, 4, 8, 8],
    "blocks": [1, 1, 1, 1],
    "embedding_size": 8,
}
HEAD = {"hidden_size": 32, "bottleneck_size": 16, "n_prototypes": 64}


def networks(**changes):
    torch.manual_seed(0)
    leaf = training_leaf.read(
        "train_dino_ecapa", embedder=ECAPA, head=HEAD, batch_size=4, **changes
    )
    return build_dino(leaf.settings, leaf.objects(), 20).modules


def step_of(module, *crops):
    """Loss, gradients and buffers of a step, and what the next one sees."""
    torch.manual_seed(1)
    found = []
    for _ in range(2):
        out = module(*crops)
        out = out.cosines if hasattr(out, "cosines") else out
        loss = (out * torch.linspace(-1, 1, out.shape[-1])).square().mean()
        loss.backward()
        found.append(loss.detach())
    gradients = {n: p.grad for n, p in module.named_parameters()}
    return found, gradients, dict(module.named_buffers())


def assert_same_step(plain, other):
    losses, gradients, buffers = plain
    losses_too, gradients_too, buffers_too = other
    assert losses == losses_too
    assert gradients.keys() == gradients_too.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_too[name], gradient, msg=name)
    assert buffers.keys() == buffers_too.keys()
    for name, buffer in buffers.items():
        assert torch.equal(buffer, buffers_too[name]), name
    assert any("running_mean" in name for name in buffers)


def views(seconds=0.3):
    torch.manual_seed(2)
    n_frames = int(16000 * seconds)
    return torch.randn(2, 4, n_frames), torch.randn(4, 4, n_frames // 2)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_dino_step_with_blocks_computed_again_is_the_plain_step(precision):
    steps = []
    for recompute in (False, True):
        modules = networks(recompute_blocks=recompute)
        enabled = precision != torch.float32
        with torch.autocast("cpu", dtype=precision, enabled=enabled):
            modules["teacher"](views()[0])
            steps.append(step_of(modules["student"], *views()))
        # Its names are those of checkpoints and embedder folders.
        names = modules["student"].state_dict().keys()
        assert names == modules["teacher"].model.state_dict().keys()
    assert_same_step(*steps)


@pytest.mark.parametrize(
    ("path", "sizes"), [("ecapa", ECAPA), ("resnet", RESNET)]
)
@pytest.mark.parametrize("shared", [False, True])
def test_running_statistics_count_a_batch_once(path, sizes, shared):
    torch.manual_seed(0)
    plain = build_embedder(f"embedders/{path}.yaml", sizes)
    if shared:
        share_batch_norm(plain, "cpu")
    other = copy.deepcopy(plain)
    recompute_blocks_(other)
    wavs = torch.randn(4, 8000)
    assert_same_step(step_of(plain, wavs), step_of(other, wavs))


def test_dropout_draws_the_same_again():
    torch.manual_seed(0)
    plain = build_embedder("embedders/ecapa.yaml", ECAPA)
    for module in plain.modules():
        if isinstance(module, torch.nn.Dropout1d):
            module.p = 0.3
    other = copy.deepcopy(plain)
    recompute_blocks_(other)
    wavs = torch.randn(4, 8000)
    assert_same_step(step_of(plain, wavs), step_of(other, wavs))


def peak_bytes(run):
    """Most bytes that are allocated at a time, beyond those at the start."""
    run()
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as seen:
        run()
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def test_blocks_computed_again_take_less_than_half_of_the_memory():
    crops = views(seconds=1.0)
    peaks = []
    for recompute in (False, True):
        student = networks(recompute_blocks=recompute)["student"]

        def step(student=student):
            student(*crops).cosines.mean().backward()
            student.zero_grad()

        peaks.append(peak_bytes(step))
    assert peaks[1] < 0.5 * peaks[0], peaks


def test_an_encoder_has_a_key_of_its_own_which_is_named():
    from tiny_whisper import MHFA

    embedder = build_embedder("embedders/whisper_mhfa.yaml", MHFA)
    with pytest.raises(InputError, match="checkpoint_layers: True"):
        recompute_blocks_(embedder)


def test_a_model_without_blocks_is_refused():
    embedder = build_embedder("embedders/xvector.yaml")
    with pytest.raises(InputError, match="Xvector has none"):
        recompute_blocks_(embedder)


def test_random_weights_of_an_encoder_are_said(caplog):
    from tiny_whisper import MHFA

    leaf = training_leaf.read(
        "train_speaker_encoder_mhfa",
        embedder_yaml="embedders/whisper_mhfa.yaml",
        embedder=MHFA,
    )
    assert new_embedder(leaf.settings).is_random
    assert "random encoder" in caplog.text
