"""Embedder folders of somebody else: read as data, or refused."""

import itertools

import pytest
import torch

from speechbrain_ext.models.embedder import build_embedder, save_embedder
from speechbrain_ext.models.embedder_folder import load_embedder, load_weights
from speechbrain_ext.utils.errors import InputError

ECAPA = {
    "width": 16,
    "width_last": 24,
    "attention_channels": 8,
    "embedding_size": 8,
}


def small():
    return build_embedder("embedders/ecapa.yaml", ECAPA)


@pytest.fixture
def foreign(tmp_path):
    """An embedder folder, to be spoilt."""
    save_embedder(tmp_path / "m", small())
    return tmp_path / "m"


def edit_yaml(folder, old, new):
    path = folder / "hyperparams.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_yaml_of_a_folder_runs_only_if_it_is_trusted(foreign, tmp_path):
    canary = tmp_path / "canary"
    text = (foreign / "hyperparams.yaml").read_text()
    run = f"evil: !apply:os.mkdir [{canary}]\n"
    (foreign / "hyperparams.yaml").write_text(text + run)
    with pytest.raises(InputError, match="a path or address"):
        load_embedder(foreign)
    load_weights(small(), foreign)
    assert not canary.exists()
    load_embedder(foreign, trust_yaml=True)
    assert canary.is_dir()


def test_an_unknown_class_says_how_to_trust_it(foreign):
    edit_yaml(foreign, "speechbrain.lobes.features.Fbank", "os.getcwd")
    with pytest.raises(InputError, match="os.getcwd.*--trust_yaml=True"):
        load_embedder(foreign)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "not UTF-8"),
        (b"modules: [", "does not describe"),
        (b"modules: 5", "does not describe"),
        (b"a: 1", "does not describe"),
        (b"[" * 100_000, "does not describe"),
        # Nine lines that stand for a billion values.
        (
            b"a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + b"".join(
                f"{x}: &{x} [{', '.join([f'*{y}'] * 10)}]\n".encode()
                for y, x in itertools.pairwise("abcdefghi")
            ),
            "more than 10000 values",
        ),
    ],
)
def test_a_yaml_of_something_else_is_one_clear_error(foreign, content, message):
    (foreign / "hyperparams.yaml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_embedder(foreign)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x80\x02."])
def test_weights_that_cannot_be_read_are_one_clear_error(foreign, content):
    (foreign / "embedding_model.ckpt").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_embedder(foreign)


def test_weights_that_are_no_dict_of_tensors_are_refused(foreign):
    torch.save({"a": 5}, foreign / "embedding_model.ckpt")
    with pytest.raises(InputError, match="not a dict of tensors"):
        load_embedder(foreign)
    torch.save([torch.ones(1)], foreign / "embedding_model.ckpt")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_embedder(foreign)


@pytest.mark.parametrize("name", ["hyperparams.yaml", "embedding_model.ckpt"])
def test_a_link_that_leaves_the_folder_is_refused(foreign, tmp_path, name):
    (foreign / name).rename(tmp_path / "elsewhere")
    (foreign / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{name} is a link to .*elsewhere"):
        load_embedder(foreign)
    load_embedder(foreign, trust_yaml=True)
    (tmp_path / "linked").symlink_to(foreign)
    (foreign / name).unlink()
    (tmp_path / "elsewhere").rename(foreign / name)
    load_embedder(tmp_path / "linked")


@pytest.mark.parametrize(
    "arguments",
    [
        "hop_length: 0",
        "hop_length: -3",
        "hop_length: .nan",
        "sample_rate: 0",
        "win_length: 0",
        "n_fft: 4000000",
    ],
)
def test_arguments_that_make_no_sense_are_refused_when_loading(
    foreign, arguments
):
    path = foreign / "hyperparams.yaml"
    lines = path.read_text().splitlines(keepends=True)
    for place, line in enumerate(lines):
        if "n_mels:" in line and line[0] == " ":
            indent = line[: len(line) - len(line.lstrip())]
            lines[place] = f"{line}{indent}{arguments}\n"
    path.write_text("".join(lines))
    assert arguments in path.read_text()
    with pytest.raises(InputError, match="cannot embed|cannot be b|larger"):
        load_embedder(foreign)
