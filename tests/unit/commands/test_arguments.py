"""The words after the programs of ``sbext`` that take no YAML."""

import pytest

from speechbrain_ext.commands.arguments import parser_of


def test_words_become_values():
    given = parser_of("verify").parse_args("m a.wav b.wav --prior=0.1".split())
    assert (given.model, given.first, given.second) == ("m", "a.wav", "b.wav")
    assert (given.prior, given.device) == (0.1, None)
    given = parser_of("embed").parse_args("m speech o.npy --device=cpu".split())
    assert (given.folder, given.output, given.device) == (
        "speech",
        "o.npy",
        "cpu",
    )
    assert given.num_workers == 0
    given = parser_of("group").parse_args("m speech o --n_speakers=8".split())
    assert (given.output, given.n_speakers) == ("o", 8)


def test_two_runs_are_compared_on_a_page():
    given = parser_of("compare").parse_args(["a", "b"])
    assert (given.first, given.second) == ("a", "b")
    assert given.page == "comparison.html"
    text = " ".join(parser_of("compare").format_help().split())
    assert "example: sbext compare exp/first exp/second" in text
    assert "--device" not in text


@pytest.mark.parametrize("program", ["verify", "embed", "group"])
def test_help_has_an_example_and_the_shipped_model(program):
    text = " ".join(parser_of(program).format_help().split())
    assert f"example: sbext {program} minivox_whisper" in text
    assert "which comes with the package" in text


def test_a_missing_word_is_named(capsys):
    with pytest.raises(SystemExit) as stop:
        parser_of("verify").parse_args(["model", "a.wav"])
    assert stop.value.code == 2
    assert "SECOND" in capsys.readouterr().err
