"""Figures look the same whoever draws them, and show names as they are."""

import html
import io

import matplotlib as mpl
import pandas as pd

from jaxmoe.analysis.style import Drawing, canvas, files_of, style


def test_figures_depend_on_nothing_of_the_users_and_show_names_as_they_are():
    theirs = {"text.usetex": True, "font.size": 40.0, "axes.grid": False}
    with mpl.rc_context(theirs):
        with style():
            figure, axes = canvas()
            axes.set_title(name := "cheap $0.15_in_$0.60 [/] <b> \\frac")
            files = files_of(Drawing("mine", "t", "c", figure, pd.DataFrame({"a": [1]})))
            assert not mpl.rcParams["text.usetex"]
            assert mpl.rcParams["font.size"] == 7.0
        assert mpl.rcParams["font.size"] == 40.0  # theirs again
    assert files["mine.png"].startswith(b"\x89PNG")
    content = io.BytesIO()
    with style():
        figure.savefig(content, format="svg")
    assert html.escape(name, quote=False) in content.getvalue().decode()
