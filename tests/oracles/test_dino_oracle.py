"""DINO against its equations, in loops over pairs, utterances, prototypes."""

import copy
import math

import pytest
import torch

from speechbrain_ext.losses.dino import DINOLoss, target_statistics
from speechbrain_ext.models.heads import DINOHead
from speechbrain_ext.models.momentum_teacher import MomentumTeacher

# Student views, teacher views, utterances, prototypes.
SHAPES = [(2, 1, 1, 3), (2, 2, 3, 5), (3, 1, 2, 4), (6, 2, 4, 7), (4, 3, 1, 9)]
TEMPERATURES = [(0.1, 0.04), (0.2, 0.07), (1.0, 1.0)]


def softmax(logits):
    highest = max(logits)
    powers = [math.exp(x - highest) for x in logits]
    return [power / sum(powers) for power in powers]


def naive_loss(student, teacher, center, tau_s, tau_t):
    """Caron et al. 2021, Eq. 3, and its gradient by the student's logits."""
    n_views, n_utterances, n_prototypes = student.shape
    student, teacher = student.tolist(), teacher.tolist()
    pairs = [
        (t, s)
        for t in range(len(teacher))
        for s in range(n_views)
        if t != s  # the same crop
    ]
    total = 0.0
    gradient = torch.zeros(
        n_views, n_utterances, n_prototypes, dtype=torch.double
    )
    weight = 1 / (len(pairs) * n_utterances)
    for t, s in pairs:
        for b in range(n_utterances):
            centred = [
                x - c for x, c in zip(teacher[t][b], center, strict=True)
            ]
            target = softmax([x / tau_t for x in centred])
            guess = softmax([x / tau_s for x in student[s][b]])
            for k in range(n_prototypes):
                total -= weight * target[k] * math.log(guess[k])
                gradient[s, b, k] += weight * (guess[k] - target[k]) / tau_s
    return total, gradient


def naive_mean(teacher):
    """The mean output over views and utterances."""
    rows = [row for view in teacher.tolist() for row in view]
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def outputs(shape, seed=0):
    n_student, n_teacher, n_utterances, n_prototypes = shape
    generator = torch.Generator().manual_seed(seed)
    size = n_utterances, n_prototypes
    cosines = torch.rand(n_student + n_teacher, *size, generator=generator)
    student, teacher = (2 * cosines - 1).split([n_student, n_teacher])
    return student.requires_grad_(), teacher.requires_grad_()


@pytest.mark.parametrize(("tau_s", "tau_t"), TEMPERATURES)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient_are_those_of_the_equation(shape, tau_s, tau_t):
    student, teacher = outputs(shape)
    loss = DINOLoss(shape[-1], tau_s)
    center = torch.linspace(-0.3, 0.5, shape[-1])
    loss.center.copy_(center)
    value = loss(student, teacher, tau_t)
    value.backward()
    expected, gradient = naive_loss(
        student, teacher, center.tolist(), tau_s, tau_t
    )
    assert value.item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(
        student.grad.double(), gradient, rtol=1e-4, atol=1e-6
    )


def test_many_prototypes_lose_no_digits():
    """Against double precision, at the size that is trained."""
    generator = torch.Generator().manual_seed(0)
    cosines = 2 * torch.rand(5, 2, 65536, generator=generator) - 1
    student, teacher = cosines.split([3, 2])
    student.requires_grad_()
    loss = DINOLoss(65536)
    value = loss.eval()(student, teacher, 0.04)
    value.backward()
    exact = student.detach().double().requires_grad_()
    targets = (teacher.double() / 0.04).softmax(-1)
    log_guesses = (exact / 0.1).log_softmax(-1)
    total = sum(
        -(targets[t, b] * log_guesses[s, b]).sum() / (2 * 4)
        for t in range(2)
        for s in range(3)
        for b in range(2)
        if t != s
    )
    total.backward()
    assert value.item() == pytest.approx(total.item(), rel=5e-6)
    torch.testing.assert_close(
        student.grad.double(), exact.grad, rtol=0, atol=5e-6 / 0.1 / 8
    )


