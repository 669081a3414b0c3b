"""Lets pages link to files of the repository, such as `../bench/ENGINE.md`.

The same link works in a checkout and on the site: what a page links to outside `docs`
is put on the site as well, and so is what that links to. Source files become pages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_SHOWN_AS = {".py": "python", ".toml": "toml", ".cff": "yaml"}
"""Source files that are shown as a page, and their language."""


def on_files(files: Files, config: Any) -> Files:
    """Adds what pages link to, and what those link to."""
    root, docs = _folders(config)
    todo = [Path(f.abs_src_path) for f in files.documentation_pages()]
    while todo:
        for path in _linked(todo.pop(), root):
            uri = _uri(path, root, docs)
            if docs in path.parents or uri in files.src_uris:
                continue
            if path.suffix in _SHOWN_AS:
                fence = f"```{_SHOWN_AS[path.suffix]}\n{path.read_text('utf-8')}```"
                content = f"# {path.name}\n\n`{path.relative_to(root)}`\n\n{fence}\n"
                files.append(File.generated(config, uri, content=content))
            else:
                files.append(File.generated(config, uri, abs_src_path=str(path)))
                if path.suffix == ".md":
                    todo.append(path)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Points links at where `on_files` put the files."""
    root, docs = _folders(config)
    here = page.file.src_uri
    source = docs / here if (docs / here).exists() else root / here

    def moved(match: re.Match[str]) -> str:
        path = (source.parent / match[2]).resolve()
        if ":" in match[2] or root not in path.parents or not path.is_file():
            return match[0]
        start = Path("/", here).parent
        link = os.path.relpath(f"/{_uri(path, root, docs)}", start)
        return match[1] + Path(link).as_posix() + match[3]

    return _LINK.sub(moved, markdown)


def _folders(config: Any) -> tuple[Path, Path]:
    return Path(config.config_file_path).resolve().parent, Path(config.docs_dir)


def _linked(page: Path, root: Path) -> Iterator[Path]:
    for _, link, _ in _LINK.findall(page.read_text("utf-8")):
        path = (page.parent / link).resolve()
        if ":" not in link and root in path.parents and path.is_file():
            yield path


def _uri(path: Path, root: Path, docs: Path) -> str:
    """Where a file lies on the site, as a source."""
    base = docs if docs in path.parents else root
    uri = path.relative_to(base).as_posix()
    return f"{uri}.md" if path.suffix in _SHOWN_AS else uri
