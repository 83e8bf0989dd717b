"""Pieces of a page: text is escaped here and nowhere else, so nothing a database holds can become code."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from alflow.reports.canvas import Figure, as_svg

__all__ = ["Html", "bullets", "details", "facts", "figure", "join", "note", "paragraph", "section", "table", "verbatim"]


class Html(str):
    """Text that is HTML already."""


def _safe(text: object) -> str:
    return text if isinstance(text, Html) else escape(str(text))


def join(*parts: Html | None) -> Html:
    """Pieces one after the other; those that are None are left out."""
    return Html("\n".join(part for part in parts if part is not None))


def paragraph(text: object, kind: str = "") -> Html:
    """A paragraph, of a class if one is given."""
    return Html(f'<p class="{escape(kind)}">{_safe(text)}</p>' if kind else f"<p>{_safe(text)}</p>")


def note(text: object) -> Html:
    """Why something is missing, or what to mind."""
    return paragraph(text, "note")


def bullets(lines: Sequence[object]) -> Html:
    """A list."""
    return Html("<ul>" + "".join(f"<li>{_safe(line)}</li>" for line in lines) + "</ul>")


def section(name: str, title: str, lead: object, *parts: Html | None) -> Html:
    """A part of the page with its heading and a sentence that says how to read it."""
    body = join(*parts)
    return Html(
        f'<section id="{escape(name)}" aria-labelledby="{escape(name)}-title">\n<h2 id="{escape(name)}-title">'
        f'{_safe(title)}</h2>\n<p class="lead">{_safe(lead)}</p>\n{body}\n</section>'
    )


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[object]], numeric: int | None = None) -> Html:
    """A table.

    Args:
        caption: What it shows.
        head: Heading of each column; if all are empty there is none.
        rows: Its cells.
        numeric: First column of numbers, set to the right; by default all but the first.
    """
    first = 1 if numeric is None else numeric
    heads = "".join(f'<th scope="col"{_right(column, first)}>{_safe(cell)}</th>' for column, cell in enumerate(head))
    lines = []
    for row in rows:
        cells = [
            f'<th scope="row">{_safe(cell)}</th>' if column == 0 else f"<td{_right(column, first)}>{_safe(cell)}</td>"
            for column, cell in enumerate(row)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    top = f"<thead><tr>{heads}</tr></thead>" if any(head) else ""
    return Html(
        f'<div class="scroll"><table><caption>{_safe(caption)}</caption>{top}'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _right(column: int, first: int) -> str:
    return ' class="n"' if column >= first else ""


def figure(shown: Figure | None, caption: object) -> Html | None:
    """A figure with its caption; None without one."""
    if shown is None:
        return None
    return Html(
        f'<figure id="figure-{escape(shown.name)}"><div class="plot" role="img" aria-label="{escape(shown.alt)}">'
        f"{as_svg(shown)}</div><figcaption><b>{_safe(shown.title)}.</b> {_safe(caption)}</figcaption></figure>"
    )


def details(summary: str, body: Html, shut: bool = True) -> Html:
    """What is folded away until it is asked for; printed in full."""
    return Html(f"<details{'' if shut else ' open'}><summary>{_safe(summary)}</summary>{body}</details>")


def verbatim(text: str) -> Html:
    """Lines as they are, to be copied."""
    return Html(f"<pre>{_safe(text)}</pre>")


def facts(items: Sequence[tuple[str, str, str]]) -> Html:
    """A row of (what, number, remark)."""
    cells = "".join(
        f"<div><dt>{_safe(what)}</dt><dd><b>{_safe(number)}</b><span>{_safe(remark)}</span></dd></div>"
        for what, number, remark in items
    )
    return Html(f'<dl class="facts">{cells}</dl>')
