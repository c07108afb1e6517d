"""The frame around a recipe: check, begin, resume, skip, refuse, finish."""

import dataclasses
import os
import subprocess

import pytest
import torch
from copy_words import Recipe, program
from small_disk import small_disk

from speechbrain_ext.commands.folder_lock import LOCK, FolderLock
from speechbrain_ext.experiment.recipe_run import (
    RecipeRun,
    split_command_line,
)
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.settings import Settings, setting
from speechbrain_ext.utils.yaml_trees import parse_options


@pytest.fixture
def recipe(tmp_path):
    return Recipe(tmp_path)


# --- before any work --------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--n_wrods=2"],
            "n_wrods is 2; .* no such key; did you mean --n_words",
        ),
        (
            ["--n_words", "2", "--txt", "a"],
            "txt is 'a'; .* no such key; did you mean --text",
        ),
        (["--n_words=2", "--n_words=3"], 'duplicate key "n_words"'),
        (["--n_words={a: 1"], "options are not YAML.*close their braces"),
        (["--max_grad=3"], "max_grad is 3; .* no such key"),
        (["--prec", "bf16"], "prec is 'bf16'; .* no such key"),
    ],
)
def test_a_misspelt_option_stops_before_the_folder_is_made(
    recipe, options, message
):
    with pytest.raises(InputError, match=message):
        recipe.run(*options)
    assert not recipe.out.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--debug", "--output_folder=a=1/b=2 c"],
        ["--output_folder", "a=1/b=2 c", "--debug"],
        ['--output_folder="a=1/b=2 c"', "--debug"],
    ],
)
def test_a_value_may_hold_equals_signs_and_blanks(recipe, words):
    argv = [str(recipe.leaf), f"--text={recipe.text}", *words]
    found = RecipeRun(__file__, recipe.scope().CopyWords, argv)
    assert found.settings.output_folder == "a=1/b=2 c"
    assert found.run_opts.debug


def test_a_key_without_a_value_is_true_with_an_empty_one_null():
    words = ["--dry_run", "--overwrite=", "--seed", "3", "--large_margin"]
    _, overrides = split_command_line(words, [])
    assert parse_options(overrides) == {
        "dry_run": True,
        "overwrite": None,
        "seed": 3,
        "large_margin": True,
    }


def test_a_misspelt_key_in_the_yaml_is_named(recipe):
    recipe.leaf.write_text(recipe.leaf.read_text().replace("n_words", "nwords"))
    with pytest.raises(
        InputError, match="nwords is 1; .* did you mean --n_words"
    ):
        recipe.run()


def test_a_value_the_user_must_give_is_named(recipe):
    argv = [str(recipe.leaf), f"--output_folder={recipe.out}"]
    with pytest.raises(InputError, match="text is not given; .*--text=..."):
        recipe.scope().main(argv)


@pytest.mark.parametrize("argv", [[], ["--n_words=3"]])
def test_a_command_line_without_yaml_gets_the_usage(recipe, argv):
    with pytest.raises(InputError, match="usage: python .*copy_words.py"):
        recipe.scope().main(argv)


def test_a_missing_input_leaves_no_folder(recipe):
    recipe.text.unlink()
    with pytest.raises(InputError, match="text.txt: no such file"):
        recipe.run()
    assert not recipe.out.exists()


# --- a finished run -------------------------------------------------------


def test_settings_have_their_types_and_the_values_given(recipe):
    opened = recipe.opened("--n_words=2")
    assert opened.settings.n_words == 2
    assert opened.settings.overwrite is False
    assert type(opened.settings.n_words) is int


def test_the_folder_tells_how_it_was_made(recipe):
    recipe.run("--n_words=2")
    record = recipe.record()
    assert record["recipe"] == "copy_words"
    assert record["hparams"]["n_words"] == 2
    assert record["n_found"] == 3
    assert len(record["inputs"]["text"]["sha256"]) == 64
    assert record["outputs"]["words.txt"]["path"] == "words.txt"
    assert "torch" in record["versions"]
    for name in ("copy_words.py", "hyperparams.resolved.yaml", "log.txt"):
        assert (recipe.out / name).stat().st_size > 0
    assert (
        "n_words: 2" in (recipe.out / "hyperparams.resolved.yaml").read_text()
    )


def test_the_same_request_again_is_skipped(recipe):
    recipe.run()
    before = (recipe.out / "words.txt").stat().st_mtime_ns
    assert recipe.opened().is_done({"text": recipe.text})
    recipe.run()
    assert (recipe.out / "words.txt").stat().st_mtime_ns == before


def test_an_input_that_moved_but_kept_its_bytes_is_the_same(recipe):
    recipe.run()
    recipe.text = recipe.text.rename(recipe.folder / "moved.txt")
    assert recipe.opened().is_done({"text": recipe.text})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n_words=2"], "hparams.n_words was 1, now 2"),
        (["--seed=5"], "hparams.seed was 1, now 5"),
    ],
)
def test_another_request_is_refused_by_the_key_that_differs(
    recipe, options, message
):
    recipe.run()
    before = recipe.record()
    with pytest.raises(InputError, match=message):
        recipe.run(*options)
    assert recipe.record() == before
    assert recipe.words() == "one two three"


