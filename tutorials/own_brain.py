"""Speaker embeddings without labels, in Brains of your own.

DINO trains a small network with MHFA, Ward clusters its embeddings, and
AAM-softmax with a loss gate trains on the clusters. The voices are synthetic:
the error rates say nothing about speech. It takes seconds:

> python tutorials/own_brain.py
"""

import numpy as np
import speechbrain as sb
import torch
from speechbrain.lobes.features import Fbank

from speechbrain_ext.clustering import cut_tree, ward_tree
from speechbrain_ext.dataio.synthetic_voices import ToyVoice
from speechbrain_ext.losses import AAMSoftmax, DINOLoss, LossGate
from speechbrain_ext.models import MHFA, DINOHead, MomentumTeacher
from speechbrain_ext.verification import cosine_scores, equal_error_rate


class Encoder(torch.nn.Module):
    """Waveforms [B, T] to embeddings [B, 32]: mel bands, two layers, MHFA."""

    def __init__(self):
        super().__init__()
        self.features = Fbank(n_mels=40)
        self.first = torch.nn.Conv1d(40, 64, 5, padding=2)
        self.second = torch.nn.Conv1d(64, 64, 5, padding=2)
        self.pooling = MHFA(2, input_size=64, n_heads=8, embedding_size=32)

    def forward(self, wavs):
        mels = self.features(wavs)
        mels = (mels - mels.mean(1, keepdim=True)) / 10
        first = self.first(mels.transpose(1, 2)).relu()
        states = torch.stack([first, self.second(first).relu()])
        return self.pooling(states.transpose(2, 3))


class Dino(sb.Brain):
    """A student learns to predict its teacher's output for other crops."""

    def compute_forward(self, batch, stage):
        # Two global and two local crops of every utterance.
        begins, sizes = torch.randint(12000, (4,)), [12000, 12000, 6000, 6000]
        parts = zip(begins, sizes, strict=True)
        crops = [batch[1][:, begin : begin + n] for begin, n in parts]
        student = torch.stack([self.modules.student(crop) for crop in crops])
        return student, torch.stack(
            [self.modules.teacher(c) for c in crops[:2]]
        )

    def compute_objectives(self, predictions, batch, stage):
        return self.modules.loss(*predictions)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        self.modules.teacher.update(self.modules.student, momentum=0.99)


class Speaker(sb.Brain):
    """Learn pseudo-speakers, without labels of high loss."""

    def compute_forward(self, batch, stage):
        return self.modules.encoder(batch[1])

    def compute_objectives(self, predictions, batch, stage):
        rows, gate = batch[0], self.modules.gate
        losses = self.modules.classifier(predictions, self.hparams.labels[rows])
        weights = gate.weights(gate.record(rows, losses, self.epoch))
        return (weights * losses).sum() / weights.sum().clamp(min=1)

    def on_stage_start(self, stage, epoch=None):
        self.epoch = epoch

    def on_stage_end(self, stage, stage_loss, epoch=None):
        self.modules.gate.close(epoch)


def voices(speakers):
    """Utterances [N, 24000] and their speakers [N]."""
    pairs = [(speaker, i) for speaker in speakers for i in range(8)]
    wavs = [ToyVoice(1, speaker).utterance(0, i, 1.5) for speaker, i in pairs]
    return torch.from_numpy(np.stack(wavs)), np.array(pairs)[:, 0]


@torch.no_grad()
def eer(encoder, wavs, speakers):
    """Equal error rate over all pairs of utterances, in percent."""
    one, two = np.triu_indices(len(wavs), k=1)
    scores = cosine_scores(encoder.eval()(wavs), one, two)
    return 100 * equal_error_rate(scores, speakers[one] == speakers[two])[0]


def fit(kind, modules, wavs, n_epochs, **hparams):
    """Train the modules in a Brain of a kind."""
    brain = kind(
        modules, torch.optim.AdamW, hparams, run_opts={"device": "cpu"}
    )
    rows = torch.utils.data.TensorDataset(torch.arange(len(wavs)), wavs)
    loader = torch.utils.data.DataLoader(rows, 16, shuffle=True)
    brain.fit(range(1, n_epochs + 1), loader, progressbar=False)


def main(n_epochs=6):
    """Return the EER without training, after DINO, and after clustering."""
    torch.manual_seed(0)
    wavs, test = voices(range(12))[0], voices(range(12, 20))
    encoder = Encoder()
    rates = [eer(encoder, *test)]
    student = torch.nn.Sequential(
        encoder, DINOHead(32, 64, 16, n_prototypes=64)
    )
    modules = {"student": student, "teacher": MomentumTeacher(student)}
    fit(Dino, {**modules, "loss": DINOLoss(64)}, wavs, n_epochs)
    rates.append(eer(encoder, *test))
    with torch.no_grad():
        tree = ward_tree(encoder(wavs).numpy())
    labels = torch.from_numpy(cut_tree(tree, n_clusters=12))
    modules = {"encoder": encoder, "classifier": AAMSoftmax(32, n_classes=12)}
    modules["gate"] = LossGate(n_utterances=len(wavs))
    fit(Speaker, modules, wavs, n_epochs, labels=labels)
    rates.append(eer(encoder, *test))
    print(
        "EER untrained {:.1f} %, DINO {:.1f} %, clusters {:.1f} %".format(
            *rates
        )
    )
    return rates


if __name__ == "__main__":
    main()
