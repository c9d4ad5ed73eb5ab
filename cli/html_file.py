"""A report as one HTML file: looked at before the work, and replaced as a whole after it."""

from __future__ import annotations

from pathlib import Path

import typer


def check_html_file(html: Path | None) -> None:
    """Say before the work that the file could not be written after it.

    Raises
    ------
    typer.BadParameter
        If it is a folder, or its folder does not exist.
    """
    if html is None:
        return
    if html.is_dir() or not html.parent.is_dir():
        problem = "is a folder" if html.is_dir() else f"cannot be written: there is no folder {html.parent}"
        raise typer.BadParameter(f"{html} {problem}; name a file such as report.html", param_hint="--html")


def write_html_file(html: Path, text: str) -> None:
    """Replace the file as a whole."""
    part = html.with_name(f"{html.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(html)
    finally:
        part.unlink(missing_ok=True)
