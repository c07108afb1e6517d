"""Trial lists are checked line by line."""

import numpy as np
import pytest

from speechbrain_ext.dataio import trials as dataio_trials
from speechbrain_ext.dataio.trials import (
    check_known,
    check_pairs,
    check_scores,
    parse_trials,
    read_trial_file,
    warn_of_reversed,
)
from speechbrain_ext.utils import vectors
from speechbrain_ext.utils.errors import InputError


def _parse(text):
    return parse_trials("dev", "dev.txt", text.encode())


def test_trials_are_in_file_order_with_their_lines():
    trials = _parse("1 a b\n\n0\tb   c \n1 c a")
    assert trials.labels.tolist() == [1, 0, 1]
    assert trials.enrol.tolist() == ["a", "b", "c"]
    assert trials.test.tolist() == ["b", "c", "a"]
    assert trials.lines.tolist() == [1, 3, 4]
    assert trials.names.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["NA", "nan", "1", "a,b", 'q"x', "#c"])
def test_names_that_look_like_numbers_stay_text(name):
    trials = _parse(f"1 {name} b\n0 b {name}\n")
    assert trials.enrol[0] == name and trials.test[1] == name


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 a b", "line 2: '2 a b' is not a trial"),
        ("target a b", "line 2: 'target a b' is not a trial"),
        ("0 a", "line 2: '0 a' is not a trial"),
        ("0 a b c", "line 2: '0 a b c' is not a trial"),
        ("0 a b c d", "line 2"),
    ],
)
def test_a_bad_line_is_named(line, said):
    with pytest.raises(InputError) as error:
        _parse(f"1 a b\n{line}\n0 a c\n")
    assert said in str(error.value) and "label enrol test" in str(error.value)


def test_a_first_line_of_five_words_is_named():
    """pandas would take the first of them for a name of the row."""
    with pytest.raises(InputError, match="line 1 has more than 4 words"):
        _parse("1 a b c d\n1 a b\n0 a c\n")


def test_kaldis_lists_are_read():
    trials = _parse("a b target\n\nb\tc nontarget\n")
    assert trials.labels.tolist() == [1, 0]
    assert trials.enrol.tolist() == ["a", "b"]
    assert trials.test.tolist() == ["b", "c"]
    assert trials.lines.tolist() == [1, 3]
    # An utterance may have such a name.
    trials = _parse("1 a target\n0 b target\n")
    assert trials.test.tolist() == ["target", "target"]


@pytest.mark.parametrize(
    "text", ["1 a b\na c nontarget\n", "a b target\na c imposter\n"]
)
def test_a_list_that_is_kaldis_in_part_is_refused(text):
    with pytest.raises(InputError, match="is not a trial"):
        _parse(text)


def test_a_file_compared_with_itself_is_refused_however_the_list_is_meant():
    trials = _parse("1 a b\n1 a a\n0 a c\n")
    for allow in (False, True):
        with pytest.raises(InputError, match="line 2: .*with itself"):
            check_pairs(trials, allow_repeats=allow)


def test_pairs_in_both_orders_are_counted_in_a_warning(caplog):
    trials = _parse("1 a b\n0 c a\n1 b a\n0 a c\n1 a b\n")
    assert warn_of_reversed(trials) == 2
    assert "2 of 5 trials" in caplog.text and "b a in line 3" in caplog.text
    caplog.clear()
    assert warn_of_reversed(_parse("1 a b\n0 a c\n1 a b\n")) == 0
    assert not caplog.text


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_list_is_refused(text):
    with pytest.raises(InputError, match="dev.txt"):
        _parse(text)


@pytest.mark.parametrize("label", "01")
def test_a_list_of_targets_alone_or_non_targets_alone_is_refused(label):
    with pytest.raises(InputError, match="an EER needs both"):
        _parse(f"{label} a b\n{label} a c\n")


def test_bytes_that_are_not_text_are_refused():
    with pytest.raises(InputError, match="dev.txt is not a trial list"):
        parse_trials("dev", "dev.txt", b"1 \xff\xfe b\n0 a c\n")


def test_unknown_names_are_counted_and_the_first_is_named():
    trials = _parse("1 a b\n0 a x\n0 y x\n0 a c\n")
    said = r"line 2: 'x' is not in test.csv \(2 of 4 trials"
    with pytest.raises(InputError, match=said):
        check_known(trials, ["a", "b", "c"], "test.csv")
    check_known(trials, ["a", "b", "c", "x", "y"], "test.csv")


def test_a_list_is_written_byte_for_byte_as_it_was_read(tmp_path):
    text = "1 a b\r\n0  a c"
    _parse(text).write(tmp_path / "trials" / "dev.txt")
    assert (tmp_path / "trials" / "dev.txt").read_bytes() == text.encode()
    again = read_trial_file("dev", tmp_path / "trials" / "dev.txt")
    assert again.summary() == _parse(text).summary()


def test_another_list_has_another_summary():
    first, second = _parse("1 a b\n0 a c\n"), _parse("1 a c\n0 a b\n")
    assert first.summary() != second.summary()


@pytest.mark.parametrize("path", ["gone.txt", None])
def test_a_missing_list_is_named(path):
    with pytest.raises(InputError, match=f"trials dev: {path} is not a file"):
        read_trial_file("dev", path)


def test_names_with_spaces_are_read_between_tabs():
    trials = _parse("1\ta b.wav\tc d.wav\r\n\n0\ta b.wav\te.wav\r\n")
    assert trials.enrol.tolist() == ["a b.wav", "a b.wav"]
    assert trials.test.tolist() == ["c d.wav", "e.wav"]
    assert trials.lines.tolist() == [1, 3]


@pytest.mark.parametrize("block", [1, 1000])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_old_macs_line_ends_are_line_ends(monkeypatch, separator, block):
    """A list lost lines, or was refused, where line feeds alone count."""
    monkeypatch.setattr(dataio_trials, "BLOCK", block)
    text = "1 a b\r0 a c\r0 b c\n1 c d\r".replace(" ", separator)
    trials = _parse(text)
    assert trials.enrol.tolist() == ["a", "a", "b", "c"]
    assert trials.lines.tolist() == [1, 2, 3, 4]


def test_a_large_list_is_as_it_was_read_whatever_becomes_of_its_file(
    tmp_path, monkeypatch
):
    """It was mapped: cut short meanwhile, it ended the process (SIGBUS)."""
    monkeypatch.setattr(vectors, "LARGE", 1)
    path = tmp_path / "list.txt"
    text = "".join(f"{i % 2} a{i} b{i}\n" for i in range(1000))
    path.write_text(text)
    trials = read_trial_file("dev", path)
    before = trials.summary()
    path.write_text("1 a b\n")
    assert trials.summary() == before
    trials.write(tmp_path / "copy.txt")
    assert (tmp_path / "copy.txt").read_text() == text


def test_windows_line_ends_are_no_part_of_a_name():
    assert _parse("1 a b\r\n0 a c\r\n").test.tolist() == ["b", "c"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_trial_of_a_score_that_is_not_a_number_is_named(value):
    trials = _parse("1 a b\n\n0 a c\n")
    said = f"line 3: the score of a c is {value}"
    with pytest.raises(InputError, match=said):
        check_scores(trials, np.array([0.1, value]), "scores.npy")
    check_scores(trials, np.array([0.1, 0.2]), "scores.npy")


def test_scores_of_another_list_are_refused():
    with pytest.raises(InputError, match=r"shape \[3\] .* 2 trials"):
        check_scores(_parse("1 a b\n0 a c\n"), np.zeros(3), "scores.npy")
