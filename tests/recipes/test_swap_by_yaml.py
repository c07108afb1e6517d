"""Parts of a training are swapped by YAML alone, and each acts."""

import json

import pandas as pd
import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.train_logger import TrainLogger
from tones import SMALL, without_speakers, write_tones

from recipes import train_contrastive, train_dino, train_speaker
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.losses import DINOLoss
from speechbrain_ext.training.checkpoints import WholeCheckpointer
from speechbrain_ext.utils.errors import InputError

HERE = f"{__name__}."
RECIPES = {
    "train_dino": train_dino,
    "train_contrastive": train_contrastive,
    "train_speaker": train_speaker,
}
COMMON = f"""
embedder: {json.dumps(SMALL)}
num_workers: 0
n_epochs: 3
n_warmup_epochs: 0
batch_size: 4
"""
SPEAKER = """
base: train_speaker_ecapa.yaml
crop: 0.3
valid_fraction: 0.25
"""
SIMCLR = """
base: train_contrastive_ecapa_small.yaml
crop: 0.3
"""
DINO = """
base: train_dino_ecapa_small.yaml
global_crop: 0.3
local_crop: 0.15
head: {hidden_size: 32, bottleneck_size: 16, n_prototypes: 64}
"""


class Linear(torch.nn.Module):
    """Softmax with a linear classifier: a loss of one's own."""

    def __init__(self, embedding_size, n_classes, bias=True):
        super().__init__()
        self.linear = torch.nn.Linear(embedding_size, n_classes, bias)

    def logits(self, embeddings):
        return self.linear(embeddings)

    def forward(self, embeddings, labels):
        logits = self.logits(embeddings)
        return torch.nn.functional.cross_entropy(
            logits, labels, reduction="none"
        )


class Nearness(torch.nn.Module):
    """Mean squared distance of two views, over a learnt scale."""

    def __init__(self, start=1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([start]))

    def forward(self, first, second):
        distance = (first - second).square().mean()
        return (distance / self.scale.square() + self.scale.square()).sum()


class Doubled(DINOLoss):
    """DINO's loss, twice."""

    def cross_entropy(self, student, targets):
        return 2 * super().cross_entropy(student, targets)


class Noted(TrainLogger):
    """A logger that writes what it is given, a line an epoch."""

    def __init__(self, path):
        self.path = path

    def log_stats(self, stats_meta, train_stats=None, **others):
        with open(self.path, "a") as stream:
            print(json.dumps({**stats_meta, **train_stats}), file=stream)


def constant(step, n_steps, start, end, n_warmup):
    """A schedule of one's own."""
    return 0.5 * start


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rows = write_tones(folder)
    write_manifest(folder / "labels.csv", rows, "pseudo_labels")
    write_manifest(folder / "train.csv", without_speakers(rows), "utterances")
    return folder


@pytest.fixture
def train(corpus, tmp_path):
    """Trains by a YAML of these lines alone; the output folder."""

    def run(name, lines, swapped=""):
        recipe = lines.split("base: ")[1].split("_ecapa")[0]
        kind = "labels" if recipe == "train_speaker" else "train"
        folder = tmp_path / name
        leaf = tmp_path / f"{name}.yaml"
        leaf.write_text(
            f"{lines}{COMMON}{swapped}\n"
            f"output_folder: {folder}\ndata_folder: {corpus}\n"
            f"train_annotation: {corpus / kind}.csv\n"
        )
        RECIPES[recipe].main([str(leaf), "--noprogressbar", "--device=cpu"])
        return folder

    return run


def curve(folder):
    return pd.read_csv(folder / "train_curve.csv")


def test_a_speaker_training_takes_loss_schedule_and_logger_from_the_yaml(
    train, tmp_path
):
    swapped = (
        f"loss: !name:{HERE}Linear\n    bias: False\n"
        f"lr_schedule: !name:{HERE}constant\n"
        f"train_logger: !new:{HERE}Noted\n    path: {tmp_path}/noted.txt\n"
    )
    folder = train("swapped", SPEAKER, swapped)
    state = torch.load(folder / "classifier.ckpt")
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "linear.weight": (4, 8)
    }
    rows = curve(folder)
    assert rows.loss[0] < 3  # ln 4 is 1.4, a margin's loss is above 5
    assert rows.lr.tolist() == pytest.approx([5e-4] * 3)
    noted = [json.loads(x) for x in (tmp_path / "noted.txt").open()]
    assert noted == rows.to_dict("records")
    assert (folder / "train_log.txt").read_text().count("epoch: ") == 3


def test_a_contrastive_loss_with_weights_of_its_own_is_trained(train):
    folder = train("own", SIMCLR, f"loss: !name:{HERE}Nearness\n    start: 2.0")
    checkpoint = WholeCheckpointer(folder / "save").find_checkpoint().path
    scale = torch.load(checkpoint / "loss.ckpt")["scale"]
    assert 1.5 < float(scale) < 2


def test_a_dino_training_takes_a_loss_from_the_yaml(train):
    losses = [
        curve(train(name, DINO, swapped)).loss[0]
        for name, swapped in (
            ("own", f"loss: !name:{HERE}Doubled"),
            ("ours", ""),
        )
    ]
    assert losses[0] == pytest.approx(2 * losses[1], rel=0.1)


def test_optimiser_counter_and_checkpointer_can_be_replaced(train):
    swapped = """
opt_class: !name:torch.optim.SGD {momentum: 0.5}
epoch_counter: !name:speechbrain.utils.epoch_loop.EpochCounterWithStopper
    limit_to_stop: 1
    limit_warmup: 0
    direction: max
checkpointer: !name:speechbrain.utils.checkpoints.Checkpointer
"""
    folder = train("swapped", SIMCLR, swapped)
    # The loss falls, and the counter waits for it to rise.
    assert curve(folder).epoch.tolist() == [1, 2]
    checkpoint = Checkpointer(folder / "save").find_checkpoint().path
    state = torch.load(checkpoint / "optimizer.ckpt")
    assert state["param_groups"][0]["momentum"] == 0.5


def test_a_loss_that_is_called_otherwise_is_one_clear_error(train):
    with pytest.raises(InputError, match="loss.bais is false; loss has no"):
        train("bad", SPEAKER, f"loss: !name:{HERE}Linear\n    bais: False")
