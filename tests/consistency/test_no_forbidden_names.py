"""Files name no package registry and no folder of somebody's machine."""

import re
import subprocess

import pytest
from house import ROOT

# Written in pieces: this file is searched too.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("anaconda", "org"),
        ("anaconda", "com"),
        ("download.pytorch", "org"),
        ("npmjs", "org"),
        ("pkg", "dev"),
    )
] + ["index" + "-url"]
HOMES = ("work", "tmp", "root", "home", "Users", "mnt")
HOME = re.compile(r"(?<![\w.$})>~*-])/(?:" + "|".join(HOMES) + r")/")


def tracked_files():
    """Tracked files, and those that would be by the next commit."""
    done = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
        + ["--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = done.stdout.decode().split("\0")
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def texts():
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content:
            yield path.relative_to(ROOT), content.decode("utf-8")


def test_files_are_found():
    names = {str(path) for path, _ in texts()}
    assert {"setup.py", "README.md", "tests/helpers/house.py"} <= names


def test_no_file_names_a_package_registry():
    found = [
        f"{path}: {registry}"
        for path, text in texts()
        for registry in REGISTRIES
        if registry in text
    ]
    assert not found


def test_no_file_names_a_folder_of_one_machine():
    found = [
        f"{path}: {line.strip()[:100]}"
        for path, text in texts()
        for line in text.splitlines()
        if HOME.search(line)
    ]
    assert not found


@pytest.mark.parametrize("home", HOMES)
def test_folders_are_recognised_and_others_are_not(home):
    assert HOME.search(f'"/{home}/x"')
    assert HOME.search(f"--folder=/{home}/x")
    assert not HOME.search(f"exp/{home}/x")
    assert not HOME.search(f"/data/{home}/x")
