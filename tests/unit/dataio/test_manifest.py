"""Manifests keep their contract, by row number, in little memory."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from speechbrain.dataio.dataio import load_data_csv
from speechbrain.dataio.dataset import DynamicItemDataset

from speechbrain_ext.dataio.manifest import (
    KINDS,
    Manifest,
    read_manifest,
    select,
    write_manifest,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import write_text

_HEADER = "ID,duration,wav,start,stop\n"
_GOOD = "a,1.0,$data_root/a.wav,0,16000\n"


def _rows(n=3):
    return pd.DataFrame(
        {
            "ID": [f"s/{i}.wav" for i in range(n)],
            "duration": 1.5,
            "wav": [f"$data_root/s/{i}.wav" for i in range(n)],
            "start": 0,
            "stop": 24000,
        }
    )


def test_rows_come_back_in_order_with_types(tmp_path):
    rows = _rows().iloc[[2, 0, 1]]
    write_manifest(tmp_path / "train.csv", rows, "utterances")
    manifest = read_manifest(tmp_path / "train.csv", "utterances", "/data")
    assert list(manifest.ids) == ["s/2.wav", "s/0.wav", "s/1.wav"]
    assert manifest.stop.dtype == "int64"
    assert manifest.duration.dtype == "float64"
    assert manifest.paths()[0] == "/data/s/2.wav"


def test_speechbrain_reads_what_we_write(tmp_path):
    write_manifest(tmp_path / "train.csv", _rows(), "utterances")
    data = load_data_csv(tmp_path / "train.csv", {"data_root": "/data"})
    ours = read_manifest(tmp_path / "train.csv", "utterances", "/data")
    assert data["s/1.wav"]["wav"] == ours["s/1.wav"]["wav"]
    assert data["s/1.wav"]["duration"] == ours["s/1.wav"]["duration"]


def test_manifest_serves_a_dynamic_item_dataset(tmp_path):
    manifest = Manifest(_rows(), "utterances", "/data")
    dataset = DynamicItemDataset(manifest, output_keys=["id", "wav", "stop"])
    assert dataset[1] == {
        "id": "s/1.wav",
        "wav": "/data/s/1.wav",
        "stop": 24000,
    }
    kept = dataset.filtered_sorted(key_min_value={"stop": 1})
    assert len(kept) == 3


@pytest.mark.parametrize("name", ["NA", "null", "nan", "001", "1e3", "été,à"])
def test_an_id_that_looks_like_a_number_stays_text(tmp_path, name):
    rows = _rows(2)
    rows.loc[1, "ID"] = name
    write_manifest(tmp_path / "train.csv", rows, "utterances")
    ids = read_manifest(tmp_path / "train.csv", "utterances").ids
    assert list(ids) == ["s/0.wav", name]


def test_a_speaker_column_is_refused_in_training_manifests(tmp_path):
    rows = _rows().assign(spk_id="s1")
    path = tmp_path / "train.csv"
    with pytest.raises(InputError, match="belong in oracle.csv"):
        write_manifest(path, rows, "utterances")
    assert not path.exists()
    rows.to_csv(path, index=False)
    with pytest.raises(InputError, match="belong in oracle.csv"):
        read_manifest(path, "utterances")


def test_any_other_extra_column_is_refused(tmp_path):
    with pytest.raises(InputError, match="has columns .*'speaker'"):
        write_manifest(
            tmp_path / "a.csv", _rows().assign(speaker="s1"), "utterances"
        )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("b,x,w,0,9\n", "row 3: duration 'x' is not a number"),
        ("b,nan,w,0,9\n", "row 3: duration 'nan' is not a number"),
        ("b,inf,w,0,9\n", "row 3: duration 'inf' is not a number"),
        ("b,1.0,w,0.5,9\n", "row 3: start '0.5' is not a whole number"),
        ("b,1.0,w,0,\n", "row 3: stop '' is not a whole number"),
        ("b,1.0,w,9,9\n", "row 3: stop '9' is not after start"),
        (",1.0,w,0,9\n", "row 3: ID '' is empty"),
        ("b,1.0,,0,9\n", "row 3: wav '' is empty"),
        ("a,1.0,w,0,9\n", "row 3: ID 'a' is there twice"),
    ],
)
def test_a_bad_row_is_named_by_its_line_number(tmp_path, row, said):
    write_text(tmp_path / "train.csv", _HEADER + _GOOD + row)
    with pytest.raises(InputError) as error:
        read_manifest(tmp_path / "train.csv", "utterances")
    assert said in str(error.value)
    assert "1 such row(s)" in str(error.value)


def test_bad_rows_are_counted(tmp_path):
    bad = "".join(f"b{i},x,w,0,9\n" for i in range(7))
    write_text(tmp_path / "train.csv", _HEADER + _GOOD + bad)
    with pytest.raises(InputError, match=r"row 3.*7 such row\(s\)"):
        read_manifest(tmp_path / "train.csv", "utterances")


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_no_manifest(tmp_path, text):
    write_text(tmp_path / "train.csv", text)
    with pytest.raises(InputError, match="is not a CSV manifest"):
        read_manifest(tmp_path / "train.csv", "utterances")


@pytest.mark.parametrize("at", ["ID", "wav"])
def test_a_zero_byte_is_damage_and_no_name(tmp_path, at):
    """A disk's zeros became part of an ID, and were trained on."""
    row = _GOOD if at == "ID" else _GOOD.replace(".wav", "\0wav")
    if at == "ID":
        row = f"\0{row}"
    write_text(tmp_path / "train.csv", _HEADER + row)
    with pytest.raises(InputError, match=f"{at}.* has a zero byte"):
        read_manifest(tmp_path / "train.csv", "utterances")


