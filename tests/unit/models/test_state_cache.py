"""States that are kept: those of the encoder, whoever made them and when."""

import numpy as np
import pandas as pd
import pytest
import torch
from small_recordings import LENGTHS, write_recordings
from tiny_whisper import SHORT
from tones import Killed

from speechbrain_ext.dataio.audio import read_crop
from speechbrain_ext.dataio.manifest import Manifest
from speechbrain_ext.models import state_cache
from speechbrain_ext.models.speech_encoder import SpeechEncoder
from speechbrain_ext.models.state_cache import RandomStates, StateCopies
from speechbrain_ext.utils.errors import InputError

N_COPIES = 3


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = write_recordings(tmp_path_factory.mktemp("wavs"))
    return Manifest(pd.read_csv(folder / "all.csv"), "utterances", str(folder))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return SpeechEncoder(config=SHORT, freeze="all")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(state_cache, "_CHUNK", 2)


def louder(wavs, keys):
    """An augmentation that depends on the key alone."""
    gains = 2 + (keys % np.uint64(97)).astype(np.float32)
    return wavs * torch.from_numpy(gains).to(wavs)[:, None]


@pytest.fixture
def made(tmp_path, manifest, encoder):
    states = StateCopies(tmp_path / "made", manifest, encoder, N_COPIES, 1)
    states.make(louder)
    return states


def contents(states):
    return (states.folder / "states.float16").read_bytes()


def whole(states, name, copy):
    n_frames = states.n_frames[states.row_of[name]]
    return states.read(name, copy, 0, int(n_frames))


def test_the_first_copy_is_clean_and_the_others_are_augmented(
    made, manifest, encoder
):
    for name in manifest.ids:
        wav = read_crop(manifest[name]["wav"])[None]
        clean = encoder(wav)[:, 0].transpose(0, 1)
        found = [whole(made, name, copy).float() for copy in range(N_COPIES)]
        torch.testing.assert_close(found[0], clean, rtol=1e-3, atol=1e-6)
        for other in found[1:]:
            assert not torch.allclose(other, clean, rtol=0.1, atol=1e-5)
        assert not torch.equal(*found[1:])


def test_another_seed_augments_in_another_way(made, manifest, encoder):
    other = StateCopies(
        made.folder.with_name("other"), manifest, encoder, N_COPIES, 2
    )
    other.make(louder)
    assert torch.equal(whole(other, "u1", 0), whole(made, "u1", 0))
    assert not torch.equal(whole(other, "u1", 1), whole(made, "u1", 1))


def test_the_size_is_that_of_half_precision_and_nothing_more(made):
    n_frames = sum(-(-length // 320) for length in LENGTHS)
    assert made.n_bytes == n_frames * N_COPIES * 3 * 16 * 2
    assert len(contents(made)) == made.n_bytes


def harmed(states, harm):
    """A file of states of which a byte or more has changed."""
    path = states.folder / "states.float16"
    content = bytearray(path.read_bytes())
    if harm == "bit":
        content[5] ^= 1
    else:
        del content[len(content) // 2 :]
    path.write_bytes(content)


@pytest.mark.parametrize("harm", ["bit", "half"])
def test_damaged_states_are_named_and_made_again(
    made, manifest, encoder, caplog, harm
):
    wanted = contents(made)
    harmed(made, harm)
    again = StateCopies(made.folder, manifest, encoder, N_COPIES, 1)
    again.make(louder)
    said = {"bit": "utterances 0 to 1 are damaged", "half": "right length"}
    said = said[harm]
    assert said in caplog.text
    assert contents(again) == wanted


@pytest.mark.parametrize("text", ["[]", "null", "{}", "{", ""])
def test_a_record_of_another_shape_makes_the_states_anew(
    made, manifest, encoder, text
):
    wanted = contents(made)
    (made.folder / "states.json").write_text(text)
    again = StateCopies(made.folder, manifest, encoder, N_COPIES, 1)
    again.make(louder)
    assert contents(again) == wanted


def test_what_a_kill_left_is_kept_and_the_rest_is_made(
    made, manifest, encoder, monkeypatch
):
    folder = made.folder.with_name("killed")
    states = StateCopies(folder, manifest, encoder, N_COPIES, 1)
    forward, count = SpeechEncoder.forward, iter(range(100))

    def dying(self, wavs):
        if next(count) == 9:
            raise Killed
        return forward(self, wavs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(SpeechEncoder, "forward", dying)
        states.make(louder)
    done = sorted(path.name for path in folder.glob("*.done"))
    assert done == ["000000000.done"]
    heard = []

    def noting(self, wavs):
        heard.append(wavs.shape[1])
        return forward(self, wavs)

    again = StateCopies(folder, manifest, encoder, N_COPIES, 1)
    with monkeypatch.context() as patch:
        patch.setattr(SpeechEncoder, "forward", noting)
        again.make(louder)
    assert sorted(heard) == sorted(LENGTHS[2:] * N_COPIES)
    assert contents(again) == contents(made)
    # Once more, nothing is computed at all.
    with monkeypatch.context() as patch:
        patch.setattr(SpeechEncoder, "forward", dying)
        StateCopies(folder, manifest, encoder, N_COPIES, 1).make(louder)


def other_encoder():
    torch.manual_seed(1)
    return SpeechEncoder(config=SHORT, freeze="all")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"encoder": other_encoder()}, "encoder"),
        ({"n_copies": 2}, "copies"),
        ({"seed": 2}, "seed"),
        ({"augmentation": {"augment": "more"}}, "augmentation"),
    ],
)
def test_states_of_another_request_are_made_anew(
    made, manifest, encoder, changes, word, caplog
):
    values = {"encoder": encoder, "n_copies": N_COPIES, "seed": 1, **changes}
    StateCopies(made.folder, manifest, **values).make(louder)
    assert f"states are of another request (other {word}" in caplog.text
    fresh = StateCopies(made.folder.with_name("new"), manifest, **values)
    fresh.make(louder)
    assert (made.folder / "states.float16").read_bytes() == contents(fresh)


