"""The benchmark of kept states: both trainings run, and both are timed."""

import json

from tones import without_speakers, write_tones

from benchmarks import frozen_states
from speechbrain_ext.dataio.manifest import write_manifest


def test_both_trainings_are_timed_in_one_run(tmp_path):
    rows = write_tones(tmp_path, n_utterances=4)
    write_manifest(tmp_path / "train.csv", without_speakers(rows), "utterances")
    argv = [
        f"--train_annotation={tmp_path / 'train.csv'}",
        f"--data_folder={tmp_path}",
        f"--output={tmp_path / 'found.json'}",
        *"--crop 0.3 --batch_size 4 --n_epochs 1 --n_utterances 12".split(),
        *"--n_layers 1".split(),
    ]
    frozen_states.main(argv)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["states_seconds"] > 0 and found["kept_seconds"] > 0
    ratio = found["each_step_seconds"] / found["kept_seconds"]
    assert abs(found["ratio"] / ratio - 1) < 0.1
    assert (found["encoder"], found["n_layers"]) == ("random", 1)
    assert str(tmp_path) not in json.dumps(found)
