"""Labels to other tools and back are the same labels."""

import json

import pandas as pd
import pytest

from speechbrain_ext.dataio.label_formats import (
    FORMATS,
    read_labels,
    write_labels,
)
from speechbrain_ext.dataio.manifest import (
    Manifest,
    read_manifest,
    write_manifest,
)
from speechbrain_ext.utils.errors import InputError

# Neither sorted nor grouped, as a manifest may be.
NAMES = [
    ("b/1.wav", "0002"),
    ("a/2.wav", "0001"),
    ("a/10.wav", "0001"),
    ("é/1.wav", "0003"),
]


def rows():
    return [
        {
            "ID": name,
            "duration": 1.5 + number / 3,
            "wav": f"$data_root/wav/{name}",
            "start": number,
            "stop": 24000 + number + number * 16000 // 3,
            "spk_id": speaker,
        }
        for number, (name, speaker) in enumerate(NAMES)
    ]


@pytest.fixture
def corpus(tmp_path):
    """Labels, and the manifest of their utterances and one more."""
    write_manifest(tmp_path / "labels.csv", rows(), "pseudo_labels")
    extra = {**rows()[0], "ID": "c/3.wav"}
    plain = [
        {k: v for k, v in row.items() if k != "spk_id"}
        for row in [*rows(), extra]
    ]
    write_manifest(tmp_path / "train.csv", plain, "utterances")
    return tmp_path


def read(corpus, kind, name):
    return read_manifest(corpus / name, kind)


@pytest.mark.parametrize("name", FORMATS)
def test_written_labels_are_read_back_unchanged(corpus, name):
    labels = read_manifest(corpus / "labels.csv", "pseudo_labels", "/data")
    names = write_labels(corpus / name, labels, name)
    assert all((corpus / name / file).exists() for file in names)
    train = read_manifest(corpus / "train.csv", "utterances")
    again = read_labels(corpus / name, name, train)
    write_labels(corpus / "again", again, "speechbrain")
    wanted = (corpus / "labels.csv").read_bytes()
    assert (corpus / "again" / "pseudo_labels.csv").read_bytes() == wanted


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_file_that_was_read_is_written_back_unchanged(corpus, name):
    """What was written from what was read is the same bytes."""
    labels = read_manifest(corpus / "labels.csv", "pseudo_labels", "/data")
    names = write_labels(corpus / "one", labels, name)
    train = read_manifest(corpus / "train.csv", "utterances", "/data")
    again = read_labels(corpus / "one", name, train, "/data")
    write_labels(corpus / "two", again, name)
    for file in names:
        one = (corpus / "one" / file).read_bytes()
        assert (corpus / "two" / file).read_bytes() == one


