"""Low-rank adaptation: starts at zero, trains little, vanishes when saved."""

import pytest
import torch

from speechbrain_ext.models.lora import LowRankLinear, add_lora, merged_state
from speechbrain_ext.utils.errors import InputError


def plain_model():
    torch.manual_seed(0)
    return torch.nn.ModuleDict(
        {
            "q_proj": torch.nn.Linear(6, 5),
            "deeper": torch.nn.ModuleDict({"v_proj": torch.nn.Linear(5, 5)}),
            "k_proj": torch.nn.Linear(5, 5),
        }
    )


def run(model, x):
    return model["k_proj"](model["deeper"]["v_proj"](model["q_proj"](x)))


@pytest.fixture
def adapted():
    """A model whose products are no longer zero."""
    model = plain_model()
    add_lora(model, rank=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_()
    return model


def test_only_queries_and_values_are_adapted():
    model = plain_model()
    add_lora(model, rank=2)
    kinds = [isinstance(m, LowRankLinear) for m in model.modules()]
    assert sum(kinds) == 2
    assert type(model["k_proj"]) is torch.nn.Linear


def test_an_adapted_model_starts_with_the_plain_output():
    x = torch.randn(3, 6)
    model = plain_model()
    expected = run(model, x)
    add_lora(model, rank=2)
    assert torch.equal(run(model, x), expected)


def test_only_the_low_rank_matrices_are_trained(adapted):
    adapted.requires_grad_(False)
    model = plain_model().requires_grad_(False)
    add_lora(model, rank=2)
    run(model, torch.randn(3, 6)).sum().backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert trained == {
        f"{layer}.lora_{part}"
        for layer in ("q_proj", "deeper.v_proj")
        for part in "ab"
    }


def test_the_merged_state_loads_into_a_plain_model(adapted):
    x = torch.randn(3, 6)
    plain = plain_model()
    plain.load_state_dict(merged_state(adapted))
    torch.testing.assert_close(run(plain, x), run(adapted, x))
    assert not torch.allclose(plain["q_proj"].weight, adapted["q_proj"].weight)


def test_merging_does_not_change_the_model(adapted):
    before = {k: v.clone() for k, v in adapted.state_dict().items()}
    merged_state(adapted)
    assert before.keys() == adapted.state_dict().keys()
    assert all(torch.equal(adapted.state_dict()[k], before[k]) for k in before)


def test_loading_a_plain_model_resets_the_low_rank_matrices(adapted):
    x = torch.randn(3, 6)
    torch.manual_seed(1)
    plain = plain_model()
    state = plain.state_dict()
    names = set(state)
    adapted.load_state_dict(state)
    torch.testing.assert_close(run(adapted, x), run(plain, x))
    assert set(state) == names


def test_the_state_of_an_adapted_model_is_restored(adapted):
    other = plain_model()
    add_lora(other, rank=2)
    other.load_state_dict(adapted.state_dict())
    x = torch.randn(3, 6)
    assert torch.equal(run(other, x), run(adapted, x))


@pytest.mark.parametrize("rank", [-1, 0, 1.5, "8"])
def test_a_bad_rank_is_one_clear_message(rank):
    with pytest.raises(InputError, match="lora_rank is .*1 or more"):
        add_lora(plain_model(), rank)
