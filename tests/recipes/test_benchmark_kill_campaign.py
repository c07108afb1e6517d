"""The kill campaign: what is killed and harmed ends as if left alone."""

import json
import random
import sys

import pytest
import torch
import warm

from benchmarks import kill_campaign
from speechbrain_ext.training.checkpoints import WholeCheckpointer, damage_of

# Ten files, one after the other, each made once; ``seconds`` are times. The
# last waits for as long as its folder says.
LOOP = """
import json, pathlib, sys, time
from speechbrain_ext.utils.files import remove_leftovers, write_json
folder = pathlib.Path(sys.argv[2].partition("=")[2])
remove_leftovers(folder)
for n in range(10):
    path = folder / f"step{n}.json"
    if not path.exists() or "--forgetful" in sys.argv:
        print(f"== step{n}", flush=True)
        time.sleep(0.02)
        again = path.exists() and "--forgetful" in sys.argv
        write_json(path, {"n": n + again, "seconds": time.time()})
"""
CAMPAIGN = """
import sys
from pathlib import Path
from benchmarks import kill_campaign
loop, *words = sys.argv[1:]
extra = [word for word in words if word == "--forgetful"]
arguments = kill_campaign.parse([w for w in words if w not in extra])
kill_campaign._COLD = 0
command = kill_campaign.Command(loop, ["plan", *extra])
sys.exit(not kill_campaign.run_campaign(command, arguments))
"""


@pytest.fixture
def campaign(tmp_path):
    """Run a campaign of a program; its status and report."""

    def made(*words):
        (tmp_path / "loop.py").write_text(LOOP)
        report = tmp_path / "report.json"
        argv = [tmp_path / "loop.py", *words, "--kills=6", "--kills_a_loop=3"]
        done = warm.run(
            [sys.executable, "-c", CAMPAIGN, *map(str, argv)]
            + [f"--folder={tmp_path / 'work'}", f"--output={report}"]
        )
        assert report.exists(), done.stderr[-3000:]
        return done.returncode, json.loads(report.read_text())

    return made


def test_a_program_that_resumes_ends_identical(campaign):
    status, report = campaign()
    assert status == 0, report["failed"]
    assert report["n_kills"] == sum(report["kills"].values()) == 6
    assert report["n_files"] == 10 and report["not_compared"] == []
    assert report["loops"] == {"identical": sum(report["loops"].values())}
    by_signal = report["by fault and outcome"]
    counted = [by_signal.get(name, {}) for name in kill_campaign.SIGNALS]
    assert sum(found.get("identical", 0) for found in counted) == 6


def test_a_program_that_does_its_work_twice_is_found_out(campaign):
    status, report = campaign("--forgetful")
    assert status == 1 and report["loops"].get("differs")
    assert report["failed"][0]["differ"][0].startswith("step")


@pytest.fixture
def saved(tmp_path):
    """The save folder of a training, with two checkpoints."""
    for epoch in (1, 2):
        WholeCheckpointer(
            tmp_path / "model" / "save", {"x": torch.nn.PReLU()}
        ).save_and_keep_only(meta={"epoch": epoch, "step": 1})
    return tmp_path / "model" / "save"


@pytest.mark.parametrize("seed", range(6))
def test_the_newest_checkpoint_is_harmed(saved, tmp_path, seed):
    said = kill_campaign.harm_a_file(tmp_path, random.Random(seed))
    assert said.startswith("model/save/CKPT+epoch2/")
    assert damage_of(saved / "CKPT+epoch2")
    assert not damage_of(saved / "CKPT+epoch1")


def test_a_checkpoint_of_the_future_is_whole(saved, tmp_path):
    assert kill_campaign.date_in_the_future(tmp_path).endswith("CKPT+epoch1")
    first, second = WholeCheckpointer(saved).find_checkpoints()
    assert first.meta["epoch"] == 2
    assert second.meta["unixtime"] > first.meta["unixtime"] + 3e7
    assert not damage_of(second.path)


def test_times_and_logs_are_not_compared(tmp_path):
    folders = []
    for seconds in (1, 2):
        folder = tmp_path / str(seconds)
        (folder / "save").mkdir(parents=True)
        record = {"n": 1, "seconds": seconds, "inner": [{"date": seconds}]}
        (folder / "stage.json").write_text(json.dumps(record))
        for name in ("log.txt", "save/a.ckpt"):
            (folder / name).write_text(str(seconds))
        folders.append(folder)
    first, second = map(kill_campaign.contents, folders)
    assert list(first) == ["stage.json"] and first == second
    (folders[1] / "stage.json").write_text('{"n": 2, "inner": [{}]}')
    second = kill_campaign.contents(folders[1])
    assert kill_campaign.differing(first, second) == {"stage.json"}


def test_advice_of_what_to_delete_is_followed(tmp_path):
    made = kill_campaign.Campaign(kill_campaign.toy_loop(), tmp_path, 1)
    for place in (made.run / "model" / "save", tmp_path / "other"):
        place.mkdir(parents=True)
        attempt = kill_campaign.Attempt("damage", status=2)
        made.take_advice(f"x; delete the folder {place}, and the", attempt)
    # What lies elsewhere is left alone.
    assert not (made.run / "model" / "save").exists()
    assert (tmp_path / "other").exists()
