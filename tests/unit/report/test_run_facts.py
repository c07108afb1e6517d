"""Settings, times and files of steps."""

from run_steps import LEFT, ROUND1, step

from speechbrain_ext.experiment.steps import Kind, Step
from speechbrain_ext.report.run_facts import (
    files_table,
    settings_tables,
    time_table,
)
from speechbrain_ext.utils.files import write_json


def done(folder, recipe="train_speaker", **facts):
    """A step that left its record."""
    kind = Kind.TRAIN
    place = folder / ROUND1.name / kind.folder_name
    made = Step(kind, ROUND1, recipe, "", LEFT[kind](place), {})
    write_json(made.artifacts.record, facts)
    return made


def test_settings_that_differ_are_apart_from_those_that_do_not(tmp_path):
    optimiser = {"weight_decay": 0.01, "!": "!name:torch.optim.AdamW"}
    given = {"seed": 7, "lr_end": 0.01, "opt_class": optimiser, "gone": 1}
    kind = done(tmp_path, hparams=given)
    changed, same = settings_tables(kind)
    rows = {row["setting"]: row for row in [*changed.rows, *same.rows]}
    assert rows["seed"]["default"] == "1986"
    assert "seed" in {row["setting"] for row in changed.rows}
    # A key that the settings no longer have is shown, without a default.
    assert rows["gone"]["default"] == "–"
    assert rows["seed"]["meaning"] == "seed of all random draws"


def test_an_object_at_its_default_does_not_differ(tmp_path):
    """The default is YAML text, the record a map: they were never equal."""
    from speechbrain_ext.training.settings import TrainSpeaker

    default = TrainSpeaker.keys()["opt_class"].default
    tag, _, arguments = default.partition(" ")
    assert arguments.startswith("{")
    key, value = arguments.strip("{}").split(": ")
    record = {key: float(value), "!": tag}
    _, same = settings_tables(done(tmp_path, hparams={"opt_class": record}))
    assert [row["setting"] for row in same.rows] == ["opt_class"]


def test_times_add_up_and_a_resumed_step_says_so(tmp_path):
    first = done(tmp_path / "a", seconds=30.0)
    second = done(tmp_path / "b", seconds=90.0, resumed=True)
    unfinished = step(tmp_path / "c", ROUND1, Kind.TRAIN)
    table = time_table([first, second, unfinished])
    assert [row["share"] for row in table.rows] == ["25.0%", "75.0%"]
    assert [bool(row["note"]) for row in table.rows] == [False, True]
    assert "2 min" in table.caption


def test_files_are_linked_relative_to_the_page(tmp_path):
    made = done(tmp_path, seconds=1.0)
    (made.folder / "a <b>.csv").write_text("x")
    (made.folder / ".hidden").write_text("x")
    rows = files_table([made], tmp_path).rows
    assert [row["file"].path for row in rows] == [
        "round1/model/a <b>.csv",
        "round1/model/stage.json",
    ]
    assert rows[0]["file"].address == "round1/model/a%20%3Cb%3E.csv"
