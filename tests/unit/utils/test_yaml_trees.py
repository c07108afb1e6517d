"""Strict YAML: every unknown, unread or missing key is named."""

import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.yaml_trees import (
    check_keys,
    check_overrides,
    keys_read,
    load_yaml_objects,
    parse_yaml,
    plain,
    read_yaml,
    resolve,
)

COMMON = "seed: 1\noutput_folder: out\noverwrite: False\n"
TREE = {
    "lr": 1,
    "loss": {"margin": 0.2, "gate": {"epoch": 5}},
    "extra": {},
    "stage": {"set": {"n_epochs": 3}},
}


def leaf(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def script(tmp_path, text="settings['n_words']"):
    path = tmp_path / "recipe.py"
    path.write_text(text)
    return path


# --- overrides --------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("lrr: 2", "no key 'lrr'; did you mean 'lr'"),
        ("loss: {marign: 0.1}", "no key 'loss.marign'; did you mean 'margin'"),
        ("loss: {gate: {epohc: 1}}", "no key 'loss.gate.epohc'.*'epoch'"),
        ("zzz: 2", r"no key 'zzz'; it has \['extra', 'loss', 'lr', 'stage'\]"),
        ("stage: {ste: {}}", "no key 'stage.ste'; did you mean 'set'"),
        ({"lrr": 2}, "no key 'lrr'"),
    ],
)
def test_a_misspelt_override_is_named_with_its_neighbour(overrides, message):
    with pytest.raises(InputError, match=message):
        check_overrides("a.yaml", TREE, overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        None,
        "",
        "lr: 2",
        "loss: {margin: 0.5}",
        "loss: {gate: {epoch: 1}}",
        "extra: {anything: 1}",
        "loss: null",
        "stage: {set: {lr: 1}}",
    ],
)
def test_known_overrides_pass_and_empty_mappings_and_set_are_open(overrides):
    check_overrides("a.yaml", TREE, overrides)


# --- keys of a recipe -------------------------------------------------------


def test_keys_are_read_from_all_three_forms_and_no_other(tmp_path):
    path = script(
        tmp_path,
        "settings['a']\nstage.settings['b']\nhparams['c']\n"
        "self.hparams.d\nother['e']\nself.other.f\nsettings[key]\n",
    )
    assert keys_read(path) == {"a", "b", "c", "d"}


def test_a_yaml_with_exactly_the_keys_read_passes(tmp_path):
    path = leaf(tmp_path, COMMON + "n_words: 3\n")
    check_keys(script(tmp_path), path, read_yaml(path))


def test_a_key_that_another_value_refers_to_is_not_dead(tmp_path):
    path = leaf(tmp_path, COMMON + "half: 3\nn_words: !ref <half> * 2\n")
    check_keys(script(tmp_path), path, read_yaml(path))


def test_a_run_option_of_speechbrain_may_be_in_the_yaml(tmp_path):
    path = leaf(tmp_path, COMMON + "n_words: 3\nckpt_interval_minutes: 5\n")
    check_keys(script(tmp_path), path, read_yaml(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_wrods: 3\n", "reads no key 'n_wrods'; did you mean 'n_words'"),
        ("n_words: 3\nzzz: 1\n", "reads no key 'zzz'; remove it"),
        ("n_words: 3  # <zzz>\nzzz: 1\n", "reads no key 'zzz'"),
        ("", r"lacks \['n_words'\], which recipe.py reads"),
    ],
)
def test_dead_and_missing_keys_are_named(tmp_path, text, message):
    path = leaf(tmp_path, COMMON + text)
    with pytest.raises(InputError, match=message):
        check_keys(script(tmp_path), path, read_yaml(path))


def test_common_keys_are_required(tmp_path):
    path = leaf(tmp_path, "n_words: 3\n")
    with pytest.raises(InputError, match="output_folder.*overwrite.*seed"):
        check_keys(script(tmp_path), path, read_yaml(path))


# --- reading and building ---------------------------------------------------


def test_a_missing_yaml_is_named(tmp_path):
    with pytest.raises(InputError, match="none.yaml: no such YAML"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["a: [1, 2\n", "a: 1\na: 2\n", "a: b: c\n"])
def test_what_is_not_yaml_is_named(tmp_path, text):
    with pytest.raises(InputError, match="recipe.yaml is not YAML"):
        read_yaml(leaf(tmp_path, text))


def test_plain_values_keep_their_types():
    tree = parse_yaml("a: 1\nb: 0.5\nc: [yes, null]\nd: {e: 'x'}\nf: False\n")
    values = plain(tree)
    assert values == {
        "a": 1,
        "b": 0.5,
        "c": ["yes", None],
        "d": {"e": "x"},
        "f": False,
    }
    assert [type(values[key]) for key in "abf"] == [int, float, bool]


def test_an_unfilled_placeholder_is_an_input_error(tmp_path):
    path = leaf(tmp_path, "a: !PLACEHOLDER\n")
    with pytest.raises(InputError, match="recipe.yaml.*'a'"):
        resolve(path)
    assert "a: 3" in resolve(path, "a: 3")


def test_objects_are_built_with_overrides(tmp_path):
    text = (
        "size: 3\nlayer: !new:torch.nn.Linear\n    in_features: !ref <size>\n"
    )
    path = leaf(tmp_path, text + "    out_features: 2\n")
    built = load_yaml_objects(path, "size: 5")
    assert built["layer"].in_features == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !new:torch.nn.Linear\n    in_feature: 3\n", "in_feature"),
        ("a: !new:torch.nn.Liner\n", "Liner"),
        ("a: !new:no_such_package.Thing\n", "no_such_package"),
    ],
)
def test_a_wrong_class_or_argument_is_one_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        load_yaml_objects(leaf(tmp_path, text))
    assert "cannot be built" in str(error.value)
