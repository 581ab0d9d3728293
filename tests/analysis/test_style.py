"""Figures look the same whoever draws them, and show names as they are."""

import html
import io

import matplotlib as mpl
import pandas as pd

from jaxmoe.analysis.style import LABEL, Drawing, canvas, files_of, label_of, style


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


def test_a_name_in_any_script_is_drawn_in_letters_that_a_font_has_or_escaped():
    with style():
        assert label_of("имя Ω é") == "имя Ω é"
        shown = label_of("名前")
        assert shown in ("名前", r"\u540d\u524d")  # as a font has them that is installed, or not
        assert label_of("a\x1b[2Jb\nc") == r"a\x1b[2Jb\nc"
        assert label_of("_hidden").strip() == "_hidden"
        assert len(label_of("x" * 300)) == LABEL
        figure, axes = canvas()
        axes.plot([1, 2], label=label_of("_hidden"))
        axes.set_title(shown)
        assert [text.get_text() for text in axes.legend().get_texts()] == [" _hidden"]
        files_of(Drawing("mine", "t", "c", figure, pd.DataFrame({"a": [1]})))  # a missing letter would be a warning


def test_files_of_a_figure_have_names_that_are_no_paths():
    with style():
        figure, _ = canvas()
        files = files_of(Drawing("../../x", "t", "c", figure, pd.DataFrame({"a": ["=1+1", "b"]})))
    assert {name.rpartition(".")[2] for name in files} == {"csv", "pdf", "png"}
    assert all("/" not in name for name in files)
    assert files[next(name for name in files if name.endswith(".csv"))] == b"a\n'=1+1\nb\n"
