"""How plots are written: PNG and SVG, the same bytes each time."""

from plot_cases import trials

from speechbrain_ext.utils.plotting import save_figure
from speechbrain_ext.verification.plots import det


def test_a_plot_is_written_as_png_and_svg_with_the_same_bytes_each_time(
    tmp_path,
):
    for folder in (tmp_path / "a", tmp_path / "b"):
        figure = det({"DINO": trials()})
        assert save_figure(figure, folder, "det") == ["det.png", "det.svg"]
    for name in ("det.png", "det.svg"):
        contents = [(tmp_path / f / name).read_bytes() for f in "ab"]
        assert contents[0] == contents[1]
    assert (tmp_path / "a" / "det.svg").read_text().startswith("<?xml")
