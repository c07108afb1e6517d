"""DINO, then Ward's labels behind a loss gate, in a Brain of your own."""

import speechbrain as sb
import torch

from speechbrain_ext.clustering import cut_tree, unit_rows, ward_tree
from speechbrain_ext.losses import AAMSoftmax, DINOLoss, LossGate
from speechbrain_ext.models import MHFA, DINOHead, MomentumTeacher
from speechbrain_ext.verification import cosine_scores, equal_error_rate


class OwnBrain(sb.Brain):
    labels, epoch = None, 1  # DINO needs no labels

    def compute_forward(self, batch, stage):
        states = batch[1].transpose(0, 1)  # [layers, batch, frames, channels]
        if self.labels is not None:
            return self.modules.student[0](states)
        crops = [states[:, :, t : t + 30] for t in torch.randint(30, (4,))]
        teacher = [self.modules.teacher(crop) for crop in crops[:2]]
        student = [self.modules.student(crop) for crop in crops]
        return torch.stack(student), torch.stack(teacher)

    def compute_objectives(self, predictions, batch, stage):
        if self.labels is None:
            return self.modules.dino(*predictions)
        losses = self.modules.aam(predictions, self.labels[batch[0]])
        log_losses = self.modules.gate.record(batch[0], losses, self.epoch)
        return (self.modules.gate.weights(log_losses) * losses).mean()

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        self.modules.teacher.update(self.modules.student, momentum=0.98)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        self.modules.gate.close(self.epoch)
        self.epoch += 1


def main():
    torch.manual_seed(0)
    # Hidden states of three layers: a voice stays, the words change.
    speakers = torch.arange(16).repeat_interleave(8)  # for the EER alone
    voices = torch.randn(16, 24)[speakers, None] / 2
    words = torch.randn(128, 12, 2).repeat_interleave(5, 1) @ torch.randn(2, 24)
    states = torch.stack([words, words + voices, words + 2 * voices], dim=1)
    student = torch.nn.Sequential(MHFA(3, 24, 4), DINOHead(256, 64, 16, 64))
    nets = {"student": student, "teacher": MomentumTeacher(student)}
    nets.update(dino=DINOLoss(64), aam=AAMSoftmax(256, 16), gate=LossGate(128))
    brain = OwnBrain(nets, lambda p: torch.optim.Adam(p, lr=0.003))
    data = torch.utils.data.DataLoader([*enumerate(states)], 32, shuffle=True)
    i, j = torch.triu_indices(128, 128, 1).numpy()
    eers = []
    for epochs in (range(0), range(1, 31), range(31, 41)):
        brain.fit(epochs, data)
        x = student[0](states.transpose(0, 1)).detach().numpy()
        same = speakers[i] == speakers[j]
        eers.append(equal_error_rate(cosine_scores(x, i, j), same)[0])
        if epochs:
            brain.labels = torch.tensor(cut_tree(ward_tree(unit_rows(x)), 16))
    return eers


if __name__ == "__main__":
    print("EER untrained, after DINO, after Ward's labels:", main())
