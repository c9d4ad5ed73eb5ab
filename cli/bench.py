"""`tidecast bench`: measure speed and memory, each figure beside a reference of the same run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cli.answer import give_json, progress, say, show_table
from cli.benches import UnknownBenchError, chosen, load, names
from cli.benches.base.bench import NotMeasuredError, Sizes
from cli.benches.base.figure import Figure, rounded
from cli.benches.base.markdown import as_markdown, put_into
from cli.folder import JsonOption, folder_named
from runtime.directory import DirectoryError
from runtime.embedded.session import ServerError
from runtime.stack import StackError

#: A bench that meets one of these has no figure; the others go on.
_EXPECTED = (NotMeasuredError, StackError, ServerError, DirectoryError, OSError)


def bench(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Benches or figures; all but the long ones by default."),
    ] = None,
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Answer with a table in Markdown.")] = False,
    into: Annotated[
        Path | None,
        typer.Option(
            "--into", help="Put the figures into the table of this page, such as docs/benchmarks.md."
        ),
    ] = None,
    what: Annotated[bool, typer.Option("--list", help="Only say which benches there are.")] = False,
    candles: Annotated[
        int | None, typer.Option("--candles", min=1, help="Candles to replay, or rows of the largest table.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.1, help="Wall minutes of watching a live market.")
    ] = None,
    symbols: Annotated[int | None, typer.Option("--symbols", min=1, help="How many symbols.")] = None,
    full: Annotated[bool, typer.Option("--full", help="At the size that the promise speaks of.")] = False,
    folder: Annotated[
        Path,
        typer.Option(
            "--dir",
            parser=folder_named,
            metavar="DIRECTORY",
            help="Where pipelines are made for a while.",
        ),
    ] = Path("var/bench"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave those pipelines' folders behind.")] = False,
) -> None:
    """Measure speed and memory on this machine, each figure beside a reference."""
    if what:
        _list(as_json)
        return
    sizes = Sizes(folder=folder, candles=candles, minutes=minutes, symbols=symbols, full=full, keep=keep)
    # SIGTERM cancels as Ctrl-C does, and both do so where a shell started this in the background, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        figures = list(_measured(wanted or [], sizes))
    except UnknownBenchError as error:
        raise typer.BadParameter(str(error)) from error
    except KeyboardInterrupt:
        progress.print("cancelled", markup=False)
        raise typer.Exit(130) from None
    if into is not None:
        put_into(into, figures)
    if as_json:
        give_json({figure.name: figure.as_json() for figure in figures})
    elif markdown:
        say(as_markdown(figures))
    else:
        _show(figures)
    if any(figure.error is not None for figure in figures):
        raise typer.Exit(1)


def _measured(wanted: list[str], sizes: Sizes) -> Iterator[Figure]:
    for name, (each, figures) in chosen(wanted).items():
        progress.print(f"{name}: takes about {each.TAKES}", markup=False)
        given: set[str] = set()
        try:
            for figure in each.run(sizes, figures):
                progress.print(f"{name}: {_in_words(figure)}", markup=False)
                given.add(figure.name)
                yield figure
        except _EXPECTED as error:
            progress.print(f"{name}: {error}", style="red", markup=False)
            for missing in figures:
                if missing not in given:
                    yield Figure(name=missing, value=None, unit="", says="", error=str(error))


def _in_words(figure: Figure) -> str:
    beside = "" if figure.reference is None else f", reference {rounded(figure.reference):,}"
    verdict = {True: ", holds", False: ", does NOT hold", None: ""}[figure.holds]
    return f"{figure.name} = {rounded(figure.value):,} {figure.unit}{beside}{verdict}"


def _list(as_json: bool) -> None:
    benches = {name: load(name) for name in names()}
    if as_json:
        give_json(
            {
                name: {"gives": each.GIVES, "takes": each.TAKES, "on_request": each.ON_REQUEST}
                for name, each in benches.items()
            }
        )
        return
    rows = [
        (name, ", ".join(each.GIVES), each.TAKES, "by name only" if each.ON_REQUEST else "")
        for name, each in benches.items()
    ]
    show_table(["bench", "figures", "takes about", ""], rows)


def _show(figures: list[Figure]) -> None:
    rows = [
        (
            figure.name,
            rounded(figure.value) if figure.error is None else figure.error,
            figure.unit,
            rounded(figure.reference),
            rounded(figure.ratio),
            figure.promise,
            {True: "yes", False: "NO", None: ""}[figure.holds],
        )
        for figure in figures
    ]
    show_table(
        ["figure", "value", "unit", "reference", "ratio", "promise", "holds", "the reference is"], rows
    )
