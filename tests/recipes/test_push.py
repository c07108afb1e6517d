"""Uploading to a hub on loopback: first, interrupted, and a new round."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
from loopback_hub import Hub
from published import arguments, publish

from recipes import export_model
from speechbrain_ext.experiment.model_card import for_repository
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.utils.errors import InputError

ROOT = Path(__file__).parents[2]
NAMES = {
    "README.md",
    "config.json",
    "embedding_model.ckpt",
    "example1.wav",
    "example2.wav",
    "hyperparams.yaml",
    "model.safetensors",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished export."""
    return publish(tmp_path_factory.mktemp("push")).parents[1]


@pytest.fixture
def hub(monkeypatch):
    found = Hub()
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", found.endpoint)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        found.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    # Its other protocol is not HTTP alone.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    yield found
    found.close()


def push(folder, **options):
    export_model.main(arguments(folder, push="me/voices", **options))


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_first_push_creates_a_private_repository_in_one_commit(hub, folder):
    push(folder)
    repository = hub.repositories["me/voices"]
    assert repository["visibility"] == "private"
    assert repository["commits"] == [sorted(NAMES)]
    for name, content in repository["files"].items():
        here = (folder / "export" / "model" / name).read_bytes()
        if name == "README.md":
            assert b'source = "me/voices"' in content
            here = for_repository(here.decode(), "me/voices").encode()
        assert content == here


def test_a_public_repository_is_made_only_when_asked_for(hub, folder):
    push(folder, private=False)
    assert hub.repositories["me/voices"]["visibility"] == "public"


def test_pushing_the_same_again_sends_nothing(hub, folder):
    push(folder)
    sent = hub.sent()
    push(folder)
    assert hub.sent() == sent
    assert len(hub.repositories["me/voices"]["commits"]) == 1


def test_an_interrupted_push_leaves_no_half_model_and_goes_on(hub, folder):
    model = folder / "export" / "model"
    hub.refused = sha(model / "model.safetensors")
    with pytest.raises(InputError, match="type the same command again"):
        push(folder)
    repository = hub.repositories["me/voices"]
    assert repository["commits"] == []
    arrived = set(hub.blobs)
    assert sha(model / "embedding_model.ckpt") in arrived
    hub.refused, hub.calls = None, []
    push(folder)
    assert not arrived & set(hub.sent())
    assert set(repository["files"]) == NAMES
    assert len(repository["commits"]) == 1


def test_a_new_round_sends_what_changed_and_keeps_the_rest(
    hub, folder, tmp_path
):
    push(folder)
    shutil.copytree(folder / "data", tmp_path / "data")
    publish(tmp_path, seed=1)
    hub.calls = []
    push(tmp_path)
    model = tmp_path / "export" / "model"
    changed = {"README.md", "config.json"}
    weights = {"embedding_model.ckpt", "model.safetensors"}
    commits = hub.repositories["me/voices"]["commits"]
    assert len(commits) == 2
    assert set(commits[1]) == changed | weights
    assert set(hub.sent()) == {sha(model / name) for name in weights}


def test_anybody_loads_it_by_its_id_and_then_offline(
    hub, folder, tmp_path, monkeypatch
):
    push(folder)
    hub.calls = []
    first = SpeakerVerifier.from_pretrained(
        "me/voices", "cpu", cache_dir=tmp_path
    )
    fetched = {p.split("/")[-1] for verb, p in hub.calls if "resolve" in p}
    assert fetched == {"README.md", "config.json", "model.safetensors"}
    hub.close()
    again = SpeakerVerifier.from_pretrained(
        "me/voices", "cpu", cache_dir=tmp_path
    )
    wav = folder / "export" / "model" / "example1.wav"
    assert (first.embed(wav) == again.embed(wav)).all()


def test_an_earlier_commit_is_loaded_by_its_revision(hub, folder, tmp_path):
    push(folder)
    first = hub.revision("me/voices")
    files = hub.repositories["me/voices"]["files"]
    config = json.loads(files["config.json"])
    decision = config["speechbrain_ext"]["decision"]
    earlier, decision["offset"] = decision["offset"], 9.0
    content = base64.b64encode(json.dumps(config).encode()).decode()
    value = {"path": "config.json", "content": content}
    hub.commit("me/voices", [{"key": "file", "value": value}])
    for revision, offset in ((first, earlier), ("main", 9.0), (None, 9.0)):
        found = SpeakerVerifier.from_pretrained(
            "me/voices", "cpu", revision=revision, cache_dir=tmp_path
        )
        assert found.decision.offset == offset


def test_the_pushed_cards_code_runs_as_printed(hub, folder, tmp_path):
    """Elsewhere, with two files of the reader's own."""
    push(folder)
    card = hub.repositories["me/voices"]["files"]["README.md"].decode()
    model = folder / "export" / "model"
    for name, example in (("a.wav", "example1.wav"), ("b.wav", "example2.wav")):
        shutil.copy(model / example, tmp_path / name)
    blocks = re.findall(r"^```python\n(.*?)^```", card, re.M | re.S)
    assert len(blocks) == 2
    for code in blocks:
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "HF_ENDPOINT": hub.endpoint,
                "HF_HOME": str(tmp_path / "cache"),
                "HF_HUB_DISABLE_XET": "1",
            },
            check=True,
        )


def test_words_added_to_the_card_are_pushed(hub, folder):
    card = folder / "export" / "model" / "README.md"
    made = card.read_text()
    card.write_text(f"{made}\nTwo words of mine.\n")
    push(folder)
    sent = hub.repositories["me/voices"]["files"]["README.md"].decode()
    card.write_text(made)
    assert "Two words of mine" in sent


def test_a_model_that_the_hub_lacks_is_one_clear_error(hub, tmp_path):
    with pytest.raises(InputError, match="cannot be had from the hub"):
        SpeakerVerifier.from_pretrained("me/nothing", "cpu", cache_dir=tmp_path)


def test_a_dry_run_asks_the_hub_nothing(hub, folder, capsys):
    push(folder, dry_run=True)
    assert hub.calls == []
    assert "would go to me/voices" in capsys.readouterr().out