def test_each_format_is_as_its_tool_reads_it(corpus):
    labels = read_manifest(corpus / "labels.csv", "pseudo_labels", "/data")
    for name in FORMATS:
        write_labels(corpus / name, labels, name)
    lines = (corpus / "list" / "labels.txt").read_text("utf-8").splitlines()
    assert lines[0] == "0002 b/1.wav"
    kaldi = {
        name: (corpus / "kaldi" / name).read_text("utf-8").splitlines()
        for name in ("utt2spk", "spk2utt", "wav.scp")
    }
    assert kaldi["utt2spk"][:2] == ["a/10.wav 0001", "a/2.wav 0001"]
    assert kaldi["spk2utt"][0] == "0001 a/10.wav a/2.wav"
    assert kaldi["wav.scp"][0] == "a/10.wav /data/wav/a/10.wav"
    raw = (corpus / "wespeaker" / "raw.list").read_text("utf-8").splitlines()
    assert json.loads(raw[0]) == {
        "key": "b/1.wav",
        "wav": "/data/wav/b/1.wav",
        "spk": "0002",
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list", "0001\n", "line 1: there must be spk_id and ID"),
        ("list", "0001 a/2.wav\n0002\n", "line 2: there must be"),
        ("list", "", "there must be"),
        ("list", "0001 x.wav\n", "'x.wav' is not in the training annotation"),
        ("kaldi", "a/2.wav 1\na/2.wav 2\n", "'a/2.wav' is there twice"),
        ("wespeaker", "{}\n", "line 1: each line is JSON with key"),
        ("wespeaker", "a b\n", "line 1: each line is JSON with key"),
        (
            "wespeaker",
            '{"key": "a/2.wav", "spk": "1"}\n{"key": "b/1.wav", "spk": null}\n',
            "line 2: each line is JSON .* names all",
        ),
        ("list", "1 a/2.wav\n\n2 b/1.wav\n", "line 2: there must be"),
        ("kaldi", "a/2.wav 1\nb/1.wav 2 f\n", "line 2: .*'2 f'.*two columns"),
    ],
)
def test_a_file_that_breaks_its_format_is_one_clear_error(
    corpus, name, text, message
):
    path = corpus / "given"
    path.write_text(text)
    train = read_manifest(corpus / "train.csv", "utterances")
    with pytest.raises(InputError, match=message):
        read_labels(path, name, train)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_another_encoding_is_one_clear_error(corpus, name):
    (corpus / "given").write_bytes("1 é/1.wav\n".encode("latin-1"))
    with pytest.raises(InputError, match="given is not .*(UTF|utf)-8"):
        read_labels(
            corpus / "given", name, read(corpus, "utterances", "train.csv")
        )


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf0001 a/2.wav\n",
        b"0001 a/2.wav\r\n",
        b"0001\ta/2.wav",
        b"0001 a/2.wav\n\n",
    ],
)
def test_byte_order_marks_line_ends_and_tabs_are_not_part_of_a_label(
    corpus, content
):
    (corpus / "given").write_bytes(content)
    train = read(corpus, "utterances", "train.csv")
    found = read_labels(corpus / "given", "list", train)
    assert list(found.ids) == ["a/2.wav"] and list(found.spk_id) == ["0001"]


@pytest.mark.parametrize("name", ["list", "kaldi", "wespeaker"])
@pytest.mark.parametrize(
    "utterance", [" a.wav", "a.wav ", "a\x85.wav", "a\u2028.wav", "a\r.wav"]
)
def test_a_name_that_could_not_be_read_back_is_refused(corpus, name, utterance):
    rows_of = pd.DataFrame([{**rows()[0], "ID": utterance}])
    with pytest.raises(InputError, match="which (is lost|ends a column) in"):
        write_labels(corpus, Manifest(rows_of, "pseudo_labels"), name)


def test_unusual_spaces_within_a_name_are_read_back(corpus):
    odd = [{**rows()[0], "ID": "a\u3000b\xa0c  d.wav"}]
    labels = Manifest(pd.DataFrame(odd), "pseudo_labels")
    write_labels(corpus, labels, "list")
    assert list(read_labels(corpus, "list", labels).ids) == [odd[0]["ID"]]


def test_a_format_without_lengths_needs_a_manifest(corpus):
    (corpus / "labels.txt").write_text("1 a/2.wav\n")
    with pytest.raises(InputError, match="--train_annotation"):
        read_labels(corpus / "labels.txt", "list")


def test_an_unknown_format_or_file_is_one_clear_error(corpus):
    labels = read_manifest(corpus / "labels.csv", "pseudo_labels")
    with pytest.raises(InputError, match="format 'csv' is not one of"):
        write_labels(corpus, labels, "csv")
    train = read_manifest(corpus / "train.csv", "utterances")
    with pytest.raises(InputError, match="nowhere.*no such file"):
        read_labels(corpus / "nowhere", "list", train)


@pytest.mark.parametrize("name", ["kaldi", "wespeaker"])
def test_a_space_that_would_end_a_column_is_refused(corpus, name):
    spaced = [{**rows()[0], "ID": "a b.wav"}]
    write_manifest(corpus / "spaced.csv", spaced, "pseudo_labels")
    labels = read_manifest(corpus / "spaced.csv", "pseudo_labels")
    with pytest.raises(InputError, match="'a b.wav' has a space"):
        write_labels(corpus, labels, name)
    # Nothing follows the name in a list.
    assert write_labels(corpus, labels, "list") == ["labels.txt"]