def test_a_ragged_file_is_no_manifest(tmp_path):
    write_text(tmp_path / "train.csv", _HEADER + _GOOD + "a,b,c,d,e,f,g\n")
    with pytest.raises(InputError, match="train.csv is not a CSV manifest"):
        read_manifest(tmp_path / "train.csv", "utterances")


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError, match="prepare recipes"):
        read_manifest(tmp_path / "train.csv", "utterances")


def test_a_manifest_of_another_kind_is_refused_by_its_columns(tmp_path):
    write_manifest(tmp_path / "train.csv", _rows(), "utterances")
    with pytest.raises(InputError, match="kind oracle has"):
        read_manifest(tmp_path / "train.csv", "oracle")
    with pytest.raises(InputError, match="'labels' is not one of"):
        read_manifest(tmp_path / "train.csv", "labels")


def test_an_invalid_manifest_is_not_written_at_all(tmp_path):
    path = tmp_path / "train.csv"
    write_manifest(path, _rows(), "utterances")
    before = path.read_bytes()
    with pytest.raises(InputError, match="is there twice"):
        write_manifest(path, pd.concat([_rows(), _rows()]), "utterances")
    with pytest.raises(InputError, match="no rows"):
        write_manifest(path, [], "utterances")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["train.csv"]


def test_only_pseudo_labels_and_the_oracle_have_a_speaker_column():
    with_speaker = {kind for kind, c in KINDS.items() if "spk_id" in c}
    assert with_speaker == {"pseudo_labels", "oracle"}


def test_pseudo_labels_may_carry_a_margin_which_speechbrain_reads(tmp_path):
    path = tmp_path / "pseudo_labels.csv"
    rows = _rows().assign(margin=[0.25, -0.5, 0.0], spk_id="pseudo00000")
    write_manifest(path, rows, "pseudo_labels")
    header = path.read_text().splitlines()[0]
    assert header == "ID,duration,wav,start,stop,spk_id,margin"
    read = read_manifest(path, "pseudo_labels")
    assert read.margin.tolist() == [0.25, -0.5, 0.0]
    data = DynamicItemDataset(
        load_data_csv(path, {"data_root": "/d"}), output_keys=["id", "spk_id"]
    )
    assert data[1] == {"id": "s/1.wav", "spk_id": "pseudo00000"}
    write_manifest(path, rows.drop(columns="margin"), "pseudo_labels")
    assert not hasattr(read_manifest(path, "pseudo_labels"), "margin")


def test_a_margin_must_be_a_number_and_belongs_to_pseudo_labels_only(tmp_path):
    rows = _rows().assign(margin=["0.1", "high", "0.2"], spk_id="p")
    with pytest.raises(InputError, match="row 3: margin 'high' is not a num"):
        write_manifest(tmp_path / "a.csv", rows, "pseudo_labels")
    rows = _rows().assign(margin=0.1)
    with pytest.raises(InputError, match="has columns .*'margin'"):
        write_manifest(tmp_path / "a.csv", rows, "utterances")