@pytest.mark.parametrize("shape", [(1, 3), (4, 7), (2, 3, 5), (2, 2, 3, 4)])
def test_target_statistics_are_those_of_each_distribution(shape):
    generator = torch.Generator().manual_seed(0)
    targets = (5 * torch.randn(shape, generator=generator)).softmax(-1)
    # Underflow to zero: 0 log 0 is 0.
    targets[..., 0] = 0
    targets /= targets.sum(-1, keepdim=True)
    rows = targets.flatten(0, -2).tolist()
    entropies = [-sum(p * math.log(p) for p in row if p > 0) for row in rows]
    entropy, mean = target_statistics(targets)
    assert entropy.item() == pytest.approx(sum(entropies) / len(rows), rel=1e-5)
    expected = [sum(c) / len(rows) for c in zip(*rows, strict=True)]
    assert mean.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_teacher_gets_no_gradient():
    student, teacher = outputs((4, 2, 3, 5))
    DINOLoss(5)(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_centre_is_an_exponential_mean_used_one_step_later(momentum):
    """Eq. 4 over several batches."""
    loss = DINOLoss(7, center_momentum=momentum)
    center = [0.0] * 7
    for seed in range(4):
        student, teacher = outputs((6, 2, 4, 7), seed)
        value = loss(student, teacher, 0.04)
        expected, _ = naive_loss(student, teacher, center, 0.1, 0.04)
        assert value.item() == pytest.approx(expected, rel=1e-5)
        mean = naive_mean(teacher)
        center = [
            momentum * old + (1 - momentum) * new
            for old, new in zip(center, mean, strict=True)
        ]
        assert loss.center.tolist() == pytest.approx(center, abs=1e-6)


def test_the_teacher_is_an_exponential_mean_of_the_student():
    """theta_t <- m theta_t + (1 - m) theta_s, with m that changes."""
    torch.manual_seed(0)
    student = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.PReLU())
    teacher = MomentumTeacher(student)
    names = dict(student.named_parameters())
    expected = {n: p.flatten().tolist() for n, p in names.items()}
    for step, momentum in enumerate((0.9, 0.99, 0.0, 0.5, 0.996)):
        for parameter in student.parameters():
            torch.nn.init.normal_(parameter, std=1 + step)
        teacher.update(student, momentum)
        for name, parameter in student.named_parameters():
            values = parameter.flatten().tolist()
            expected[name] = [
                momentum * t + (1 - momentum) * s
                for t, s in zip(expected[name], values, strict=True)
            ]
    for name, parameter in teacher.model.named_parameters():
        found = parameter.flatten().tolist()
        assert found == pytest.approx(expected[name], abs=1e-5), name


def naive_linear(x, layer):
    return [
        [
            sum(w * value for w, value in zip(row, xs, strict=True)) + bias
            for row, bias in zip(
                layer.weight.tolist(), layer.bias.tolist(), strict=True
            )
        ]
        for xs in x
    ]


def naive_batch_norm_gelu(x, layer):
    columns = []
    for column, gain, bias in zip(
        zip(*x, strict=True),
        layer.weight.tolist(),
        layer.bias.tolist(),
        strict=False,
    ):
        mean = sum(column) / len(column)
        variance = sum((v - mean) ** 2 for v in column) / len(column)
        scale = gain / math.sqrt(variance + layer.eps)
        normed = [(v - mean) * scale + bias for v in column]
        columns.append(
            [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in normed]
        )
    return list(zip(*columns, strict=True))


def naive_cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_the_head_gives_cosines_with_its_prototypes():
    torch.manual_seed(0)
    head = DINOHead(5, hidden_size=6, bottleneck_size=3, n_prototypes=4)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(8, 5)
    hidden = x.tolist()
    for first in (0, 3):
        hidden = naive_linear(hidden, head.mlp[first])
        hidden = naive_batch_norm_gelu(hidden, head.mlp[first + 1])
    hidden = naive_linear(hidden, head.mlp[6])
    expected = [
        [naive_cosine(row, prototype) for prototype in head.prototypes.tolist()]
        for row in hidden
    ]
    torch.testing.assert_close(
        head(x), torch.tensor(expected), rtol=1e-4, atol=1e-5
    )


def test_an_expanded_head_has_one_more_linear_layer():
    torch.manual_seed(0)
    head = DINOHead(5, 6, 3, n_prototypes=4, expander_size=7)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(8, 5)
    hidden = x.tolist()
    for first in (0, 3):
        hidden = naive_linear(hidden, head.mlp[first])
        hidden = naive_batch_norm_gelu(hidden, head.mlp[first + 1])
    expansion = naive_linear(hidden, head.mlp[6])
    bottleneck = naive_linear(expansion, head.bottleneck)
    expected = [
        [naive_cosine(row, prototype) for prototype in head.prototypes.tolist()]
        for row in bottleneck
    ]
    torch.testing.assert_close(
        head.expand(x), torch.tensor(expansion), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        head(x), torch.tensor(expected), rtol=1e-4, atol=1e-5
    )


def test_a_collapse_to_uniform_is_stuck_at_the_logarithm_of_k():
    for n_prototypes in (16, 1024):
        flat = torch.full((4, 3, n_prototypes), 0.3, requires_grad=True)
        loss = DINOLoss(n_prototypes)(flat, flat[:2])
        loss.backward()
        assert loss.item() == pytest.approx(math.log(n_prototypes), rel=1e-5)
        assert flat.grad.abs().max() < 1e-6


def test_the_centre_undoes_a_collapse_to_one_prototype():
    loss = DINOLoss(16)
    one_hot = torch.zeros(2, 3, 16)
    one_hot[..., 5] = 1.0
    sharp = loss.targets(one_hot, 0.04)
    assert sharp[..., 5].min() > 0.99
    for _ in range(60):
        loss.update_center(one_hot)
    flat = loss.targets(one_hot, 0.04)
    torch.testing.assert_close(
        flat, torch.full_like(flat, 1 / 16), rtol=0, atol=5e-3
    )


def test_the_loss_is_never_below_the_teachers_entropy():
    student, teacher = outputs((2, 1, 3, 8))
    loss = DINOLoss(8, student_temperature=0.04)
    target = loss.targets(teacher, 0.04)
    entropy = -(target * target.log()).sum(-1).mean()
    assert loss.eval()(student, teacher, 0.04) > entropy
    perfect = torch.cat([copy.deepcopy(student.detach()[:1]), teacher.detach()])
    value = loss(perfect, teacher, 0.04)
    torch.testing.assert_close(value, entropy, rtol=1e-5, atol=1e-5)
