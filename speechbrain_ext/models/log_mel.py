"""Log-mel features of w2v-BERT 2.0 and Whisper, in batches on the device.

w2v-BERT's ``SeamlessM4TFeatureExtractor`` computes the same as `LogMel` on the
CPU, one utterance at a time: Kaldi's filter banks (25 ms every 10 ms, 80
bands), each band normalised over the utterance, two frames side by side.
`WhisperLogMel` computes what ``WhisperFeatureExtractor`` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank, window_function

from speechbrain_ext.utils.precision import single_precision

LENGTH, HOP, FFT = 400, 160, 512  # samples at 16 kHz
N_MELS, N_STACKED = 80, 2
PREEMPHASIS = 0.97
FLOOR = 2.0**-23
# Of Whisper: the least power of a band, and how many decades below the largest
# of the utterance powers are cut off.
POWER_FLOOR, DECADES = 1e-10, 8.0


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

    def n_frames(self, n_samples: Any) -> Any:
        """Return the number of frames of utterances, as integers."""
        return ((n_samples - LENGTH) // HOP + 1) // N_STACKED

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


class WhisperLogMel(torch.nn.Module):
    """Log-mel features of waveforms, as Whisper expects them.

    Radford et al., ICML 2023: bands of Slaney's mel scale (25 ms every 10 ms),
    log10 of their power, floored at 8 decades below the largest of the
    utterance, plus 4, divided by 4. They equal those of transformers'
    ``WhisperFeatureExtractor``, which pads short audio with zeros, in the
    frames that begin in the utterance: there is one for every 10 ms begun.
    Longer audio equals the extractor's without truncation.

    Arguments
    ---------
    n_mels : int
        Number of mel bands, 80 or 128.
    n_frames : int
        Frames to which the extractor pads, 10 ms each.

    Example
    -------
    >>> WhisperLogMel()(torch.randn(4, 16000)).shape
    torch.Size([4, 80, 100])
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, n_mels: int = 80, n_frames: int = 3000):
        super().__init__()
        self.n_padded = n_frames * HOP
        filters = mel_filter_bank(
            num_frequency_bins=LENGTH // 2 + 1,
            num_mel_filters=n_mels,
            min_frequency=0.0,
            max_frequency=8000.0,
            sampling_rate=16000,
            norm="slaney",
            mel_scale="slaney",
        )
        # [bands, frequencies]
        table = torch.from_numpy(filters.T).float().contiguous()
        self.register_buffer("filters", table, persistent=False)
        window = torch.hann_window(LENGTH)
        self.register_buffer("window", window, persistent=False)

    @property
    def n_samples(self) -> int:
        """Length of the shortest usable utterance, in samples: one frame."""
        return HOP

    def n_frames(self, n_samples: Any) -> Any:
        """Return the number of frames of utterances, as integers."""
        # Beyond the window to which the extractor pads, frames are whole.
        room = np.clip(self.n_padded - n_samples, 0, LENGTH)
        return np.minimum(-(-n_samples // HOP), (n_samples + room) // HOP)

    @torch.no_grad()
    def forward(self, wavs: torch.Tensor) -> torch.Tensor:
        """Return features [B, bands, T'] of samples [B, T] from -1 to 1."""
        n_samples = wavs.shape[1]
        # As many of the zeros that follow as a frame can reach; at the end of
        # a full window the extractor mirrors the samples instead.
        room = max(self.n_padded - n_samples, 0)
        wavs = torch.nn.functional.pad(wavs, (0, min(LENGTH, room)))
        # Half precision could not hold the powers.
        wavs = wavs.to(torch.promote_types(wavs.dtype, torch.float32))
        window, filters = self.window.to(wavs), self.filters.to(wavs)
        with single_precision(wavs):
            spectrum = torch.stft(
                wavs, LENGTH, HOP, window=window, return_complex=True
            )
            power = spectrum[..., :-1].abs().square()
            bands = (filters @ power).clamp(min=POWER_FLOOR).log10()
            # Frames after the utterance may still hear its last samples.
            floor = bands.amax(dim=(1, 2), keepdim=True) - DECADES
            bands = (torch.maximum(bands, floor) + 4.0) / 4.0
        return bands[..., : -(-n_samples // HOP)]