def test_states_of_other_utterances_are_made_anew(
    made, manifest, encoder, caplog
):
    table = manifest.table.assign(start=100)
    others = Manifest(table, "utterances", manifest.data_root)
    StateCopies(made.folder, others, encoder, N_COPIES, 1).make(louder)
    assert "other utterances" in caplog.text


def test_two_processes_make_what_one_makes(
    made, manifest, encoder, monkeypatch
):
    monkeypatch.setattr(state_cache, "n_processes", lambda: 2)
    folder, n_done = made.folder.with_name("pair"), []
    for rank in (0, 1):
        monkeypatch.setattr(state_cache, "get_rank", lambda rank=rank: rank)
        states = StateCopies(folder, manifest, encoder, N_COPIES, 1)
        states.make(louder)
        n_done.append(len(list(folder.glob("*.done"))))
    assert n_done == [2, 3]
    assert contents(states) == contents(made)


def test_a_full_disk_is_refused_before_anything_is_computed(
    tmp_path, manifest, encoder, monkeypatch
):
    usage = state_cache.shutil.disk_usage(tmp_path)._replace(free=5)
    monkeypatch.setattr(state_cache.shutil, "disk_usage", lambda path: usage)
    states = StateCopies(tmp_path / "full", manifest, encoder, 1, 1)
    with pytest.raises(InputError, match="state_copies is 1; .*n_layers"):
        states.make()


def test_an_utterance_without_a_state_is_refused(tmp_path, manifest, encoder):
    table = manifest.table.assign(stop=[5000, 159, 5000, 6000, 4000])
    short = Manifest(table, "utterances", manifest.data_root)
    with pytest.raises(InputError, match="u1 has 159 samples; .* needs 160"):
        StateCopies(tmp_path, short, encoder, 1, 1)


def test_a_state_beyond_half_precision_is_refused(tmp_path, manifest, encoder):
    states = StateCopies(tmp_path / "s", manifest, encoder, 2, 1)
    with pytest.raises(InputError, match="u0: a state is not finite in half"):
        states.make(lambda wavs, keys: wavs * float("nan"))


def test_deleted_states_leave_no_folder(made):
    made.delete()
    assert not made.folder.exists()


def crops_of(crop, names, epochs):
    found = {}
    for crop.epoch in epochs:
        for name in names:
            (found[crop.epoch, name],) = crop(name, "", 0, 0)
    return found


def test_crops_depend_on_seed_epoch_and_utterance_only(made, manifest):
    crop, again = (RandomStates(made, 7, seed=5) for _ in range(2))
    found = crops_of(crop, manifest.ids, (1, 2, 3, 4))
    backwards = crops_of(again, manifest.ids[::-1], (4, 3, 2, 1))
    assert all(x.shape == (7, 3, 16) for x in found.values())
    assert all(torch.equal(x, backwards[key]) for key, x in found.items())
    assert not torch.equal(found[1, "u0"], found[2, "u0"])
    other = crops_of(RandomStates(made, 7, seed=6), manifest.ids, (1, 2))
    assert any(not torch.equal(x, found[key]) for key, x in other.items())


def test_each_copy_is_drawn_about_as_often(made):
    # As long as the utterance, so that a crop is one of the copies.
    n_frames = int(made.n_frames[0])
    crop = RandomStates(made, n_frames, seed=5)
    copies = [whole(made, "u0", copy) for copy in range(N_COPIES)]
    counts = np.zeros(N_COPIES)
    for crop.epoch in range(1, 61):
        (found,) = crop("u0", "", 0, 0)
        counts += [torch.equal(found, copy) for copy in copies]
    assert counts.sum() == 60 and counts.min() > 10


def test_the_clean_crop_is_of_the_same_frames(made, manifest):
    crop = RandomStates(made, 7, seed=5)
    only = RandomStates(made, 7, seed=5, only_clean=True)
    for crop.epoch in (1, 2, 3):
        only.epoch = crop.epoch
        clean = crop.clean(["u3", "u0"])
        assert torch.equal(clean[0], only("u3", "", 0, 0)[0])
        start = crop.positions("u0", int(made.n_frames[0]))[0]
        assert torch.equal(clean[1], whole(made, "u0", 0)[start : start + 7])


def test_an_utterance_shorter_than_a_crop_is_repeated(made):
    length = int(made.n_frames[1])
    crop = RandomStates(made, 2 * length + 3, seed=5, only_clean=True)
    (found,) = crop("u1", "", 0, 0)
    states = whole(made, "u1", 0)
    assert torch.equal(found, torch.cat([states, states, states[:3]]))
