"""MUSAN and RIRS_NOISES are known by what their archives unpack to."""

import pytest
import soundfile

from speechbrain_ext.augment.sound_folders import (
    check_downloads,
    check_sounds,
    impulse_responses,
)
from speechbrain_ext.utils.errors import InputError


@pytest.fixture
def folders(tmp_path):
    """Both archives below one folder."""
    for part in ("music/fma", "noise/free-sound", "speech/librivox"):
        (tmp_path / "musan" / part).mkdir(parents=True)
    for room in ("smallroom", "mediumroom", "largeroom"):
        path = tmp_path / "RIRS_NOISES" / "simulated_rirs" / room / "Room001"
        path.mkdir(parents=True)
    (tmp_path / "RIRS_NOISES" / "real_rirs_isotropic_noises").mkdir()
    (tmp_path / "RIRS_NOISES" / "pointsource_noises").mkdir()
    return tmp_path


def test_the_folders_are_taken_as_they_unpack(folders):
    check_downloads(folders / "musan", folders / "RIRS_NOISES")
    rooms = impulse_responses(folders / "RIRS_NOISES")
    assert len(list(rooms.iterdir())) == 3


@pytest.mark.parametrize(
    ("musan", "rirs", "said"),
    [
        # The folder above, the folder below, the other one, one of nothing.
        (".", "RIRS_NOISES", r"musan is .*no music; give --musan=.*/musan$"),
        ("musan/noise", "RIRS_NOISES", r"give --musan=.*/musan$"),
        ("musan", ".", r"rirs is .*give --rirs=.*/RIRS_NOISES$"),
        (
            "musan",
            "RIRS_NOISES/simulated_rirs",
            r"has no simulated_rirs/smallroom; give --rirs=.*/RIRS_NOISES$",
        ),
        ("musan", "musan", r"rirs is .*give --rirs=.*/RIRS_NOISES$"),
        ("nowhere/at/all", "RIRS_NOISES", r"noise, speech.*correct --musan$"),
        ("musan", "nowhere/at/all", r"largeroom, .*correct --rirs$"),
    ],
)
def test_another_folder_is_named_with_what_was_expected(
    folders, musan, rirs, said
):
    with pytest.raises(InputError, match=said) as caught:
        check_downloads(folders / musan, folders / rirs)
    assert "\n" not in str(caught.value)


def test_an_incomplete_folder_is_refused(folders):
    (folders / "musan" / "speech" / "librivox").rmdir()
    (folders / "musan" / "speech").rmdir()
    with pytest.raises(InputError, match="has no speech; correct --musan"):
        check_downloads(folders / "musan", folders / "RIRS_NOISES")


def test_a_file_that_is_no_recording_is_named_before_a_run(tmp_path):
    for kind in ("noise", "music", "speech", "rir"):
        (tmp_path / kind).mkdir()
        soundfile.write(tmp_path / kind / "a.wav", [0.5] * 100, 16000)
    check_sounds(tmp_path)
    (tmp_path / "music" / "page.wav").write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"music/page\.wav: unreadable: .*del"):
        check_sounds(tmp_path)
