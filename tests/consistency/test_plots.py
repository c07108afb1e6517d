"""What holds for every plot: no text is cut off, words go along."""

import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from plot_cases import FIGURES

from speechbrain_ext.utils.plotting import save_png


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_off_or_covered(name):
    figure = FIGURES[name]()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    page = figure.bbox
    boxes = []
    for axes in figure.axes:
        if not axes.axison:
            continue
        labels = [axes.xaxis.label, axes.yaxis.label, axes.title]
        for axis, low, high in (
            (axes.xaxis, *sorted(axes.get_xlim())),
            (axes.yaxis, *sorted(axes.get_ylim())),
        ):
            labels += [
                tick.label1
                for tick in axis.get_major_ticks()
                if low <= tick.get_loc() <= high
            ]
        boxes += [
            text.get_window_extent(renderer)
            for text in labels
            if text.get_text()
        ]
    boxes += [key.get_window_extent(renderer) for key in figure.legends]
    assert len(boxes) > 1
    for number, box in enumerate(boxes):
        assert page.x0 <= box.x0 and box.x1 <= page.x1
        assert page.y0 <= box.y0 and box.y1 <= page.y1
        for other in boxes[:number]:
            assert not box.overlaps(other)


@pytest.mark.parametrize("name", FIGURES)
def test_a_sentence_goes_with_each_figure(name):
    assert len(FIGURES[name]().get_label()) > 20


def test_no_global_figure_is_left_open():
    for figure in FIGURES.values():
        figure()
    assert pyplot.get_fignums() == []


def test_same_figure_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        save_png(FIGURES["clusters"](), tmp_path / name)
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content == (tmp_path / "b.png").read_bytes()
