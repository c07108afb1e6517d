"""Embedders: built from YAMLs, saved and loaded as folders, offline."""

import dataclasses
import itertools
import re

import pytest
import torch
from house import ROOT
from ruamel.yaml import YAML
from speechbrain.inference.speaker import SpeakerRecognition
from tiny_wavlm import TINY
from tiny_whisper import MHFA as WHISPER
from tones import SMALL as TONES
from transformers import WavLMConfig, WavLMModel

from speechbrain_ext.experiment.leaf import read_leaf
from speechbrain_ext.models.embedder import (
    batches_of_one_length,
    build_embedder,
    save_embedder,
)
from speechbrain_ext.models.embedder_folder import load_embedder, load_weights
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings, setting

RANDOM = {"encoder_source": None, "encoder_config": TINY}
ECAPA = {
    "width": 16,
    "width_last": 24,
    "attention_channels": 8,
    "embedding_size": 8,
}
CASES = {
    "ecapa": ("hparams/embedders/ecapa.yaml", ECAPA),
    "encoder_mhfa": (
        "hparams/embedders/encoder_mhfa.yaml",
        {**RANDOM, "n_heads": 2, "compression_size": 4, "embedding_size": 8},
    ),
    "encoder_camhfa": (
        "hparams/embedders/encoder_camhfa.yaml",
        {**RANDOM, "n_heads": 2, "compression_size": 4, "embedding_size": 8},
    ),
    "encoder_ecapa": (
        "hparams/embedders/encoder_ecapa.yaml",
        {**RANDOM, **ECAPA},
    ),
    "whisper_mhfa": ("hparams/embedders/whisper_mhfa.yaml", WHISPER),
    "resnet": (
        "embedders/resnet.yaml",
        {
            "channels": [8, 8, 16, 16],
            "blocks": [1, 1, 1, 1],
            "embedding_size": 8,
        },
    ),
    "xvector": (
        "embedders/xvector.yaml",
        {"channels": [8, 8, 8, 8, 16], "embedding_size": 8},
    ),
}


@pytest.fixture
def wavs():
    return 0.1 * torch.randn(
        2, 8000, generator=torch.Generator().manual_seed(1)
    )


@pytest.fixture(params=CASES)
def embedder(request):
    torch.manual_seed(0)
    return build_embedder(*CASES[request.param])


def test_a_saved_embedder_embeds_as_before(embedder, wavs, tmp_path):
    names = save_embedder(tmp_path, embedder)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    loaded = load_embedder(tmp_path)
    assert not loaded.training
    assert torch.equal(loaded.embed(wavs), embedder.embed(wavs))
    assert loaded.embedding_size == 8


def test_stock_speechbrain_gives_the_same_embeddings(embedder, wavs, tmp_path):
    save_embedder(tmp_path / "embedder", embedder)
    stock = SpeakerRecognition.from_hparams(
        source=str(tmp_path / "embedder"),
        savedir=str(tmp_path / "stock"),
        run_opts={"device": "cpu"},
    )
    with torch.no_grad():
        found = stock.encode_batch(wavs)
    # Its x-vector adds noise to the means over time.
    noise = 2e-4 if "Xvector" in embedder.yaml_text else 1e-6
    torch.testing.assert_close(
        found.flatten(1), embedder.embed(wavs), rtol=1e-6, atol=noise
    )


def test_stock_speechbrain_embeds_a_padded_utterance_as_alone(tmp_path):
    torch.manual_seed(0)
    embedder = build_embedder(*CASES["encoder_mhfa"])
    save_embedder(tmp_path / "embedder", embedder)
    stock = SpeakerRecognition.from_hparams(
        source=str(tmp_path / "embedder"),
        savedir=str(tmp_path / "stock"),
        run_opts={"device": "cpu"},
    )
    wavs = torch.randn(2, 8000)
    wavs[1, 6000:] = 0
    with torch.no_grad():
        found = stock.encode_batch(wavs, torch.tensor([1.0, 0.75]))
    alone = embedder.embed(wavs[1:, :6000])
    torch.testing.assert_close(found[1], alone, rtol=1e-6, atol=1e-6)


def test_saving_a_loaded_embedder_changes_no_byte(embedder, tmp_path):
    names = save_embedder(tmp_path / "a", embedder)
    save_embedder(tmp_path / "b", load_embedder(tmp_path / "a"))
    for name in names:
        first, second = (tmp_path / x / name for x in "ab")
        assert first.read_bytes() == second.read_bytes()


@pytest.fixture
def pretrained(tmp_path):
    """A transformers folder, standing for the hub."""
    WavLMModel(WavLMConfig(**TINY)).save_pretrained(tmp_path / "hub")
    path, overrides = CASES["encoder_mhfa"]
    source = {"encoder_source": str(tmp_path / "hub"), "encoder_config": {}}
    return build_embedder(path, {**overrides, **source})