def test_changed_input_bytes_are_refused(recipe):
    recipe.run()
    recipe.text.write_text("four five")
    with pytest.raises(InputError, match="inputs.text.bytes was 13, now 9"):
        recipe.run()
    assert recipe.words() == "one two three"


def test_overwrite_moves_the_earlier_answer_aside(recipe):
    recipe.run()
    recipe.text.write_text("four five")
    recipe.run("--overwrite=True")
    assert recipe.words() == "four five"
    aside = recipe.folder / "out.old1"
    assert (aside / "words.txt").read_text() == "one two three"
    recipe.run("--overwrite=True")
    assert (aside / "words.txt").read_text() == "one two three"
    assert (recipe.folder / "out.old2" / "words.txt").exists()


def test_overwrite_leaves_a_folder_that_is_not_ours(recipe):
    recipe.out.mkdir()
    (recipe.out / "thesis.txt").write_text("three years")
    recipe.run("--overwrite=True")
    assert (recipe.out / "thesis.txt").read_text() == "three years"
    assert recipe.words() == "one two three"


def test_a_name_that_equals_a_folder_of_an_input_is_recorded(
    recipe, monkeypatch
):
    """Only keys that are declared as paths are left out of the record."""
    monkeypatch.chdir(recipe.folder)
    (recipe.folder / "toy").mkdir()
    recipe.text.rename("toy/text.txt")
    recipe.text = "toy/text.txt"
    recipe.run("--corpus=toy")
    assert recipe.record()["hparams"]["corpus"] == "toy"
    with pytest.raises(InputError, match="hparams.corpus was 'toy', now 'emb'"):
        recipe.run("--corpus=emb")


# --- an unfinished run ----------------------------------------------------


def test_an_unfinished_run_is_resumed_in_its_folder(recipe):
    assert not recipe.opened().is_done({"text": recipe.text})
    (recipe.out / "half.ckpt").write_text("state")
    assert not recipe.opened().is_done({"text": recipe.text})
    assert (recipe.out / "half.ckpt").read_text() == "state"
    recipe.run()
    assert recipe.words() == "one two three"


@pytest.mark.parametrize("damage", ["delete", "change"])
def test_a_run_whose_output_is_damaged_is_done_again(recipe, damage):
    recipe.run()
    path = recipe.out / "words.txt"
    path.unlink() if damage == "delete" else path.write_text("one two thr")
    recipe.run()
    assert recipe.words() == "one two three"


def test_freed_memory_is_kept_once_work_begins_on_a_cpu(recipe, monkeypatch):
    """Steps of a run had it from their environment, others not at all."""
    called = []
    keeper = "speechbrain_ext.experiment.recipe_run.keep_freed_memory"
    monkeypatch.setattr(keeper, lambda: called.append(1))
    recipe.run("--device=cpu")
    assert called == [1]
    recipe.run("--device=cpu")  # it is done: nothing to work on
    assert called == [1]


def test_the_seed_is_set_when_work_begins(recipe):
    recipe.opened().is_done({"text": recipe.text})
    first = torch.rand(3)
    torch.rand(5)
    recipe.opened().is_done({"text": recipe.text})
    assert torch.equal(torch.rand(3), first)


def test_objects_of_the_yaml_are_the_same_each_time(recipe):
    first = recipe.opened().objects()["module"]
    again = recipe.opened().objects()["module"]
    assert torch.equal(first.weight, again.weight)


def test_another_class_in_the_yaml_is_another_request(recipe):
    assert not recipe.opened().is_done({"text": recipe.text})
    (recipe.out / "half.txt").write_text("work")
    stated = "module: !new:torch.nn.Identity\n"
    recipe.leaf.write_text(recipe.leaf.read_text() + stated)
    rule = "module.! was '!new:torch.nn.Linear', now '!new:torch.nn.Identity'"
    with pytest.raises(InputError, match=rule):
        recipe.opened().is_done({"text": recipe.text})


@pytest.mark.parametrize(
    "option",
    [
        "--debug",
        "--precision=bf16",
        "--bfloat16_mix_prec",
        "--auto_mix_prec",
        "--max_grad_norm=1.0",
    ],
)
def test_a_run_option_that_decides_the_result_is_part_of_the_request(
    recipe, option
):
    recipe.run(option)
    with pytest.raises(InputError, match="run_options"):
        recipe.run()


def test_a_run_option_that_decides_nothing_is_not(recipe):
    recipe.run("--noprogressbar")
    assert recipe.opened().is_done({"text": recipe.text})


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ([], "fp32"),
        (["--precision=bf16"], "bf16"),
        (["--eval_precision=bf16"], "bf16"),
        (["--precision=bf16", "--eval_precision=fp32"], "fp32"),
    ],
)
def test_a_model_is_applied_in_eval_precision_or_in_that_of_training(
    recipe, options, precision
):
    run = recipe.opened(*options, "--device=cpu")
    assert run.applied_precision == precision and run.device == "cpu"
    with run.applying():
        x = torch.ones(2, 2)
        wanted = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        assert (x @ x).dtype == wanted
    asked = {} if precision == "fp32" else {"applied_precision": precision}
    assert run.applied_request() == asked


