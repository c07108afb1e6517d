"""prepare_toy: the same bytes for the same seed, shaped like VoxCeleb."""

import hashlib

import pandas as pd
import pytest
import soundfile

from recipes import prepare_toy
from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import read_json
from speechbrain_ext.verification.cosine import read_trials

LEAF = "hparams/prepare_toy.yaml"
SMALL = {
    "n_speakers": 3,
    "n_test_speakers": 3,
    "n_sessions": 2,
    "n_utterances": 2,
    "min_seconds": 0.5,
    "max_seconds": 0.8,
    "n_trials": 30,
    "n_sounds": 2,
}


def _make(folder, **changes):
    options = {"output_folder": folder, **SMALL, **changes}
    prepare_toy.main([LEAF, *(f"--{k}={v}" for k, v in options.items())])
    return folder


def _digest(folder):
    """SHA-256 of all sounds, manifests and trials of a corpus."""
    files = [p for p in folder.rglob("*") if p.suffix in (".wav", ".csv")]
    files.append(folder / "trials" / "toy.txt")
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return _make(tmp_path_factory.mktemp("toy") / "corpus", num_workers=1)


def test_the_number_of_workers_changes_no_byte(toy, tmp_path):
    other = _make(tmp_path / "corpus", num_workers=2)
    assert _digest(other) == _digest(toy)


def test_another_seed_is_another_corpus(toy, tmp_path):
    assert _digest(_make(tmp_path / "corpus", seed=7)) != _digest(toy)


def test_test_voices_do_not_depend_on_the_training_set(toy, tmp_path):
    other = _make(tmp_path / "corpus", n_speakers=4)
    for name in ("test.csv", "trials/toy.txt"):
        assert (other / name).read_bytes() == (toy / name).read_bytes()


def test_wavs_are_16_khz_mono_pcm16_of_the_lengths_asked_for(toy):
    data_root = read_json(toy / "stage.json")["data_root"]
    assert data_root == str(toy)
    for name, n in (("train.csv", 12), ("test.csv", 12)):
        manifest = read_manifest(toy / name, "utterances", data_root)
        assert len(manifest) == n
        assert manifest.duration.min() >= 0.5 - 1e-3
        assert manifest.duration.max() <= 0.8 + 1e-3
        for path, stop in zip(manifest.paths(), manifest.stop, strict=True):
            header = soundfile.info(path)
            assert (header.samplerate, header.channels) == (16000, 1)
            assert (header.subtype, header.frames) == ("PCM_16", stop)


def test_no_manifest_carries_a_speaker_and_the_oracle_has_them_all(toy):
    ids = []
    for name in ("train.csv", "test.csv"):
        columns = list(pd.read_csv(toy / name, nrows=1).columns)
        assert columns == ["ID", "duration", "wav", "start", "stop"]
        ids += list(read_manifest(toy / name, "utterances").ids)
    oracle = read_manifest(toy / "oracle.csv", "oracle")
    assert sorted(oracle.ids) == sorted(ids)
    assert len(set(oracle.spk_id)) == 6


def test_training_and_test_speakers_are_disjoint(toy):
    speakers = [
        {name.split("/")[0] for name in read_manifest(path, "utterances").ids}
        for path in (toy / "train.csv", toy / "test.csv")
    ]
    assert not speakers[0] & speakers[1]


def test_targets_cross_sessions_and_others_cross_speakers(toy):
    trials = read_trials(toy / "trials" / "toy.txt")
    known = read_manifest(toy / "test.csv", "utterances")
    assert (known.rows_of(trials.names) >= 0).all()
    assert trials.labels.sum() == 12  # all there are: 3 speakers x 2 x 2
    assert len(trials) == 30
    same_sex = 0
    for label, enrol, test in zip(
        trials.labels, trials.enrol, trials.test, strict=True
    ):
        (who, when, _), (other, then, _) = enrol.split("/"), test.split("/")
        assert (who == other) == bool(label)
        assert not label or when != then
        same_sex += not label and int(who[2:]) % 2 == int(other[2:]) % 2
    assert 0 < same_sex < 18


def test_sounds_for_augmentation_are_of_four_kinds(toy):
    for kind in ("noise", "music", "speech", "rir"):
        paths = sorted((toy / "augment" / kind).iterdir())
        assert len(paths) == 2
        assert all(soundfile.read(path)[0].std() > 1e-3 for path in paths)


def test_a_finished_corpus_is_left_alone(toy):
    receipt = (toy / "stage.json").stat().st_mtime_ns
    _make(toy)
    assert (toy / "stage.json").stat().st_mtime_ns == receipt


def test_a_killed_run_goes_on_to_the_same_corpus(toy, tmp_path, monkeypatch):
    made = []

    def dying(sound):
        if len(made) == 9:
            raise KeyboardInterrupt
        made.append(sound.path)
        prepare_toy.write_wav(sound.path, prepare_toy._samples(sound))

    monkeypatch.setattr(prepare_toy, "make", dying)
    with pytest.raises(KeyboardInterrupt):
        _make(tmp_path / "corpus", num_workers=1)
    assert not (tmp_path / "corpus" / "stage.json").exists()
    monkeypatch.undo()
    _make(tmp_path / "corpus")
    assert _digest(tmp_path / "corpus") == _digest(toy)


def test_other_sizes_in_the_same_folder_are_refused(toy):
    before = _digest(toy)
    with pytest.raises(InputError, match=r"hparams\.n_speakers was 3, now 9"):
        _make(toy, n_speakers=9)
    assert _digest(toy) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_speakers": 0}, "n_speakers is 0; .* a whole number of 1 or more"),
        ({"n_test_speakers": 1}, "n_test_speakers is 1; .* 2 or more"),
        ({"n_sessions": 1}, "n_sessions is 1; .* 2 or more"),
        ({"n_utterances": 1.5}, "n_utterances is 1.5; .* a whole number"),
        ({"min_seconds": 2.0}, "min_seconds is 2; .* max_seconds, 0.8"),
    ],
)
def test_impossible_sizes_are_refused_before_any_work(tmp_path, change, said):
    with pytest.raises(InputError, match=said):
        _make(tmp_path / "corpus", **change)
    assert not (tmp_path / "corpus").exists()
