"""Contracts of the private names of other libraries that we rely on."""

import ast
import inspect
import operator

import pytest
import speechbrain as sb
import torch
from house import PACKAGE, ROOT
from speechbrain.nnet.pooling import StatisticsPooling
from tiny_wavlm import TINY
from tiny_whisper import TINY as TINY_WHISPER
from transformers import AutoConfig, AutoModel
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from speechbrain_ext.models.speech_encoder import SpeechEncoder
from speechbrain_ext.utils import compat

SOURCES = [
    *PACKAGE.glob("*/*.py"),
    *ROOT.glob("recipes/*.py"),
    *ROOT.glob("benchmarks/*.py"),
    *ROOT.glob("tutorials/*.py"),
]
# Where `torch._...` may stand.
COMPAT = PACKAGE / "utils" / "compat.py"


def pair():
    return [torch.tensor([3.0, 4.0]), torch.tensor([[1.0]])]


def test_foreach_add_adds_scaled_tensors_in_place():
    tensors = pair()
    compat.foreach_add_(tensors, pair(), alpha=2)
    assert [t.tolist() for t in tensors] == [[9.0, 12.0], [[3.0]]]


def test_foreach_sub_leaves_its_operands():
    tensors = pair()
    found = compat.foreach_sub(tensors, [torch.ones(2), torch.ones(1, 1)])
    assert [t.tolist() for t in found] == [[2.0, 3.0], [[0.0]]]
    assert [t.tolist() for t in tensors] == [[3.0, 4.0], [[1.0]]]


def test_foreach_mul_takes_a_scalar_tensor_for_each():
    tensors = pair()
    compat.foreach_mul_(tensors, list(torch.tensor([2.0, 5.0]).unbind()))
    assert [t.tolist() for t in tensors] == [[6.0, 8.0], [[5.0]]]


def test_foreach_norm_is_euclidean():
    assert [t.item() for t in compat.foreach_norm(pair())] == [5.0, 1.0]


def test_foreach_lerp_moves_the_first_toward_the_second():
    tensors = [torch.zeros(2)]
    compat.foreach_lerp_(tensors, [torch.full((2,), 8.0)], 0.25)
    assert tensors[0].tolist() == [2.0, 2.0]


def test_weight_norm_scales_each_row_and_has_a_gradient():
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0]], requires_grad=True)
    found = compat.weight_norm(rows, torch.tensor([[1.0], [3.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, 3.0]]))
    found.sum().backward()
    assert rows.grad.abs().sum() > 0


def test_gelu_works_in_place_and_exactly():
    x = torch.linspace(-3, 3, 7)
    expected = torch.nn.functional.gelu(x)
    assert compat.gelu_(x) is x
    torch.testing.assert_close(x, expected, rtol=0, atol=0)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_private_names_of_torch_are_used_in_compat_only(path):
    if path == COMPAT:
        return
    tree = ast.parse(path.read_text("utf-8"))
    private = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("torch", "sb", "speechbrain", "transformers")
        and node.attr.startswith("_")
    }
    assert not private


@pytest.mark.parametrize("name", compat.BRAIN_METHODS)
def test_brain_has_the_method_with_its_parameters(name):
    method = getattr(sb.Brain, name)
    parameters = list(inspect.signature(method).parameters)
    assert parameters == ["self", *compat.BRAIN_METHODS[name].split()]


def overridden(path):
    """Methods of SpeechBrain's Brain that classes of a file override."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            bases = " ".join(ast.unparse(base) for base in node.bases)
            if "Brain" in bases:
                for method in node.body:
                    if isinstance(method, ast.FunctionDef):
                        yield method.name


def test_every_overridden_method_of_brain_is_listed():
    found = {name for path in SOURCES for name in overridden(path)}
    known = {name for name in found if hasattr(sb.Brain, name)}
    assert known - {"__init__"} <= compat.BRAIN_METHODS.keys()
    assert "optimizers_step" in known


def test_brain_has_the_state_that_fit_counts_with():
    modules = {"part": torch.nn.Linear(1, 1)}
    brain = sb.Brain(modules, run_opts={"device": "cpu"})
    # Some are made later, by `fit` or `make_dataloader`.
    source = inspect.getsource(sb.Brain)
    for name in compat.BRAIN_STATE:
        assert hasattr(brain, name) or f"self.{name}" in source, name


def parts_missing(model, names):
    missing = []
    for name in names:
        try:
            operator.attrgetter(name)(model)
        except AttributeError:
            missing.append(name)
    return missing


@pytest.mark.parametrize(
    "kind", ["wavlm", "hubert", "wav2vec2", "unispeech-sat"]
)
def test_encoders_have_the_parts_that_are_called_one_by_one(kind):
    model = AutoModel.from_config(AutoConfig.for_model(kind, **TINY))
    assert not parts_missing(model, compat.ENCODER_PARTS)
    for layer in model.feature_extractor.conv_layers:
        assert not parts_missing(layer, compat.CONV_PARTS)


def test_w2v_bert_has_the_parts_that_are_called_one_by_one():
    fields = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = AutoConfig.for_model("wav2vec2-bert", **fields)
    model = AutoModel.from_config(config)
    assert not parts_missing(model, compat.BERT_PARTS)


def test_whisper_has_the_parts_that_are_called():
    model = SpeechEncoder(config=TINY_WHISPER).model
    assert not parts_missing(model, compat.WHISPER_PARTS)


def test_wavlm_attention_has_the_weights_that_are_taken_over():
    attention = WavLMAttention(embed_dim=8, num_heads=2)
    assert not parts_missing(attention, compat.ATTENTION_PARTS)


def test_statistics_pooling_without_noise_gives_mean_and_deviation():
    pooling = StatisticsPooling()
    x = torch.randn(2, 9, 3)
    assert not torch.equal(pooling(x), pooling(x))
    compat.without_noise(pooling)
    expected = torch.cat([x.mean(1), x.std(1) + 1e-5], dim=1)
    assert torch.equal(pooling(x)[:, 0], expected)


def test_a_compiled_module_runs_as_it_is_written():
    class Double(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    torch._dynamo.reset()
    module, calls = Double(), []
    with compat.run_eagerly(module):
        assert module(torch.ones(1, 2)).shape == (1, 2)

    def noting(graph, inputs):
        calls.append(graph)
        return graph.forward

    module.compile(backend=noting)
    with compat.run_eagerly(module):
        module(torch.ones(1, 2))
    assert not calls
    module(torch.ones(1, 2))
    assert len(calls) == 1