def test_a_device_of_the_yaml_is_that_a_model_is_applied_on(recipe):
    recipe.leaf.write_text(recipe.leaf.read_text() + "device: cpu\n")
    assert recipe.opened().device == "cpu"


def test_test_only_is_refused(recipe):
    with pytest.raises(InputError, match="test_only trains nothing"):
        recipe.run("--test_only")


def test_overwrite_typed_again_after_a_kill_goes_on(recipe):
    recipe.run()
    again = ["--overwrite=True"]
    assert not recipe.opened(*again).is_done({"text": recipe.text})
    (recipe.out / "checkpoint").write_text("work")
    assert not recipe.opened(*again).is_done({"text": recipe.text})
    assert (recipe.out / "checkpoint").exists()
    assert len(list(recipe.folder.glob("out.old*"))) == 1


def test_the_record_says_that_a_run_was_resumed(recipe):
    assert not recipe.opened().is_done({"text": recipe.text})
    recipe.run()
    assert recipe.record()["resumed"] is True


@pytest.fixture
def embedder_yaml(tmp_path):
    (tmp_path / "base.yaml").write_text("# Base.\nwidth: 8\n")
    path = tmp_path / "embedder.yaml"
    path.write_text("# Embedder.\nbase: base.yaml\nsize: 4\n")
    return path


@dataclasses.dataclass(kw_only=True)
class Train(Settings):
    """Train an embedder."""

    recipe = "train"

    embedder_yaml: str = setting(doc="an embedder YAML", path=True)


def test_a_finished_stage_is_not_skipped_after_a_change_of_a_base(
    embedder_yaml, tmp_path
):
    leaf = tmp_path / "train.yaml"
    leaf.write_text(f"output_folder: {tmp_path / 'out'}\n")
    argv = [str(leaf), f"--embedder_yaml={embedder_yaml}"]

    def run():
        return RecipeRun(__file__, Train, argv)

    inputs = {"embedder_yaml": embedder_yaml}
    first = run()
    assert not first.is_done(inputs)
    (first.folder / "model").write_text("weights")
    first.finish(["model"])
    assert run().is_done(inputs)
    embedder_yaml.with_name("base.yaml").write_text("# Base.\nwidth: 9\n")
    with pytest.raises(InputError, match="inputs.embedder_yaml"):
        run().is_done(inputs)


# --- one command in a folder ------------------------------------------------


def test_a_second_command_in_one_folder_is_refused(recipe):
    """Two trainings wrote into the same checkpoints."""
    recipe.out.mkdir()
    lock = FolderLock(recipe.out)
    done = program(recipe)
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert said.startswith(f"error: output_folder is '{recipe.out}'; ")
    assert f"process {os.getpid()} on " in said
    assert [path.name for path in recipe.out.iterdir()] == [LOCK]
    lock.release()
    assert program(recipe).returncode == 0
    assert not (recipe.out / LOCK).exists()


def test_a_finished_folder_is_skipped_although_it_is_locked(recipe):
    """It may be read-only, or another command may read it."""
    assert program(recipe).returncode == 0
    lock = FolderLock(recipe.out)
    assert program(recipe).returncode == 0
    assert (recipe.out / LOCK).exists()
    lock.release()


def test_a_finished_folder_on_a_read_only_disk_is_skipped(recipe):
    with small_disk(recipe.out, 1000):
        assert program(recipe).returncode == 0
        again = ["mount", "-o", "remount,ro", str(recipe.out)]
        subprocess.run(again, check=True)
        assert program(recipe).returncode == 0
        done = program(recipe, "--n_words=2", "--overwrite=True")
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: Read-only file system: ")


def test_the_lock_of_a_command_killed_at_its_end_is_cleared_away(recipe):
    recipe.run()
    (recipe.out / LOCK).write_text("1 elsewhere")
    recipe.run()
    assert not (recipe.out / LOCK).exists()


def test_a_lock_alone_is_no_work_of_another_request(recipe):
    recipe.opened().is_done({"text": str(recipe.text)})
    (recipe.out / LOCK).write_text("1 elsewhere")
    assert not recipe.opened("--n_words=2").is_done({"text": str(recipe.text)})


@pytest.mark.parametrize("device", ["nonsense", "meta"])
def test_a_device_of_no_use_stops_before_the_folder_is_made(recipe, device):
    with pytest.raises(InputError, match=f"device is '{device}'; it must be"):
        recipe.opened(f"--device={device}")
    assert not recipe.out.exists()


def test_processes_that_cannot_work_together_are_one_line(recipe, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match="distributed_backend is nccl; .*GPUs"):
        recipe.opened()
