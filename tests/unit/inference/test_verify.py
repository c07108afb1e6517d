"""Two files compared on the command line."""

from speechbrain_ext.inference import verify


def test_two_files_are_compared_on_the_command_line(published, capsys):
    one, two = (str(published / f"example{n}.wav") for n in (1, 2))
    verify.main([str(published), one, one, "--device=cpu"])
    assert capsys.readouterr().out.startswith("same speaker: probability of")
    verify.main([str(published), one, two, "--prior=0.000001"])
    found = capsys.readouterr().out
    assert found.startswith("different speakers: probability of one speaker 0.")
