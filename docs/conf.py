"""Sphinx configuration. ``make docs`` generates the catalog pages first, then builds with warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

from willitrun import __version__

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "willitrun"
author = "the willitrun authors"
copyright = "2026, the willitrun authors"
release = __version__

extensions = [
    "figures",
    "mathml",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "jupyter_execute", "extensions", "generators", "**.ipynb_checkpoints"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
nb_render_markdown_format = "myst"  # tables in what a cell shows
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
# Private types of numpy and pydantic have no page to link to.
nitpicky = False
html_math_renderer = "mathml"
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_favicon = "_static/favicon.svg"
html_title = "willitrun"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["willitrun.css"]
html_theme_options = {
    "show_nav_level": 1,
    "navigation_depth": 2,
    "use_edit_page_button": False,
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": False,
}
# Hundreds of entries in a side bar help nobody; terms and failures are found by search, category and link.
html_sidebars = {
    "catalog/glossary/*": [],
    "catalog/troubleshooting/*": [],
    "index": [],
}
html_sourcelink_suffix = ""
html_copy_source = False
html_show_sourcelink = False
