"""The hook of mkdocs that adds the generated pages (``mkdocs.yml``, ``hooks:``)."""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from docs.generate.reference import COPIED, ROOT, pages


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of :mod:`docs.generate.reference`, and the committed report and picture that they show."""
    for path, write in pages().items():
        files.append(File.generated(config, path, content=write()))
    for path, source in COPIED.items():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / source)))
    return files
