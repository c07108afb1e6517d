"""YAML trees: bases, overrides, references, objects, and clear errors."""

import pytest

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.yaml_trees import (
    build_objects,
    check_overrides,
    find_yaml,
    parse_yaml,
    plain,
    read_yaml,
    resolve,
)

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


# --- overrides --------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("lrr: 2", "no key 'lrr'; did you mean 'lr'"),
        ("loss: {marign: 0.1}", "no key 'loss.marign'; did you mean 'margin'"),
        ("loss: {gate: {epohc: 1}}", "no key 'loss.gate.epohc'.*'epoch'"),
        ("zzz: 2", r"no key 'zzz'; it has \['extra', 'loss', 'lr', 'stage'\]"),
        ("stage: {ste: {}}", "no key 'stage.ste'; did you mean 'set'"),
    ],
)
def test_a_misspelt_override_is_named_with_the_nearest_key(overrides, message):
    with pytest.raises(InputError, match=message):
        check_overrides("a.yaml", TREE, parse_yaml(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "lr: 2",
        "loss: {margin: 0.5}",
        "loss: {gate: {epoch: 1}}",
        "extra: {anything: 1}",
        "loss: null",
    ],
)
def test_known_overrides_pass_and_empty_maps_are_open(overrides):
    check_overrides("a.yaml", TREE, parse_yaml(overrides))


# --- bases and places -------------------------------------------------------


def test_a_yaml_with_a_base_changes_it(tmp_path):
    leaf(tmp_path, "lr: 1\nloss: {margin: 0.2, scale: 30}\n")
    (tmp_path / "other.yaml").write_text(
        "base: recipe.yaml\nloss: {margin: 0.5}\nn_epochs: 3\n"
    )
    assert plain(read_yaml(tmp_path / "other.yaml")) == {
        "lr": 1,
        "loss": {"margin": 0.5, "scale": 30},
        "n_epochs": 3,
    }


def test_each_of_several_bases_changes_the_ones_before_it(tmp_path):
    leaf(tmp_path, "lr: 1\nloss: {margin: 0.2, scale: 30}\n")
    (tmp_path / "small.yaml").write_text("lr: 2\nloss: {scale: 20}\n")
    (tmp_path / "both.yaml").write_text(
        "base: [recipe.yaml, small.yaml]\nloss: {margin: 0.5}\n"
    )
    assert plain(read_yaml(tmp_path / "both.yaml")) == {
        "lr": 2,
        "loss": {"margin": 0.5, "scale": 20},
    }


def test_a_yaml_that_is_a_base_of_itself_is_refused(tmp_path):
    path = leaf(tmp_path, "base: recipe.yaml\n")
    with pytest.raises(InputError, match="is a base of itself"):
        read_yaml(path)


def test_a_path_in_a_yaml_is_relative_to_that_yaml_and_not_the_directory(
    tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "part.yaml").touch()
    monkeypatch.chdir(tmp_path / "here")
    assert find_yaml("part.yaml").is_file()
    with pytest.raises(InputError, match="part.yaml, which .*recipe.yaml"):
        find_yaml("part.yaml", tmp_path / "recipe.yaml")
    found = find_yaml("here/part.yaml", tmp_path / "recipe.yaml")
    assert found == tmp_path / "here" / "part.yaml"


def test_the_packages_own_yaml_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("prepare_toy.yaml", "hparams/prepare_toy.yaml"):
        assert find_yaml(name).parent.name == "hparams"


# --- reading and building ---------------------------------------------------


def test_a_missing_yaml_is_named(tmp_path):
    with pytest.raises(InputError, match="none.yaml: no such YAML"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["a: [1, 2\n", "a: 1\na: 2\n", "a: b: c\n"])
def test_a_file_that_is_not_yaml_is_named(tmp_path, text):
    with pytest.raises(InputError, match="recipe.yaml is not YAML"):
        read_yaml(leaf(tmp_path, text))


@pytest.mark.parametrize("content", [b"a: \xe9\n", b"a: \0\n", b"a: \x07\n"])
def test_bytes_that_yaml_cannot_have_are_named(tmp_path, content):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(InputError, match="recipe.yaml is not YAML"):
        read_yaml(tmp_path / "recipe.yaml")


def test_a_yaml_of_aliases_of_aliases_is_refused_at_once(tmp_path):
    """Ten lines that stand for billions of values kept a recipe busy."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)
    ]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match="bomb.yaml: YAML has more than"):
        read_yaml(tmp_path / "bomb.yaml")


@pytest.mark.parametrize("opened", ["[", "{a: "])
def test_a_yaml_of_thousands_of_brackets_is_refused_at_once(tmp_path, opened):
    """A hundred thousand of them kept a command busy for minutes."""
    (tmp_path / "deep.yaml").write_text(opened * 100_000)
    with pytest.raises(InputError, match="deep.yaml: .* 100000 lists and maps"):
        read_yaml(tmp_path / "deep.yaml")


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
    built = build_objects(resolve(path, "size: 5"), path)
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
        build_objects(text, "recipe.yaml")
    assert "cannot be built" in str(error.value)