def test_a_saved_wavlm_does_not_need_its_source(pretrained, wavs, tmp_path):
    save_embedder(tmp_path / "embedder", pretrained)
    text = (tmp_path / "embedder" / "hyperparams.yaml").read_text()
    assert str(tmp_path) not in text
    (tmp_path / "hub").rename(tmp_path / "gone")
    loaded = load_embedder(tmp_path / "embedder")
    assert torch.equal(loaded.embed(wavs), pretrained.embed(wavs))
    tree = YAML(typ="rt").load(text)
    assert tree["encoder_source"] is None
    assert tree["encoder_config"]["hidden_size"] == 16


def test_the_kind_of_an_encoder_is_saved(wavs, tmp_path):
    path, overrides = CASES["encoder_mhfa"]
    config = {**TINY, "model_type": "hubert"}
    hubert = build_embedder(path, {**overrides, "encoder_config": config})
    save_embedder(tmp_path, hubert)
    loaded = load_embedder(tmp_path)
    assert type(loaded.model.encoder.model).__name__ == "HubertModel"
    assert torch.equal(loaded.embed(wavs), hubert.embed(wavs))


@pytest.fixture
def adapted():
    """An embedder with low-rank matrices that change it."""
    torch.manual_seed(0)
    path, overrides = CASES["encoder_mhfa"]
    lora = {"freeze": "all", "lora_rank": 2}
    embedder = build_embedder(path, {**overrides, **lora})
    for name, parameter in embedder.named_parameters():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(parameter)
    return embedder


def test_low_rank_matrices_are_merged_when_saved(adapted, wavs, tmp_path):
    save_embedder(tmp_path, adapted)
    loaded = load_embedder(tmp_path)
    assert not any("lora" in name for name in loaded.state_dict())
    assert "lora_rank: 0" in (tmp_path / "hyperparams.yaml").read_text()
    torch.testing.assert_close(
        loaded.embed(wavs), adapted.embed(wavs), rtol=1e-5, atol=1e-5
    )


def test_a_training_may_start_from_a_merged_model(adapted, wavs, tmp_path):
    save_embedder(tmp_path, adapted)
    path, overrides = CASES["encoder_mhfa"]
    for options in ({}, {"freeze": "all", "lora_rank": 4}):
        embedder = build_embedder(path, {**overrides, **options})
        load_weights(embedder, tmp_path)
        torch.testing.assert_close(
            embedder.embed(wavs), adapted.embed(wavs), rtol=1e-5, atol=1e-5
        )


def test_only_an_encoder_from_a_plain_config_is_random(pretrained, tmp_path):
    random = build_embedder(*CASES["encoder_mhfa"])
    for name, embedder, expected in (
        ("pretrained", pretrained, False),
        ("random", random, True),
        ("ecapa", build_embedder(*CASES["ecapa"]), False),
    ):
        assert embedder.is_random == expected
        save_embedder(tmp_path / name, embedder)
        assert load_embedder(tmp_path / name).is_random == expected


def test_embedding_leaves_the_mode_and_takes_no_gradient(embedder, wavs):
    embedder.train()
    first = embedder.embed(wavs)
    assert embedder.training
    assert not first.requires_grad
    assert torch.equal(embedder.embed(wavs), first)


def test_convolutions_of_one_frame_are_not_padded(wavs):
    """Outputs and gradients are bit for bit those with padding."""
    overrides = {"width": 16, "width_last": 48, "embedding_size": 8}
    embedder = build_embedder("hparams/embedders/ecapa.yaml", overrides)
    skipped = [
        module
        for module in embedder.model.modules()
        if getattr(module, "padding", None) == "valid"
    ]
    assert {module.kernel_size for module in skipped} == {1}
    outcomes = []
    for padding in ("valid", "same"):
        for module in skipped:
            module.padding = padding
        embedder.zero_grad()
        value = embedder(wavs)
        value.square().sum().backward()
        gradients = [p.grad.clone() for p in embedder.parameters()]
        outcomes.append([value, *gradients])
    for short, padded in zip(*outcomes, strict=True):
        assert torch.equal(short, padded)


@dataclasses.dataclass(kw_only=True)
class Train(Settings):
    """Train an embedder."""

    recipe = "train"

    embedder_yaml: str = setting("embedders/encoder_mhfa.yaml", path=True)
    embedder: dict = setting({}, "values of it to change")


