"""What MkDocs does with a page besides: links that leave the site, and the changelog.

The pages are read in the repository, too, where a link to an example or a dashboard works. The site does not have
these files: it shows the text of the link alone.
"""

import posixpath
import re
from typing import Any

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, **given: Any) -> str:
    """Return the text of a page as the site shows it."""
    if page.file.src_uri == "changelog.md":
        markdown = markdown.replace("{changelog}", _changelog())
    folder = posixpath.dirname(page.file.src_uri)
    return LINK.sub(lambda link: _within(link, folder), markdown)


def _changelog() -> str:
    with open("CHANGELOG.md", encoding="utf-8") as file:
        _, _, entries = file.read().partition("\n")
    return entries.replace("](docs/", "](")


def _within(link: re.Match[str], folder: str) -> str:
    target = posixpath.normpath(posixpath.join(folder, link["target"]))
    leaves = "://" not in link["target"] and target.startswith("../")
    return link["text"] if leaves else link[0]
