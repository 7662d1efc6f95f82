"""HTML of a report: elements whose text is escaped, pictures within the file, and the frame around them.

Nothing is loaded from anywhere: a policy in the head of the page forbids it to whatever may have slipped in.
"""

import html
from base64 import b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnnpar.report.html.theme import Drawing
from cnnpar.text import harmless
from cnnpar.version import __version__

_BEGINNING = '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="generator" content="cnnpar'
MARK = _BEGINNING.encode()  # by which a report is known from a file of the user's
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def text(content: object) -> str:
    """Return text that HTML shows as it is, in elements and in attributes; control characters are spelled out."""
    return html.escape(harmless(str(content)), quote=True)


def paragraph(content: str, kind: str = "") -> str:
    """Return a paragraph of plain text; `kind`: lead, quiet or note."""
    return f"<p{_class(kind)}>{text(content)}</p>"


def section(title: str, *parts: str) -> str:
    """Return a section under a heading; parts that are empty are left out."""
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{text(title)}</h2>\n{body}\n</section>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "") -> str:
    """Return a table whose rows begin with a heading each; without `head` there is none for the columns."""
    columns = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    top = f"<thead><tr>{columns}</tr></thead>\n" if head else ""
    body = "\n".join(
        f'<tr><th scope="row">{text(first)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    name = f"<caption>{text(caption)}</caption>\n" if caption else ""
    return f'<div class="scroll"><table{_class(kind)}>\n{name}{top}<tbody>\n{body}\n</tbody>\n</table></div>'


def figure(picture: Drawing, caption: str = "", kind: str = "") -> str:
    """Return a picture, which is part of the page, with the one for dark pages if there is one."""
    image = f'<img src="{_inline(picture.light)}" alt="{text(picture.alt)}">'
    if picture.dark is not None:
        dark = f'<source srcset="{_inline(picture.dark)}" media="(prefers-color-scheme: dark)">'
        image = f"<picture>{dark}{image}</picture>"
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure{_class(kind)}>{image}{below}</figure>"


def group(kind: str, parts: Iterable[str]) -> str:
    """Return parts side by side, or one below another, as style.css places those of a kind: row, stack, small, maps."""
    return f'<div class="{kind}">\n' + "\n".join(parts) + "\n</div>"


def folded(title: str, content: str) -> str:
    """Return content that is shown when its title is clicked."""
    return f"<details><summary>{text(title)}</summary>\n{content}\n</details>"


def verbatim(content: str) -> str:
    """Return lines as they are, in letters of one width."""
    return f"<pre>{text(content)}</pre>"


def page(title: str, parts: Iterable[str]) -> bytes:
    """Return the whole file."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    head = (
        f'{_BEGINNING} {__version__}">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n<h1>{text(title)}</h1>\n"
    )
    return (head + "\n".join(parts) + "\n</main>\n</body>\n</html>\n").encode(errors="backslashreplace")


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
