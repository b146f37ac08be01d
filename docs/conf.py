# SPDX-License-Identifier: Apache-2.0
"""The documentation as a site: ``make docs`` builds it with Sphinx and MyST into out/docs.

Pages that live elsewhere in the repository (``OUTSIDE``) have a stub in this folder, which their
text replaces; so every link works on GitHub and in the site.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from compact_yolo_ros import __version__  # noqa: E402

project = "compact_yolo_ros"
author = "compact_yolo_ros maintainers"
project_copyright = "the contributors of compact_yolo_ros, Apache-2.0"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = False
html_theme = "furo"
html_title = f"compact_yolo_ros {version}"
html_static_path = ["static"]
html_css_files = ["wide_tables.css"]
myst_heading_anchors = 4
# the classes are read without what they decode images with
autodoc_mock_imports = ["cv2"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True

OUTSIDE = {
    "contributing": "CONTRIBUTING.md",
    "training": "training/README.md",
    "training_data": "training/data/README.md",
    "gpu_tests": "test/gpu/README.md",
    "quality": "QUALITY_DECLARATION.md",
    "security": "SECURITY.md",
    "changelog": "CHANGELOG.rst",
}
"""Pages of the site, and the files that are their text."""
CARDS = "model_cards"
"""The page with all model cards."""
LINK = re.compile(r"(?<!\!)\[([^\]]+)\]\(([^)\s]+)\)")


def setup(app: Sphinx) -> None:
    """Take the texts from where they are."""
    app.connect("source-read", _read)


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    folder = DOCS
    if page == CARDS:
        cards = sorted((ROOT / "models").glob("*.md"))
        source[0] += "\n".join(_deeper(card.read_text()) for card in cards)
        folder = ROOT / "models"
    elif page in OUTSIDE:
        path = ROOT / OUTSIDE[page]
        text = path.read_text()
        source[0] = f"```{{eval-rst}}\n{text}\n```\n" if path.suffix == ".rst" else text
        folder = path.parent
    source[0] = _rewritten(source[0], folder)


def _deeper(text: str) -> str:
    """Make headings one level lower, and unique on the page of all cards."""
    name = text.split("\n", 1)[0].lstrip("# ")
    return re.sub(
        r"^(#+) (.*)$",
        lambda found: f"#{found[1]} {found[2] if found[1] == '#' else f'{found[2]} ({name})'}",
        text,
        flags=re.MULTILINE,
    )


def _rewritten(text: str, folder: Path) -> str:
    """Make links to files outside this folder links to their pages, or plain text."""

    def link(found: re.Match[str]) -> str:
        title, (target, _, anchor) = found[1], found[2].partition("#")
        if not target or re.match(r"\w+:", target):
            return found[0]
        path = (folder / target).resolve()
        page = _page(path)
        if page is None:
            return f"`{path.relative_to(ROOT)}`" if path.is_relative_to(ROOT) else title
        if page == f"{CARDS}.md":
            anchor = anchor or path.stem.replace("_", "-")
        return f"[{title}]({page}{'#' if anchor else ''}{anchor})"

    return LINK.sub(link, text)


def _page(path: Path) -> str | None:
    """The page that shows a file, from the root of the site; None if no page does."""
    for page, file in OUTSIDE.items():
        if path == ROOT / file:
            return f"{page}.md"
    if path == ROOT / "README.md":
        return "index.md"
    if path.parent == ROOT / "models" and path.suffix == ".md":
        return f"{CARDS}.md"
    return path.name if path.parent == DOCS and path.suffix == ".md" else None
