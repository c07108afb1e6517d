"""Make a corpus of synthetic voices: speech, noises, manifests, trials.

To run it:
> python recipes/prepare_toy.py hparams/prepare_toy.yaml --output_folder=exp/toy

Speech goes to ``{train,test}/wav/speaker/session/utterance.wav``, sounds for
augmentation to ``augment/{noise,music,speech,rir}/``. Target trials are always
between two sessions, whose channels differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio import synthetic_sounds
from speechbrain_ext.dataio.audio_files import write_wav
from speechbrain_ext.dataio.audio_tree import list_audio
from speechbrain_ext.dataio.corpus import prepare
from speechbrain_ext.dataio.oracle import write_oracle
from speechbrain_ext.dataio.settings import PrepareToy
from speechbrain_ext.dataio.synthetic_voices import ToyVoice
from speechbrain_ext.dataio.trials import TrialList, parse_trials
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.distributed import from_first_process
from speechbrain_ext.utils.workers import in_parallel

# Numbers of the first speaker of each part; training starts at 1.
_FIRST = {"train": 1, "test": 50001, "speech": 90001}


class Sound(NamedTuple):
    """File to synthesise: its kind, seed, length in seconds, and numbers."""

    path: str
    kind: str
    seed: int
    seconds: float
    numbers: tuple[int, ...]


def main(argv: list[str] | None = None) -> None:
    """Synthesise the missing files, then write manifests and trials."""
    recipe = RecipeRun(__file__, PrepareToy, argv)
    settings: PrepareToy = recipe.settings
    if recipe.is_done():
        return
    sounds = utterances(recipe.folder, settings) + bank(recipe.folder, settings)
    in_parallel(make, sounds, settings.num_workers, "voices")
    train = list_audio([recipe.folder / "train" / "wav"])
    test = list_audio([recipe.folder / "test" / "wav"])
    trials = draw_trials(test.ids, settings.n_trials, settings.seed)
    names, facts = prepare(
        recipe.folder,
        recipe.folder,
        train,
        test,
        [trials],
        min_duration=0,
        convert_to_wav=False,
        num_workers=settings.num_workers,
    )
    facts["n_oracle_speakers"] = from_first_process(
        write_oracle, recipe.folder / "oracle.csv", train.ids + test.ids
    )
    recipe.finish([*names, "oracle.csv"], synthetic=True, **facts)


def utterances(folder: Path, settings: PrepareToy) -> list[Sound]:
    """List the speech files of the training and the test speakers."""
    seed = settings.seed
    low, high = settings.min_seconds, settings.max_seconds
    sounds = []
    for part, count in (
        ("train", settings.n_speakers),
        ("test", settings.n_test_speakers),
    ):
        shape = (count, settings.n_sessions, settings.n_utterances)
        for who, session, index in np.ndindex(shape):
            speaker = _FIRST[part] + who
            numbers = (speaker, session, index)
            draw = synthetic_sounds.generator(seed, "seconds", *numbers)
            # Few different lengths, so that utterances are embedded in batches.
            seconds = round(float(draw.uniform(low, high)), 1)
            name = f"id{speaker:05d}/session{session + 1}/{index + 1:05d}.wav"
            path = str(folder / part / "wav" / name)
            sounds.append(Sound(path, "utterance", seed, seconds, numbers))
    return sounds


def bank(folder: Path, settings: PrepareToy) -> list[Sound]:
    """List the files for augmentation: noise, music, babble talkers, rooms."""
    lengths = {"noise": 6.0, "music": 6.0, "speech": 5.0, "rir": 0.0}
    return [
        Sound(
            str(folder / "augment" / kind / f"{kind}-{number:03d}.wav"),
            kind,
            settings.seed,
            seconds,
            (number,),
        )
        for kind, seconds in lengths.items()
        for number in range(settings.n_sounds)
    ]


def make(sound: Sound) -> None:
    """Synthesise one file, unless it exists."""
    if Path(sound.path).exists():
        return
    write_wav(sound.path, _samples(sound))


def _samples(sound: Sound) -> np.ndarray:
    if sound.kind == "utterance":
        speaker, session, index = sound.numbers
        voice = ToyVoice(sound.seed, speaker)
        return voice.utterance(session, index, sound.seconds)
    (number,) = sound.numbers
    if sound.kind == "speech":
        voice = ToyVoice(sound.seed, _FIRST["speech"] + number)
        return 0.1 * voice.speech(0, 0, sound.seconds)
    if sound.kind == "rir":
        draw = synthetic_sounds.generator(sound.seed, "rir", number)
        return synthetic_sounds.impulse_response(draw)
    draw = synthetic_sounds.generator(sound.seed, sound.kind, number)
    return getattr(synthetic_sounds, sound.kind)(draw, sound.seconds)


def draw_trials(ids: list[str], n_trials: int, seed: int) -> TrialList:
    """Draw trials between test utterances, each pair once, in random order.

    Arguments
    ---------
    ids : list of str
        ``speaker/session/utterance`` [N].
    n_trials : int
        How many; half are targets if there are that many.
    seed : int
        Seed of the corpus.

    Returns
    -------
    TrialList
        Named ``toy``.
    """
    rng = synthetic_sounds.generator(seed, "trials")
    names = np.array([name.split("/")[:2] for name in ids])
    speakers = np.unique(names[:, 0], return_inverse=True)[1]
    sessions = np.unique(names[:, 1], return_inverse=True)[1]
    targets = _target_pairs(speakers, sessions)
    n_targets = min(n_trials // 2, len(targets))
    targets = rng.permutation(targets)[:n_targets]
    others = _other_pairs(rng, speakers, n_trials - n_targets)
    labels = np.repeat([1, 0], [len(targets), len(others)])
    order = rng.permutation(len(labels))
    pairs = np.concatenate([targets, others])[order]
    lines = [
        f"{label} {ids[enrol]} {ids[test]}\n"
        for label, (enrol, test) in zip(labels[order], pairs, strict=True)
    ]
    return parse_trials("toy", "trials/toy.txt", "".join(lines).encode())


def _target_pairs(speakers: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """List all pairs [P, 2] of one speaker in two sessions."""
    pairs = []
    for speaker in np.unique(speakers):
        rows = np.flatnonzero(speakers == speaker)
        one, other = np.triu_indices(len(rows), 1)
        across = sessions[rows[one]] != sessions[rows[other]]
        pairs.append(np.stack([rows[one], rows[other]], axis=1)[across])
    return np.concatenate(pairs)


def _other_pairs(
    rng: np.random.Generator, speakers: np.ndarray, n: int
) -> np.ndarray:
    """Draw pairs [P, 2] of different speakers, P at most ``n``."""
    drawn = rng.integers(0, len(speakers), (4 * n + 1000, 2))
    drawn = np.sort(drawn, axis=1)
    drawn = drawn[speakers[drawn[:, 0]] != speakers[drawn[:, 1]]]
    return rng.permutation(np.unique(drawn, axis=0))[:n]


if __name__ == "__main__":
    run(main)
