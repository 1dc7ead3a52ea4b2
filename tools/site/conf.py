"""Sphinx's settings for the site; `make.py` writes the pages and calls Sphinx."""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import course  # noqa: E402
import docstrings  # noqa: E402
from docstrings import linkcode_resolve  # noqa: E402, F401 (sphinx.ext.linkcode asks for it)

import minigen  # noqa: E402

project, author, release = "minigen", "the minigen course", minigen.__version__
html_title = "minigen"
copyright = "the minigen course. Code MIT, prose and figures CC BY 4.0"
language = "en"
extensions = [
    "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.linkcode", "sphinx.ext.mathjax",
    "sphinx_copybutton",
]

# what the notebooks have stored is what is shown: nothing runs
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"          # formulas in captions
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "attrs_inline"]
myst_dmath_double_inline = True
myst_heading_anchors = 3
# an image of a kind that Sphinx does not know; a type whose name two modules have
suppress_warnings = ["mystnb.unknown_mime_type", "ref.python"]

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False          # torch's are written for other readers
autodoc_preserve_defaults = True
default_role = "code"
toc_object_entries = False                  # else every page carries a list of all functions
add_module_names = False

html_theme = "sphinx_book_theme"
html_theme_options = {
    "repository_url": course.repository(),
    "use_repository_button": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "max_navbar_depth": 1,                       # modules and solutions are listed on their pages
    # lines that tell colours apart by 4.5 : 1
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_copy_source = html_show_sourcelink = False
html_use_index = html_domain_indices = False     # the search finds more
html_last_updated_fmt = None
html_css_files = ["site.css"]
html_js_files = ["site.js"]

# one file, its letters drawn as paths: nothing is fetched from elsewhere
_found = importlib.util.find_spec("sphinx-mathjax-offline")
if _found is None or _found.origin is None:
    raise SystemExit("pip install -r tools/site/requirements.txt")
_mathjax = Path(_found.origin).parent / "static" / "mathjax" / "tex-svg.js"
html_static_path = [str(HERE / "static"), str(_mathjax)]
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}


def setup(app):
    app.connect("autodoc-process-docstring", docstrings.process)
    app.connect("autodoc-skip-member", docstrings.skip)
