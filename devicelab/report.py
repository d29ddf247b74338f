"""One self-contained HTML page from text, tables and figures; a browser opens it offline."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .files import replacing, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
img { max-width: 100%; background: white; border-radius: 4px; }
pre { overflow-x: auto; font-size: 13px; padding: .8rem; border: 1px solid #8884; border-radius: 4px; }
table { border-collapse: collapse; font-size: 14px; } td, th { padding: .25rem .9rem .25rem 0; text-align: left; }
th { border-bottom: 1px solid #888; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
.note { color: #777; font-size: 14px; }
"""


@dataclass
class Report:
    """A page that grows section by section; figures also go to files beside it.

    Args:
        title: Heading of the page.
        folder: Where the page and the figures are written.
    """

    title: str
    folder: Path
    parts: list[str] = field(default_factory=list)

    def section(self, title: str, text: str = "") -> None:
        """Begin a section."""
        self.parts.append(f"<h2>{html.escape(title)}</h2>")
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def preformatted(self, text: str) -> None:
        """Text in a fixed-width font."""
        self.parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, rows: Sequence[Mapping[str, object]]) -> None:
        """A table; the keys of the first row are the headings."""
        head = "".join(f"<th>{html.escape(str(key))}</th>" for key in rows[0])
        body = "".join("<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in rows)
        self.parts.append(f"<table><tr>{head}</tr>{body}</table>")

    def figure(self, figure: Figure | Axes, name: str, caption: str = "") -> Path:
        """A figure, or the one that axes belong to, embedded in the page and written to NAME.png."""
        import matplotlib.pyplot as plt
        from matplotlib.figure import Figure

        whole = figure if isinstance(figure, Figure) else figure.get_figure(root=True)
        if whole is None:
            raise TypeError("axes without a figure")
        buffer = io.BytesIO()
        whole.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
        plt.close(whole)
        path = self.folder / f"{name}.png"
        with replacing(path, force=True) as temporary:
            temporary.write_bytes(buffer.getvalue())
        data = base64.b64encode(buffer.getvalue()).decode()
        self.parts.append(f'<p><img alt="{html.escape(caption or name)}" src="data:image/png;base64,{data}"></p>')
        if caption:
            self.parts.append(f'<p class="note">{html.escape(caption)}</p>')
        return path

    def write(self) -> Path:
        """Write index.html."""
        title = html.escape(self.title)
        page = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
            f"<body><h1>{title}</h1>{''.join(self.parts)}</body></html>\n"
        )
        path = self.folder / "index.html"
        write_text(path, page, force=True)
        return path


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="number">{value:.4g}</td>'
    return f"<td>{html.escape(str(value))}</td>"