WRONG = [
    ("{n_heads: abc}", "embedder.n_heads is 'abc'; it must be a whole number"),
    ("{n_heads: [1]}", r"embedder.n_heads is \[1\]; it must be a whole number"),
    ("{n_heads: -1}", "embedder.n_heads is -1; it must be .* 1 or more"),
    ("{n_heads: true}", "embedder.n_heads is true; it must be a whole number"),
    ("{lora_rank: -1}", "embedder.lora_rank is -1; it must be .* 0 or more"),
    ("{checkpoint_layers: no}", "it must be true or false"),
    ("{freeze: 3}", "embedder.freeze is 3; it must be text"),
    ("{encoder_config: 5}", "embedder.encoder_config is 5; it must be a map"),
    ("{n_haeds: 8}", "embedder.n_haeds is 8; .* did you mean 'n_heads'"),
    ("{embedding_model: {frieze: a}}", "embedder.embedding_model.frieze is"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_change_is_one_line_before_anything_is_written(
    change, message, tmp_path
):
    leaf = tmp_path / "train.yaml"
    leaf.write_text(f"output_folder: {tmp_path / 'out'}\n")
    with pytest.raises(InputError, match=message) as found:
        read_leaf(Train, leaf, f"embedder: {change}")
    assert re.fullmatch("[^;]+; [^;]+; [^;]+", str(found.value))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=message):
        overrides = YAML(typ="safe", pure=True).load(change)
        build_embedder("embedders/encoder_mhfa.yaml", overrides)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": "most"}, "freeze is 'most'; it must be one of"),
        ({"context": 4}, "context is 4; it must be odd"),
        ({"lora_rank": 2}, "lora_rank is 2; it must be 0"),
        ({"encoder_config": {}}, "encoder_source is null"),
    ],
)
def test_constructors_refuse_what_types_cannot(changes, message):
    path, overrides = CASES["encoder_camhfa"]
    with pytest.raises(InputError, match=message):
        build_embedder(path, {**overrides, **changes})


def test_an_embedder_of_the_package_is_built_from_any_directory(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    built = build_embedder("embedders/ecapa.yaml", ECAPA)
    assert built.embedding_size == 8


def test_a_yaml_of_the_users_may_have_one_of_the_package_as_base(
    tmp_path,
):
    path = tmp_path / "mine.yaml"
    path.write_text("base: embedders/ecapa.yaml\nembedding_size: 6\n")
    small = {k: v for k, v in ECAPA.items() if k != "embedding_size"}
    embedder = build_embedder(path, small)
    assert embedder.embedding_size == 6
    save_embedder(tmp_path / "saved", embedder)
    text = (tmp_path / "saved" / "hyperparams.yaml").read_text()
    assert "base:" not in text and "embedding_size: 6" in text
    path.unlink()
    assert load_embedder(tmp_path / "saved").embedding_size == 6


def test_no_two_embedder_yamls_are_more_than_half_equal():
    def lines(path):
        text = re.sub(r"(^|  )#.*", "", path.read_text(), flags=re.M)
        return {line.strip() for line in text.splitlines()} - {""}

    paths = sorted(ROOT.glob("hparams/embedders/**/*.yaml"))
    assert len(paths) > 5
    for first, second in itertools.combinations(paths, 2):
        one, two = lines(first), lines(second)
        assert len(one & two) <= min(len(one), len(two)) / 2, (first, second)


def test_a_folder_without_an_embedder_is_refused(tmp_path):
    with pytest.raises(InputError, match="lacks .'hyperparams.yaml', 'emb"):
        load_embedder(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_weights(build_embedder(*CASES["ecapa"]), tmp_path)


def test_weights_of_other_sizes_are_refused(tmp_path):
    path, overrides = CASES["ecapa"]
    save_embedder(tmp_path, build_embedder(path, overrides))
    other = build_embedder(path, {**overrides, "embedding_size": 12})
    with pytest.raises(InputError, match="does not fit"):
        load_weights(other, tmp_path)


def test_batches_hold_one_length_and_every_row_once():
    lengths = [5, 9, 5, 5, 30, 9]
    batches = list(batches_of_one_length(lengths, max_frames=18))
    assert sorted(row for batch in batches for row in batch) == list(range(6))
    for batch in batches:
        assert len({lengths[row] for row in batch}) == 1
        assert len(batch) == 1 or sum(lengths[row] for row in batch) <= 18


@pytest.mark.parametrize(
    ("name", "n_mels"), [("ecapa_512", 80), ("ecapa_512_40mel", 40)]
)
def test_bands_are_normalised_as_by_instance_norm(name, n_mels):
    embedder = build_embedder(f"embedders/{name}.yaml", {"width": 8})
    bands = embedder.features(torch.randn(2, 8000))
    assert bands.shape[2] == n_mels
    norm = torch.nn.InstanceNorm1d(n_mels)
    expected = norm(bands.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(
        embedder.norm(bands, torch.ones(2)), expected, rtol=1e-3, atol=1e-3
    )
    assert embedder.embedding_size == 512


def test_embeddings_of_a_compiled_model_are_not_compiled_for_each_length():
    torch._dynamo.reset()
    embedder = build_embedder("embedders/ecapa.yaml", TONES).eval()
    graphs = []

    def noting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    wavs = torch.randn(2, 9000)
    wanted = embedder.embed(wavs)
    names = list(embedder.state_dict())
    embedder.model.compile(backend=noting, dynamic=False)
    assert torch.equal(embedder.embed(wavs), wanted)
    embedder.embed(wavs[:, :8000])
    assert not graphs
    embedder(wavs)
    assert len(graphs) == 1
    assert list(embedder.state_dict()) == names
