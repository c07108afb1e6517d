"""A stand-in for ffmpeg, which decodes made-up m4a files and counts them.

An m4a file of it is a line: a number of samples, ``damaged`` or ``deadly``.
The last kills the process group that decodes it, once.
"""

import os
import sys
from pathlib import Path

SCRIPT = """#!{python} -IS
import os, signal, sys
here = os.path.dirname(sys.argv[0])
if sys.argv[1:] == ["-version"]:
    print("ffmpeg version fake")
    sys.exit()
words = sys.argv[1:]
source = words[words.index("-i") + 1].removeprefix("file:")
rate, channels = (words[words.index(key) + 1] for key in ("-ar", "-ac"))
assert (rate, channels, words[-1]) == ("16000", "1", "pipe:1"), words
with open(here + "/decoded.txt", "a") as log:
    log.write(source + "\\n")
said = open(source).read().strip()
if said == "deadly" and not os.path.exists(here + "/killed"):
    open(here + "/killed", "w").close()
    os.killpg(0, signal.SIGKILL)
if said == "damaged":
    sys.stdout.buffer.write(bytes(100))
    sys.exit("[mov @ 0x%x] moov atom not found\\nInvalid data" % os.getpid())
n_samples = int(said) if said.isdigit() else 16000
sys.stdout.buffer.write((b"\\x01\\x02\\xff\\xfd" * n_samples)[: 2 * n_samples])
"""


class FakeFfmpeg:
    """An executable ``ffmpeg`` in a folder, first on ``PATH``.

    ``monkeypatch`` is pytest's.
    """

    def __init__(self, folder, monkeypatch):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        path = self.folder / "ffmpeg"
        path.write_text(SCRIPT.format(python=sys.executable))
        path.chmod(0o755)
        others = os.environ.get("PATH", "")
        monkeypatch.setenv("PATH", f"{self.folder}{os.pathsep}{others}")

    @property
    def decoded(self):
        """Names of the files that were decoded, sorted; one for each time."""
        log = self.folder / "decoded.txt"
        lines = log.read_text().splitlines() if log.exists() else []
        return sorted(line.rpartition("/")[2] for line in lines)

    def remove(self):
        """Uninstall it."""
        (self.folder / "ffmpeg").unlink()


def write_m4a(path, what):
    """Write a file for it: a number of samples, damaged or deadly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{what}\n")


def hide_ffmpeg(monkeypatch, folder):
    """Leave nothing on ``PATH``."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", str(folder))