def test_select_takes_indices_and_masks():
    manifest = Manifest(_rows(4), "utterances", "/d")
    by_index = select(manifest, np.array([3, 1]))
    assert list(by_index.ids) == ["s/3.wav", "s/1.wav"]
    assert by_index["s/3.wav"]["wav"] == "/d/s/3.wav"
    by_mask = select(manifest, np.array([True, False, False, True]))
    assert list(by_mask.ids) == ["s/0.wav", "s/3.wav"]


def test_rows_of_marks_unknown_ids():
    manifest = Manifest(_rows(), "utterances")
    assert list(manifest.rows_of(["s/2.wav", "x", "s/0.wav"])) == [2, -1, 0]


def test_unknown_attributes_and_ids_raise_the_usual_python_errors():
    manifest = Manifest(_rows(), "utterances")
    assert not hasattr(manifest, "spk_id")
    with pytest.raises(KeyError):
        manifest["x"]


def test_a_large_manifest_stays_small_in_memory(tmp_path):
    # The bound for a million rows is 1 GB; a fifth of it must fit a fifth.
    n = 200_000
    _rows(n).to_csv(tmp_path / "train.csv", index=False)
    tracemalloc.start()
    manifest = read_manifest(tmp_path / "train.csv", "utterances", "/data")
    manifest[manifest.ids[n // 2]]
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manifest) == n
    assert held < 60e6 and peak < 120e6


# Columns that contradict each other.


@pytest.mark.parametrize(
    ("duration", "start", "stop", "said"),
    [
        (1.0, -16000, 0, "start '-16000' is below 0"),
        (-1.0, 0, 16000, "duration '-1.0' is not above 0"),
        (0, 0, 16000, "duration '0' is not above 0"),
        (2.0, 0, 16000, "not the length of start to stop, 16000 samples"),
        (3.2, 0, 3, "start and stop are in seconds"),
        (96000, 0, 96000, "duration is in samples"),
        (3.0, 0, 24000, "start and stop count at 8000 Hz"),
        (3.0, 44100, 4 * 44100, "start and stop count at 44100 Hz"),
    ],
)
def test_columns_that_contradict_each_other_are_refused(
    tmp_path, duration, start, stop, said
):
    row = f"b,{duration},$data_root/b.wav,{start},{stop}\n"
    write_text(tmp_path / "train.csv", _HEADER + _GOOD + row)
    with pytest.raises(InputError, match="train.csv row 3: ") as error:
        read_manifest(tmp_path / "train.csv", "utterances")
    assert said in str(error.value)


def test_the_rounding_of_other_tools_is_no_contradiction(tmp_path):
    rows = _rows().iloc[[2, 0, 1]].assign(duration=1.46)
    write_manifest(tmp_path / "train.csv", rows, "utterances")
    with pytest.raises(InputError, match="row 2: duration 1.44 is not"):
        write_manifest(
            tmp_path / "train.csv", rows.assign(duration=1.44), "utterances"
        )


@pytest.mark.parametrize(
    "wav",
    [
        "$data_root/../secret.wav",
        "$data_root/../../etc/a.wav",
        "$data_root/a/../../b.wav",
        "$data_root/..",
        "$data_root../root/a.wav",
    ],
)
def test_a_file_above_the_root_is_refused(tmp_path, wav):
    write_text(tmp_path / "train.csv", f"{_HEADER}a,1.0,{wav},0,16000\n")
    with pytest.raises(InputError, match="row 2: wav .* outside of .data_root"):
        read_manifest(tmp_path / "train.csv", "utterances", "/data")


@pytest.mark.parametrize(
    "wav", ["$data_root/a/../b.wav", "$data_root/a..b.wav", "/disk/../a.wav"]
)
def test_a_file_below_the_root_or_with_an_absolute_path_is_kept(tmp_path, wav):
    write_text(tmp_path / "train.csv", f"{_HEADER}a,1.0,{wav},0,16000\n")
    assert list(read_manifest(tmp_path / "train.csv", "utterances").wav) == [
        wav
    ]
