"""The training recipes hold what differs; what they share is in a room."""

from house import ROOT

N_LINES = 6


def runs(stem):
    """All runs of six lines of code of a recipe, without blank lines."""
    lines = [
        line.strip()
        for line in (ROOT / "recipes" / f"{stem}.py").read_text().splitlines()
        if line.strip()
        and not line.lstrip().startswith(("#", "from", "import"))
    ]
    starts = range(len(lines) - N_LINES + 1)
    return {tuple(lines[start : start + N_LINES]) for start in starts}


def test_three_trainings_share_no_six_lines():
    dino, contrastive = runs("train_dino"), runs("train_contrastive")
    speaker = runs("train_speaker")
    assert not dino & contrastive
    assert not dino & speaker
    assert not contrastive & speaker
