"""Context-aware MHFA against its equations, as loops, with gradients."""

import pytest
import torch

from speechbrain_ext.models.pooling import MHFA, ContextAwareMHFA


def softmax(values):
    exponentials = [value.exp() for value in values]
    total = sum(exponentials)
    return [value / total for value in exponentials]


def layer_average(weights, hidden, b, t):
    pairs = zip(softmax(weights), hidden, strict=True)
    return sum(weight * layer[b, t] for weight, layer in pairs)


def naive(p, hidden, radius):
    """hidden[l][b][t] is a vector; p has the parameters."""
    _, batch, n_frames, _ = hidden.shape
    queries = p.attention.weight  # [H, channels, 2 R + 1]
    rows = []
    for b in range(batch):
        keys, values = [], []
        for t in range(n_frames):
            k = layer_average(p.key_layers, hidden, b, t)
            v = layer_average(p.value_layers, hidden, b, t)
            keys.append(p.key.weight @ k + p.key.bias)
            values.append(p.value.weight @ v + p.value.bias)
        heads = []
        for query in queries:
            logits = []
            for t in range(n_frames):
                logit = torch.zeros((), dtype=hidden.dtype)
                for r in range(-radius, radius + 1):
                    if 0 <= t + r < n_frames:
                        logit = logit + query[:, r + radius] @ keys[t + r]
                logits.append(logit)
            attention = softmax(logits)
            heads.append(sum(attention[t] * values[t] for t in range(n_frames)))
        rows.append(p.output.weight @ torch.cat(heads) + p.output.bias)
    return torch.stack(rows)


@pytest.mark.parametrize("context", [1, 3, 5])
def test_values_and_gradients_are_those_of_the_equations(context):
    torch.manual_seed(0)
    pooling = ContextAwareMHFA(
        3,
        4,
        n_heads=2,
        context=context,
        compression_size=3,
        embedding_size=5,
    ).double()
    with torch.no_grad():
        pooling.key_layers += torch.randn(3)
        pooling.value_layers += torch.randn(3)
    hidden = torch.randn(3, 2, 6, 4, dtype=torch.double, requires_grad=True)
    inputs = [hidden, *pooling.parameters()]
    direction = torch.randn(2, 5, dtype=torch.double)
    results = []
    for function in (pooling, lambda x: naive(pooling, x, context // 2)):
        value = function(hidden)
        gradients = torch.autograd.grad((value * direction).sum(), inputs)
        results.append([value, *gradients])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow)


def test_one_frame_of_context_is_mhfa_without_bias():
    torch.manual_seed(0)
    sizes = {"n_heads": 2, "compression_size": 3, "embedding_size": 5}
    pooling = ContextAwareMHFA(3, 4, context=1, **sizes)
    plain = MHFA(3, 4, **sizes)
    state = pooling.state_dict()
    state["attention.weight"] = state["attention.weight"][..., 0]
    state["attention.bias"] = torch.zeros(2)
    plain.load_state_dict(state)
    hidden = torch.randn(3, 2, 6, 4)
    torch.testing.assert_close(pooling(hidden), plain(hidden))
