"""An embedder of the user's own: trained, exported, verified, or refused."""

import sys

import pytest
from published import arguments, corpus, score

from recipes import export_model, train_speaker
from speechbrain_ext import SpeakerVerifier
from speechbrain_ext.utils.errors import InputError

RESNET = """
base: embedders/resnet.yaml
n_mels: 20
channels: [4, 4, 8, 8]
blocks: [1, 1, 1, 1]
embedding_size: 6
"""
PLUG_IN = """
base: embedders/resnet.yaml
n_mels: 40
embedding_model: !new:voice_net.Net
    n_mels: !ref <n_mels>
"""
# A map with a tag takes the place of another; these keys have no user then.
NOBODYS = PLUG_IN.replace("voice_net.Net", "nobodys_net.Net")


@pytest.fixture
def folder(tmp_path):
    corpus(tmp_path / "data")
    return tmp_path


def train(folder, text, **options):
    """Train an embedder YAML that lies outside of the package."""
    (folder / "own").mkdir(exist_ok=True)
    path = folder / "own" / "mine.yaml"
    path.write_text(text)
    given = {
        "embedder_yaml": path,
        "train_annotation": folder / "data" / "pseudo_labels.csv",
        "data_folder": folder / "data",
        "output_folder": folder,
        "crop": 0.3,
        "n_epochs": 1,
        "n_warmup_epochs": 0,
        "batch_size": 4,
        "num_workers": 0,
        "valid_fraction": 0,
        **options,
    }
    words = [f"--{key}={value}" for key, value in given.items()]
    leaf = "hparams/train_speaker_ecapa.yaml"
    train_speaker.main([leaf, *words, "--noprogressbar", "--device=cpu"])


def exported(folder):
    """Score and export what was trained; the folder to share."""
    score(folder, folder / "data")
    export_model.main(arguments(folder))
    return folder / "export" / "model"


def verify(model, folder):
    wavs = [str(folder / "data" / f"s0-{number}.wav") for number in (0, 1)]
    return SpeakerVerifier.from_pretrained(str(model)).verify(*wavs).score


def test_a_resnet_yaml_outside_the_package_is_trained_and_exported(folder):
    train(folder, RESNET)
    model = exported(folder)
    assert SpeakerVerifier.from_pretrained(str(model)).embedding_size == 6
    assert -1 <= verify(model, folder) <= 1


def test_a_network_of_an_installed_package_is_trained_and_exported(
    folder, plug_in, monkeypatch
):
    with pytest.raises(InputError, match="mine.yaml; its embedding_model has"):
        train(folder, PLUG_IN)
    plug_in("voice_net")
    train(folder, PLUG_IN)
    model = exported(folder)
    assert -1 <= verify(model, folder) <= 1
    assert "voice-net 1.0" in (model / "README.md").read_text()
    # Another machine, where the package is not installed.
    monkeypatch.undo()
    sys.modules.pop("voice_net")
    with pytest.raises(InputError, match="voice_net.Net.*install the") as told:
        verify(model, folder)
    assert len(str(told.value).splitlines()) == 1


def test_what_could_not_be_exported_is_refused_before_anything_is_begun(folder):
    with pytest.raises(InputError, match="nobodys_net.Net.*--trust_yaml=True"):
        train(folder, NOBODYS)
    assert not (folder / "embedder").exists()
    assert not (folder / "request.json").exists()
