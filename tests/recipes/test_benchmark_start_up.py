"""The benchmark of start-up: it times commands, and none imports torch."""

import json

from house import ROOT

from benchmarks import start_up


def test_a_command_is_timed_beside_the_import_of_torch(tmp_path):
    output = tmp_path / "found.json"
    name = "train-dino --help"
    start_up.main(["--n_repeats=1", f"--output={output}", "--commands", name])
    found = json.loads(output.read_text())
    assert found["torch_seconds"] > 0
    row = found["commands"][name]
    assert row["ratio"] == found["largest_ratio"] < 1


def test_the_record_has_all_commands_and_each_starts_sooner_than_torch():
    path = ROOT / "results" / "benchmarks" / "start_up.json"
    found = json.loads(path.read_text())
    assert found["commands"].keys() == start_up.commands().keys()
    for name, row in found["commands"].items():
        assert row["ratio"] < 1 and row["seconds"] < 2, name
