"""The model that lies in the repository: small, whole, and it verifies."""

import os
import sys
from pathlib import Path

import pytest
import warm

from speechbrain_ext.inference.verifier import SpeakerVerifier

ROOT = Path(__file__).parents[2]
MODELS = sorted(path.parent for path in ROOT.glob("pretrained/*/config.json"))
LARGEST = 20e6  # bytes: it travels with every clone


def test_there_is_a_model_to_try_at_once():
    assert MODELS


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_two_files_are_verified_by_one_command_without_a_network(model):
    examples = [str(model / f"example{number}.wav") for number in (1, 2)]
    words = ["-m", "speechbrain_ext.inference.verify", str(model), *examples]
    done = warm.run([sys.executable, *words], ROOT, dict(os.environ))
    assert done.returncode == 0, done.stderr
    verifier = SpeakerVerifier.from_pretrained(model)
    score = verifier.verify(*examples).score
    assert f"{score:.3f}"[:4] in done.stdout


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_its_card_has_its_rows_and_it_is_small(model):
    card = (model / "README.md").read_text("utf-8")
    assert "EER" in card and "dev_all" in card
    assert "base_model:\n- openai/whisper-tiny.en\nlanguage:\n- en\n" in card
    assert "python -m pip install ." in card
    assert sum(path.stat().st_size for path in model.iterdir()) < LARGEST
