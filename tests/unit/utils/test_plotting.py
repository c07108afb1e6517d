"""How plots are written: PNG and SVG, the same bytes each time."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from plot_cases import FIGURES, trials

from speechbrain_ext.utils.plotting import WIDTH, save_figure
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


def test_names_of_users_are_drawn_as_they_are():
    """A dollar began a formula, and a byte that is no UTF-8 ended the plot."""
    name = "a$\\nothing$ \udce9"
    figure = det({name: trials()})
    FigureCanvasAgg(figure).draw()
    (label,) = [text.get_text() for text in figure.legends[0].get_texts()]
    assert label.startswith("a$\\nothing$ ?")


def test_all_plots_have_one_width():
    widths = [figure().get_figwidth() for figure in FIGURES.values()]
    assert np.unique(widths).tolist() == [WIDTH]
