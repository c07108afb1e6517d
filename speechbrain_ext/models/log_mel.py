"""Log-mel features of w2v-BERT 2.0, computed in batches on the device.

``SeamlessM4TFeatureExtractor`` computes the same on the CPU, one utterance at
a time: Kaldi's filter banks (25 ms every 10 ms, 80 bands), each band
normalised over the utterance, two frames side by side.
"""

from __future__ import annotations

import torch
from transformers.audio_utils import mel_filter_bank, window_function

LENGTH, HOP, FFT = 400, 160, 512  # samples at 16 kHz
N_MELS, N_STACKED = 80, 2
PREEMPHASIS = 0.97
FLOOR = 2.0**-23


class LogMel(torch.nn.Module):
    """Log-mel features of waveforms, as w2v-BERT 2.0 expects them.

    Example
    -------
    >>> LogMel()(torch.randn(4, 16000)).shape
    torch.Size([4, 49, 160])
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self):
        super().__init__()
        filters = mel_filter_bank(
            num_frequency_bins=FFT // 2 + 1,
            num_mel_filters=N_MELS,
            min_frequency=20,
            max_frequency=8000,
            sampling_rate=16000,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        window = window_function(LENGTH, "povey", periodic=False)
        for name, table in (("window", window), ("filters", filters)):
            tensor = torch.from_numpy(table).float()
            self.register_buffer(name, tensor, persistent=False)

    @property
    def n_samples(self) -> int:
        """Length of the shortest usable utterance, in samples: two frames."""
        return LENGTH + HOP

    @torch.no_grad()
    def forward(self, wavs: torch.Tensor) -> torch.Tensor:
        """Return features [B, T', 160] of samples [B, T] from -1 to 1."""
        with torch.autocast(wavs.device.type, enabled=False):
            # Kaldi works with 16-bit integers.
            frames = wavs.float().unfold(1, LENGTH, HOP) * 2.0**15
            frames = frames - frames.mean(-1, keepdim=True)
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
            frames = (frames - PREEMPHASIS * before) * self.window
            power = torch.fft.rfft(frames, FFT).abs().square()
            bands = (power @ self.filters).clamp(min=FLOOR).log()
            variance, mean = torch.var_mean(bands, 1, keepdim=True)
            bands = (bands - mean) / (variance + 1e-7).sqrt()
        n_pairs = bands.shape[1] // N_STACKED
        return (
            bands[:, : n_pairs * N_STACKED]
            .unflatten(1, (n_pairs, N_STACKED))
            .flatten(2)
        )
