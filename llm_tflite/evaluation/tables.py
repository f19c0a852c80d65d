"""Tables in the forms that people read."""

from __future__ import annotations

import html
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]
_BAR = r"\|"


def markdown_table(columns: Sequence[str], rows: Rows, *, numbers: Sequence[str] = ()) -> str:
    """Return a table of Markdown.

    Args:
        columns: Their headings.
        rows: Cells as text; what would end a cell is escaped.
        numbers: Headings of columns that are set to the right.
    """
    lines = [
        f"| {' | '.join(columns)} |",
        f"|{'|'.join('---:' if column in numbers else '---' for column in columns)}|",
    ]
    for row in rows:
        lines.append(f"| {' | '.join(_one_line(cell).replace('|', _BAR) for cell in row)} |")
    return "\n".join(lines) + "\n"


def html_table(columns: Sequence[str], rows: Rows) -> str:
    """Return a table of HTML; cells are text, and stay text."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def text_table(columns: Sequence[str], rows: Rows) -> str:
    """Return a table for the terminal, one line for each row."""
    lines = [list(columns), *([_one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def figure(value: float | None, form: str, *, unit: float = 1) -> str:
    """Return a number as text, in ``unit``; a dash for one that is not known."""
    return "-" if value is None else format(value / unit, form)


def _one_line(cell: str) -> str:
    return " ".join(cell.split())
