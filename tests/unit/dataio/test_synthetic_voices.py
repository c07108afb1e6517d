"""Toy voices: deterministic, and hard in the way they are meant to be."""

import numpy as np
import pytest
import torch
import torchaudio
from scipy.signal import find_peaks
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from speechbrain_ext.dataio.synthetic_voices import ToyVoice
from speechbrain_ext.verification.metrics import equal_error_rate


def test_an_utterance_depends_only_on_seed_speaker_session_and_index():
    wav = ToyVoice(1, 2).utterance(1, 2, 0.7)
    assert wav.dtype == np.float32 and wav.shape == (11200,)
    voice = ToyVoice(1, 2)
    voice.utterance(0, 0, 1.0)
    np.random.seed(3)
    np.testing.assert_array_equal(wav, voice.utterance(1, 2, 0.7))


@pytest.mark.parametrize(
    "other", [(2, 2, 1, 2), (1, 3, 1, 2), (1, 2, 0, 2), (1, 2, 1, 3)]
)
def test_another_seed_speaker_session_or_index_gives_another_utterance(other):
    seed, speaker, session, index = other
    wav = ToyVoice(seed, speaker).utterance(session, index, 0.5)
    once = ToyVoice(1, 2).utterance(1, 2, 0.5)
    assert np.abs(np.corrcoef(wav, once)[0, 1]) < 0.5


def test_samples_are_finite_audible_and_within_bounds():
    for speaker in range(20):
        wav = ToyVoice(5, speaker).utterance(0, 0, 1.0)
        assert np.isfinite(wav).all() and np.abs(wav).max() <= 1
        assert wav.std() > 0.01


def test_lengths_are_exact_to_the_sample():
    for n in (1, 127, 1601):
        assert len(ToyVoice(1, 1).utterance(0, 0, n / 16000)) == n


def _pitch(voice):
    """Pitch in Hz, from the autocorrelation of clean speech."""
    wav = np.concatenate([voice.speech(0, i, 2.0) for i in range(3)])
    spectrum = np.abs(np.fft.rfft(wav, 2 * len(wav))) ** 2
    correlation = np.fft.irfft(spectrum)[:400]
    peaks, _ = find_peaks(correlation[50:])
    best = peaks[np.argmax(correlation[50:][peaks])] + 50
    return 16000 / best


def test_speech_has_the_pitch_of_its_speaker():
    voices = [ToyVoice(3, speaker) for speaker in range(10)]
    found = np.log([_pitch(voice) for voice in voices])
    wanted = np.log([voice.pitch for voice in voices])
    assert np.median(np.abs(found - wanted)) < 0.1


def test_odd_speakers_are_women_with_higher_pitch_and_formants():
    voices = [ToyVoice(1, speaker) for speaker in range(60)]
    women, men = voices[1::2], voices[0::2]
    for what in ("pitch", "formant_scale"):
        high = np.mean([getattr(voice, what) for voice in women])
        low = np.mean([getattr(voice, what) for voice in men])
        assert high > 1.08 * low


N_TRAIN, N_TEST, N_SESSIONS, N_EACH = 30, 12, 4, 3


@pytest.fixture(scope="module")
def corpus():
    """Two kinds of features of some speakers: of the recording, of the voice.

    MFCC means and deviations hear the channel; correlations of log-mel bands
    around their mean hear the formants more.
    """
    torch.set_num_threads(1)
    speakers, sessions, simple, rich = [], [], [], []
    for speaker in range(N_TRAIN + N_TEST):
        voice = ToyVoice(11, speaker)
        for session in range(N_SESSIONS):
            for index in range(N_EACH):
                wav = voice.utterance(session, index, 2.5)
                speakers.append(speaker)
                sessions.append(session)
                simple.append(_mfcc_statistics(wav))
                rich.append(_band_statistics(wav))
    return map(np.array, (speakers, sessions, simple, rich))


_MFCC = torchaudio.transforms.MFCC(
    16000, 20, melkwargs={"n_fft": 400, "hop_length": 160, "n_mels": 40}
)


def _mfcc_statistics(wav):
    mfcc = _MFCC(torch.from_numpy(wav))
    return torch.cat([mfcc.mean(1), mfcc.std(1)]).numpy()


def _band_statistics(wav):
    bands = torch.log(_MFCC.MelSpectrogram(torch.from_numpy(wav)) + 1e-6)
    upper = torch.triu_indices(40, 40, 1)
    pairs = torch.corrcoef(bands)[upper[0], upper[1]]
    return torch.cat([bands.std(1), pairs]).numpy()


def _eer(x, speakers, sessions, same_session):
    """EER of cosine, targets from one session or from two."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    one, other = np.triu_indices(len(x), 1)
    target = speakers[one] == speakers[other]
    kind = (sessions[one] == sessions[other]) == same_session
    kept = ~target | kind
    scores = (x[one] * x[other]).sum(1)[kept]
    return equal_error_rate(scores, target[kept].astype(int))[0]


def test_channels_hide_speakers_until_a_classifier_is_trained(corpus):
    speakers, sessions, simple, rich = corpus
    test = speakers >= N_TRAIN
    who, when = speakers[test], sessions[test]
    simple = (simple - simple[test].mean(0)) / simple[test].std(0)
    across = _eer(simple[test], who, when, same_session=False)
    within = _eer(simple[test], who, when, same_session=True)
    # One recording is recognised by its channel, which is useless across.
    assert within < 0.12 and 0.15 < across < 0.45
    trained = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.3)
    trained.fit(rich[~test], speakers[~test])
    x = trained.transform(rich)
    x -= x[~test].mean(0)
    assert _eer(x[test], who, when, same_session=False) < across - 0.1
