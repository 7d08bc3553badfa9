"""Sphinx configuration. ``make docs`` generates the catalog pages first, then builds with warnings as errors."""

from __future__ import annotations

from willitrun import __version__

project = "willitrun"
author = "the willitrun authors"
copyright = "2026, the willitrun authors"
release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "jupyter_execute", "generators", "**.ipynb_checkpoints"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
# Private types of numpy and pydantic have no page to link to.
nitpicky = False

html_theme = "pydata_sphinx_theme"
html_title = "willitrun"
html_theme_options = {
    "show_nav_level": 1,
    "navigation_depth": 3,
    "use_edit_page_button": False,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sourcelink_suffix = ""
html_copy_source = False
