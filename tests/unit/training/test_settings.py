"""Settings of the trainings: defaults of leaves, rules over several keys."""

import pytest
import training_leaf

from speechbrain_ext.utils.errors import InputError

DINO, SIMCLR = "train_dino_ecapa", "train_contrastive_ecapa"
SPEAKER = "train_speaker_ecapa"
MOCO = {"method": "moco", "batch_size": 8}


@pytest.mark.parametrize(
    ("stem", "changes", "words"),
    [
        (DINO, {"embedder": {"width": "abc"}}, "embedder.width is 'abc'"),
        (DINO, {"embedder": {"widht": 9}}, "did you mean 'width'"),
        (DINO, {"head": {"n_prototypes": 0}}, "head.n_prototypes is 0; it"),
        (DINO, {"head": {"n_prototypes": "x"}}, "head.n_prototypes is 'x'"),
        (DINO, {"augment": {"reverb_prob": 2}}, "augment.reverb_prob is 2"),
        (DINO, {"augment": {"probabilities": [1]}}, "must be five weights"),
        (DINO, {"augment": {"probabilities": [0] * 5}}, "above 0"),
        (DINO, {"augment": {"noise_snr": [15, 0]}}, "noise_snr is [15, 0];"),
        (DINO, {"augment": {"music_snr": [5]}}, "must be [lowest, highest]"),
        (SPEAKER, {"augment": {"babble_snr": 13}}, "babble_snr is 13; it"),
        (SPEAKER, {"augment": {"babble_snr": ["a", 2]}}, "babble_snr"),
        (SIMCLR, {"augment": {"n_talkers": [0, 3]}}, "n_talkers"),
        (SIMCLR, {"augment": {"max_hours": 0}}, "max_hours is 0; it must be"),
        (DINO, {"n_global": 1, "n_local": 0}, "n_global is 1 and n_local is 0"),
        (DINO, {"regularizer_weight": 0.2}, "head.expander_size is 0"),
        (DINO, {"n_ssps_epochs": 1}, "give --positives=ssps"),
        (DINO, {"positives": "ssps"}, "n_ssps_epochs is 0"),
        (DINO, {"eer_trials": "a.txt"}, "eer_annotation is null"),
        (DINO, {"grad_accumulation_factor": 2}, "lower --batch_size"),
        (DINO, {"loss": {"center_momentum": 2}}, "loss.center_momentum is 2"),
        (DINO, {"loss": "!name:no.Such"}, "must name a class or function"),
        (SIMCLR, {"positives": "oracle"}, "--oracle=oracle.csv"),
        (SIMCLR, {"oracle": "oracle.csv"}, "leave --oracle out"),
        (SIMCLR, {**MOCO, "n_keys": 10}, "e.g. --n_keys=8"),
        (
            SIMCLR,
            {"loss": "!name:speechbrain_ext.losses.MoCoLoss"},
            "change --method",
        ),
        (SIMCLR, {**MOCO, "n_keys": 8, "loss": {"margin": -1}}, "margin is -1"),
        (SPEAKER, {"margin_rise": [5, 2]}, "margin_rise is [5, 2]"),
        (SPEAKER, {"margin_rise": [3]}, "margin_rise is [3]"),
        (SPEAKER, {"correct_from_epoch": 9}, "gate null and gate_from_epoch 5"),
        (SPEAKER, {"lr_parts": {"encoder": -1}}, "lr_parts.encoder is -1"),
        (SPEAKER, {"loss": {"scale": 0}}, "loss.scale is 0"),
    ],
)
def test_what_does_not_go_together_is_one_line(stem, changes, words):
    with pytest.raises(InputError) as caught:
        training_leaf.read(stem, **changes)
    message = str(caught.value)
    assert words in message
    assert message.count(";") >= 2 and "\n" not in message


def test_the_default_loss_is_that_of_the_method():
    leaf = training_leaf.read(SIMCLR, loss={"temperature": 0.1}, **MOCO)
    assert leaf.settings.loss == {
        "!": "!name:speechbrain_ext.losses.MoCoLoss",
        "temperature": 0.1,
        "margin": 0.0,
        "margin_form": "additive",
    }


def test_another_class_takes_its_own_arguments_alone():
    words = "!name:torch.optim.SGD {momentum: 0.5}"
    leaf = training_leaf.read(SIMCLR, opt_class=words)
    assert leaf.record["opt_class"] == {
        "!": "!name:torch.optim.SGD",
        "momentum": 0.5,
    }


def test_what_does_not_decide_the_result_is_not_on_record():
    first = training_leaf.read(DINO).record
    second = training_leaf.read(
        DINO,
        data_folder="y",
        num_workers=0,
        collapse_patience=None,
        ckpt_interval_minutes=3,
        eer_interval=9,
        eer_trials="a.txt",
        eer_annotation="b.csv",
        checkpointer="!name:speechbrain.utils.checkpoints.Checkpointer",
        train_logger="!name:speechbrain.utils.train_logger.FileTrainLogger",
    ).record
    assert first == second
    third = training_leaf.read(DINO, augment_folder="sounds").record
    assert first != third
    assert third == training_leaf.read(DINO, augment_folder="moved").record


