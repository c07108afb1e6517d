"""MHFA against its equations, written as loops, with gradients."""

import torch

from speechbrain_ext.models.pooling import MHFA


def softmax(values):
    exponentials = [value.exp() for value in values]
    total = sum(exponentials)
    return [value / total for value in exponentials]


def naive(p, hidden):
    """hidden[l][b][t] is a vector; p has the parameters."""
    n_layers, batch, n_frames, _ = hidden.shape
    key_layers, value_layers = softmax(p.key_layers), softmax(p.value_layers)
    rows = []
    for b in range(batch):
        keys, values = [], []
        for t in range(n_frames):
            k = sum(key_layers[i] * hidden[i, b, t] for i in range(n_layers))
            v = sum(value_layers[i] * hidden[i, b, t] for i in range(n_layers))
            keys.append(p.key.weight @ k + p.key.bias)
            values.append(p.value.weight @ v + p.value.bias)
        heads = []
        for h in range(len(p.attention.bias)):
            a = p.attention
            logits = [a.weight[h] @ k + a.bias[h] for k in keys]
            attention = softmax(logits)
            heads.append(sum(attention[t] * values[t] for t in range(n_frames)))
        rows.append(p.output.weight @ torch.cat(heads) + p.output.bias)
    return torch.stack(rows)


def test_values_and_gradients_are_those_of_the_equations():
    torch.manual_seed(0)
    pooling = MHFA(3, 4, n_heads=2, compression_size=3, embedding_size=5)
    pooling = pooling.double()
    with torch.no_grad():
        pooling.key_layers += torch.randn(3)
        pooling.value_layers += torch.randn(3)
    hidden = torch.randn(3, 2, 6, 4, dtype=torch.double, requires_grad=True)
    inputs = [hidden, *pooling.parameters()]
    direction = torch.randn(2, 5, dtype=torch.double)
    results = []
    for function in (pooling, lambda x: naive(pooling, x)):
        value = function(hidden)
        gradients = torch.autograd.grad((value * direction).sum(), inputs)
        results.append([value, *gradients])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow)
