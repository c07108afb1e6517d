"""What the training tests share: a corpus of tones, and a brain that dies."""

import numpy as np
import soundfile

# Overrides of hparams/embedders/ecapa.yaml: trained in no time.
SMALL = {
    "n_mels": 20,
    "width": 16,
    "width_last": 24,
    "attention_channels": 8,
    "embedding_size": 8,
}


def write_tones(folder, n_speakers=4, n_utterances=4, lengths=(6000, 9000)):
    """Write wavs of a tone in noise, one tone a speaker.

    Returns rows of a manifest of kind ``pseudo_labels``; an utterance
    has ``lengths[0]`` samples or more, and fewer than ``lengths[1]``.
    """
    generator = np.random.default_rng(0)
    rows = []
    for speaker in range(n_speakers):
        for number in range(n_utterances):
            length = int(generator.integers(*lengths))
            time = np.arange(length) / 16000
            # In bursts: ECAPA's features lose what is constant.
            tone = np.sin(2 * np.pi * 300 * 2**speaker * time)
            tone *= np.sin(2 * np.pi * 8 * time + number) > 0
            wav = 0.2 * tone + 0.05 * generator.normal(size=length)
            name = f"s{speaker}-{number}.wav"
            soundfile.write(folder / name, wav, 16000)
            rows.append(
                {
                    "ID": name,
                    "duration": length / 16000,
                    "wav": f"$data_root/{name}",
                    "start": 0,
                    "stop": length,
                    "spk_id": f"s{speaker}",
                }
            )
    return rows


def without_speakers(rows):
    """Rows of a manifest of kind ``utterances``."""
    return [{k: v for k, v in row.items() if k != "spk_id"} for row in rows]


class Killed(Exception):
    """Stands for a kill in mid-training."""


def killed_after(monkeypatch, brain, n_batches):
    """Make a Brain class die before its batch number ``n_batches`` + 1."""
    fit_batch = brain.fit_batch
    count = iter(range(10**6))

    def dying(self, batch):
        if next(count) == n_batches:
            raise Killed
        return fit_batch(self, batch)

    monkeypatch.setattr(brain, "fit_batch", dying)