@pytest.mark.parametrize(
    ("stem", "embedder", "changes", "names"),
    [
        (DINO, "ecapa_512", {}, set()),
        (
            SIMCLR,
            "ecapa_512_40mel",
            {"positives": "oracle", "oracle": "o.csv"},
            {"oracle"},
        ),
        (
            SPEAKER,
            "ecapa",
            {"init_from": "e", "init_classifier": "c.ckpt"},
            {"init_from", "init_classifier"},
        ),
    ],
)
def test_inputs_are_all_files_that_decide_the_result(
    stem, embedder, changes, names
):
    found = training_leaf.read(stem, **changes).settings.inputs()
    assert found.keys() == {"train_annotation", "embedder_yaml", *names}
    path = f"hparams/embedders/{embedder}.yaml"
    assert found["embedder_yaml"].endswith(path)


def test_the_bytes_of_a_local_encoder_are_on_record_and_not_its_place(
    tmp_path,
):
    def read(source):
        embedder = {"encoder_source": str(source)}
        return training_leaf.read(
            "train_speaker_encoder_mhfa", embedder=embedder
        )

    for place in ("old", "new"):
        (tmp_path / place / "hf").mkdir(parents=True)
        for name in ("config.json", "model.safetensors", "README.md"):
            (tmp_path / place / "hf" / name).touch()
        (tmp_path / place / "WavLM.pt").touch()
    for name, inputs in (
        ("hf", {"encoder config.json", "encoder model.safetensors"}),
        ("WavLM.pt", {"encoder"}),
    ):
        old, new = (read(tmp_path / p / name) for p in ("old", "new"))
        assert old.record == new.record
        hub = read("some/id").settings.inputs()
        assert old.settings.inputs().keys() - hub.keys() == inputs


def test_sounds_of_augmentation_are_on_record_and_not_their_place(tmp_path):
    def read(place):
        rooms = {"rir_folder": str(tmp_path / place / "rooms")}
        return training_leaf.read(
            DINO, augment_folder=str(tmp_path / place / "musan"), augment=rooms
        )

    for place in ("old", "new"):
        for name in ("musan/a.wav", "rooms/a.wav"):
            path = tmp_path / place / name
            path.parent.mkdir(parents=True)
            path.write_bytes(b"sound")
    old, new = read("old"), read("new")
    assert old.record == new.record
    files = old.settings.augment_files()
    assert files == new.settings.augment_files()
    (tmp_path / "new" / "rooms" / "a.wav").write_bytes(b"another")
    assert files != new.settings.augment_files()
    assert training_leaf.read(DINO).settings.augment_files() == {}


def unpacked(folder):
    """MUSAN and RIRS_NOISES in a folder, a file in each of their folders."""
    rirs = "RIRS_NOISES/simulated_rirs"
    rooms = [f"{rirs}/{size}room" for size in ("small", "medium", "large")]
    others = ["RIRS_NOISES/real_rirs_isotropic_noises"]
    for part in ("music", "noise", "speech"):
        others.append(f"musan/{part}")
    for name in rooms + others:
        (folder / name).mkdir(parents=True)
        (folder / name / "a.wav").write_bytes(b"sound")
    return {
        "musan": str(folder / "musan"),
        "rirs": str(folder / "RIRS_NOISES"),
    }


@pytest.mark.parametrize("stem", [DINO, SIMCLR, SPEAKER])
def test_musan_and_rirs_are_given_as_they_unpack(stem, tmp_path):
    old = training_leaf.read(stem, **unpacked(tmp_path / "old"))
    new = training_leaf.read(stem, **unpacked(tmp_path / "new"))
    rooms = str(tmp_path / "old" / "RIRS_NOISES" / "simulated_rirs")
    sounds = str(tmp_path / "old" / "musan")
    assert old.settings.sound_folders() == (sounds, rooms)
    assert old.record == new.record and old.record["augmented"]
    assert old.record != training_leaf.read(stem).record
    files = old.settings.augment_files()
    assert files == new.settings.augment_files()
    counts = {k: v["count"] for k, v in files["augment_files"].items()}
    assert counts == {"sounds": 3, "rir": 3}
    # Noises recorded with the responses are not used and decide nothing.
    isotropic = tmp_path / "new/RIRS_NOISES/real_rirs_isotropic_noises"
    (isotropic / "b.wav").write_bytes(b"more")
    assert files == new.settings.augment_files()
    (tmp_path / "new" / "musan" / "noise" / "b.wav").write_bytes(b"more")
    assert files != new.settings.augment_files()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"musan": "m"}, "musan is m and rirs is null; .*give --rirs"),
        ({"rirs": "r"}, "rirs is r and musan is null; .*give --musan"),
        (
            {"musan": "m", "rirs": "r", "augment_folder": "a"},
            "musan is m and augment_folder is a; .*--augment_folder=null",
        ),
        (
            {"musan": "m", "rirs": "r", "augment": {"rir_folder": "f"}},
            "augment.rir_folder is f; rirs, r, has .*leave one out",
        ),
        (
            {"musan": "m", "rirs": "r", "augment": "!name:torch.nn.Dropout"},
            "musan is m; .*Dropout takes one folder.*give --augment_folder",
        ),
    ],
)
def test_sounds_are_given_once_and_whole(given, said):
    with pytest.raises(InputError, match=said):
        training_leaf.read(DINO, **given)


def test_a_wrong_folder_of_sounds_is_named_before_training(tmp_path):
    given = {"musan": str(tmp_path), "rirs": str(tmp_path)}
    settings = training_leaf.read(DINO, **given).settings
    with pytest.raises(InputError, match="musan as it unpacks, with music"):
        settings.augment_files()
