"""Delimited text of any make to blocks: delimiter, decimal sign, header, units and blocks found from the content."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from itertools import chain, groupby, islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import FileFormatError
from .cells import clean, is_missing, is_number, numeric_share, to_column
from .profile import Layout
from .table import Block
from .units import parse_unit, split_unit

DELIMITERS = ("\t", ";", ",", "|", " ")
NAMES = {"tab": "\t", "semicolon": ";", "comma": ",", "space": " ", "pipe": "|"}
COMMENT = re.compile(r"^\s*(?:[#%!]|//)+\s?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")
NUMBER_LIKE = re.compile(r"[+-]?[\d.,' ]*\d[\d.,' ]*(?:[eE][+-]?\d+)?")
NEW_PIECE = re.compile(r"(?i)^\W*(cycle|loop|sweep|run|trace|step)\D{0,6}(\d+)\s*((of|/)\s*\d+)?\W*$")
MOST_COLUMNS = 10_000
MOST_WORDS = 40
"""Lines of text around the data that are kept as metadata."""
SAMPLE = 60
"""Lines looked at to tell the delimiter; enough to outvote any preamble that an instrument writes."""


class Line(NamedTuple):
    """One line that is not blank: its number in the file, its text, and whether it is data."""

    number: int
    text: str
    is_data: bool = False


class Piece(NamedTuple):
    """Lines above a run of data, the data, their cells as numbers where all of them are, and text at the very end."""

    above: list[Line]
    data: list[Line]
    table: NDArray[np.float64] | None = None
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """How cells are parted and how numbers are written."""

    delimiter: str
    decimal: str

    def split(self, text: str) -> list[str]:
        """The cells of one line, without blanks and quotes around them."""
        if self.delimiter == " ":
            return [clean(cell) for cell in text.split()]
        if '"' in text and len(text) < csv.field_size_limit():
            return [clean(cell) for cell in next(csv.reader(io.StringIO(text), delimiter=self.delimiter))]
        return [clean(cell) for cell in text.split(self.delimiter)]

    def is_data(self, text: str) -> bool:
        """Whether a line holds more numbers than words, or as many and a number first."""
        cells = self.split(text)
        share = numeric_share(cells, self.decimal)
        return share > 0.5 or (share == 0.5 and is_number(cells[0], self.decimal))


def read_blocks(text: str, name: str, layout: Layout) -> list[Block]:
    """Every block of columns in `text`.

    Args:
        text: The whole file.
        name: File name, for messages.
        layout: What a profile says; what it leaves open is found from the content.

    Raises:
        FileFormatError: If there is no table of numbers in the text, or text stands amid the numbers.
    """
    plain = text.replace("\ufeff", "").replace("\u2212", "-")  # joined files have marks within; a minus is a minus
    raw = enumerate(re.split(r"\r\n|\n|\r", plain), start=1)
    lines = [Line(number, line) for number, line in raw if line.strip(" \t\f,;\u00a0") and number > layout.skip]
    if not lines:
        raise FileFormatError(f"{name} holds no data", got="blank lines only", allowed="rows of numbers")
    dialect = find_dialect([line.text for line in lines], name, layout)
    widest = max(line.text.count(dialect.delimiter) for line in lines)
    if widest >= MOST_COLUMNS:
        raise FileFormatError(
            f"{name} has too many columns", got=f"{widest + 1} in one row", allowed=f"up to {MOST_COLUMNS}"
        )
    if dialect.decimal == "," and layout.decimal == "auto":
        _check_decimal_comma([line.text for line in lines], dialect, name)
    pieces = _plain(lines, dialect) or _pieces([_told(line, dialect) for line in lines], dialect, name)
    for piece in pieces:
        _check_nothing_is_lost(piece, dialect, name)
    blocks = [_block(piece, dialect, layout) for piece in pieces]
    if not blocks:
        raise FileFormatError(f"{name} holds no rows of numbers", got=lines[0].text[:60], allowed="a table of numbers")
    return blocks


def find_dialect(lines: list[str], name: str, layout: Layout) -> Dialect:
    """The delimiter and decimal sign under which most of the cells are numbers."""
    step = max(1, len(lines) // SAMPLE)
    sample = [line for line in lines[::step] if not COMMENT.match(line)] or lines[:SAMPLE]
    fixed = NAMES.get(layout.delimiter, layout.delimiter)
    delimiters = DELIMITERS if fixed == "auto" else (fixed,)
    decimals = (".", ",") if layout.decimal == "auto" else (layout.decimal,)
    found = [Dialect(d, p) for d in delimiters for p in decimals if (d, p) != (",", ",")]
    least = 1 if fixed != "auto" else 2

    def score(dialect: Dialect) -> float:
        rows = [dialect.split(line) for line in sample]
        shares = [numeric_share(row, dialect.decimal) for row in rows if len(row) >= least]
        return sum(share for share in shares if share >= 0.5) / len(rows)

    scores = [score(dialect) for dialect in found]
    best = int(np.argmax(scores))
    if scores[best] == 0.0:
        raise FileFormatError(
            f"{name} holds no table of numbers",
            got=f"lines such as {lines[0].strip()[:60]!r}",
            allowed="at least two columns parted by tab, semicolon, comma, | or blanks",
            hint="say how the file is built in a profile, see docs/readers.md",
        )
    return found[best]


def _check_decimal_comma(lines: list[str], dialect: Dialect, name: str) -> None:
    """Raise `FileFormatError` where every comma could as well part thousands: `1,500` is 1.5 or 1500."""
    cells = (cell for line in lines for cell in dialect.split(line) if "," in cell and is_number(cell, ","))
    found = list(islice(cells, 1))
    if found and all(THOUSANDS.fullmatch(cell) for cell in chain(found, cells)):
        raise FileFormatError(
            f"{name} has commas that are decimal signs or part thousands",
            got=f"numbers such as {found[0]!r}",
            allowed="numbers that tell, such as 0,5 or 1.5",
            hint='say which in a profile: [layout] decimal = ","; or export without thousands separators',
        )


def _check_nothing_is_lost(piece: Piece, dialect: Dialect, name: str) -> None:
    """Raise `FileFormatError` where rows around the data are numbers too, but parted in another way."""
    for lines in ([line.text for line in piece.above], list(piece.below)):
        for delimiter in DELIMITERS[:4]:
            other = Dialect(delimiter, ".")
            rows = [line for line in lines if delimiter in line and numeric_share(other.split(line)) == 1.0]
            if len(rows) > 1 and delimiter != dialect.delimiter:
                raise FileFormatError(
                    f"{name} has rows that are parted in two ways",
                    got=f"{rows[0][:60]!r} beside rows parted by {dialect.delimiter!r}",
                    allowed="one delimiter for the whole file",
                    hint="were two exports joined? part them into two files",
                )


def _told(line: Line, dialect: Dialect) -> Line:
    return Line(line.number, line.text, not COMMENT.match(line.text) and dialect.is_data(line.text))


def _plain(lines: list[Line], dialect: Dialect) -> list[Piece]:
    """The one piece of a file with nothing but numbers below its header; empty for any other file."""
    first = next((k for k, line in enumerate(lines) if _told(line, dialect).is_data), None)
    table = None if first is None else _numbers(lines[first:], dialect)
    return [] if table is None else [Piece(lines[:first], lines[first:], table)]


def _pieces(lines: list[Line], dialect: Dialect, name: str) -> list[Piece]:
    """The file as (lines above, data lines) pairs; a lone data row between words belongs to the header."""
    runs = [(is_data, list(group)) for is_data, group in groupby(lines, key=lambda line: line.is_data)]
    pieces: list[Piece] = []
    above: list[Line] = []
    for place, (is_data, run) in enumerate(runs):
        lone = len(run) == 1 and any(later for later, _ in runs[place + 1 :]) and not pieces
        if not is_data or lone:
            above = above + run
            continue
        width = _width(run, dialect)
        if not pieces:
            pieces.append(Piece(above, run))
        elif _starts_a_piece(above, pieces[0].above, width, dialect, name):
            pieces.append(Piece(above if _header_cells(above, width, dialect) else pieces[0].above + above, run))
        else:
            pieces[-1].data.extend(run)
        above = []
    if above and pieces:
        pieces[-1] = pieces[-1]._replace(below=tuple(line.text.strip() for line in above))
    return pieces


def _starts_a_piece(above: list[Line], first: list[Line], width: int, dialect: Dialect, name: str) -> bool:
    """Whether the words between two runs of numbers start a new block; plain comments do not.

    Raises:
        FileFormatError: If the words are neither a header, nor a comment, nor the number of a cycle.
    """
    known = {line.text.strip() for line in first}
    for line in above:
        cells = dialect.split(line.text)
        header = dialect.delimiter != " " and len(cells) == width and not any(map(NUMBER_LIKE.fullmatch, cells))
        if header or line.text.strip() in known or NEW_PIECE.search(line.text):
            return True
    strange = [line for line in above if not COMMENT.match(line.text)]
    if strange:
        raise FileFormatError(
            f"{name} has text amid the numbers",
            got=f"line {strange[0].number}: {strange[0].text.strip()[:60]!r}",
            allowed="numbers, comments (#), a new header, or a line such as 'Cycle 2'",
            hint="delete the line, or mark it as a comment with #",
        )
    return False


def _width(run: list[Line], dialect: Dialect) -> int:
    return max(len(dialect.split(line.text)) for line in run[:50])


def _header_cells(above: list[Line], width: int, dialect: Dialect) -> list[list[str]]:
    """The rows just above the data that name its columns, the nearest last (at most a group, a name and a unit row)."""
    rows: list[list[str]] = []
    for line in reversed([line for line in above if not NEW_PIECE.search(line.text)][-3:]):
        cells = _fit(COMMENT.sub("", line.text), width, dialect)
        if cells is None:
            break
        rows.insert(0, cells)
    return rows


def _fit(text: str, width: int, dialect: Dialect) -> list[str] | None:
    """`text` split into `width` cells by whichever way works; headers are not always parted as the data are."""
    ways = [dialect.split(text), *(text.strip().split(d) for d in ("\t", ";", ",")), re.split(r"\s{2,}", text.strip())]
    ways += [re.split(r"\s+(?![\[(/])", text.strip()), text.split(), [*ways[0], ""]]
    for cells in ways:
        trimmed = [clean(cell) for cell in cells]
        while len(trimmed) > width and not trimmed[-1]:
            trimmed.pop()
        if len(trimmed) == width and sum(bool(cell) for cell in trimmed) >= min(2, width):
            return trimmed
    return None


def _block(piece: Piece, dialect: Dialect, layout: Layout) -> Block:
    above = piece.above
    numbers, columns = _columns(piece, dialect)
    heads: list[list[str]] = []
    if len(layout.names) == len(columns):
        heads = [list(layout.names)]
    elif layout.header != "none":
        heads, columns = _fit_header(above, columns, dialect)
    names, units, groups = name_columns(heads, len(columns))
    while len(columns) > 1 and not names[-1] and _is_blank(columns[-1]):
        columns, names, units, groups = columns[:-1], names[:-1], units[:-1], groups[:-1]
    named = bool(heads)
    if not named:
        names = [f"column {k + 1}" for k in range(len(columns))]
    lines = numbers.tolist()
    built = tuple(
        to_column(label or f"column {k + 1}", unit, cells, lines, dialect.decimal)
        for k, (label, unit, cells) in enumerate(zip(names, units, columns, strict=True))
    )
    meta: dict[str, Any] = {}
    words = [line.text.strip() for line in (above[:-1] if heads else above)]
    if words:
        meta["preamble"] = words[:MOST_WORDS]
    if piece.below:
        meta["trailer"] = list(piece.below[:MOST_WORDS])
    if cycle := next((found for line in reversed(above) if (found := NEW_PIECE.search(line.text))), None):
        meta["cycle" if cycle[1].lower() in {"cycle", "loop"} else cycle[1].lower()] = int(cycle[2])
    return Block(built, numbers, named, meta, groups=tuple(groups))


def _fit_header(above: list[Line], columns: list[Any], dialect: Dialect) -> tuple[list[list[str]], list[Any]]:
    """Header rows and columns of one width: blank columns at the end come and go, in the header or in the data."""
    said = len(columns)
    while said > 1 and _is_blank(columns[said - 1]):
        said -= 1
    head = dialect.split(COMMENT.sub("", above[-1].text).rstrip()) if above else []
    while head and not head[-1]:
        head.pop()
    for width in dict.fromkeys([len(head), said, len(columns)] if len(head) >= said else [said, len(columns)]):
        if heads := _header_cells(above, width, dialect):
            blank = [""] * len(columns[0])
            return heads, columns[:width] + [blank] * (width - len(columns))
    return [], columns


def _columns(piece: Piece, dialect: Dialect) -> tuple[NDArray[np.int64], list[Any]]:
    """Line numbers and the cells of each column; short rows are filled with blanks."""
    numbers = np.array([line.number for line in piece.data], dtype=np.int64)
    table = _numbers(piece.data, dialect) if piece.table is None else piece.table
    if table is not None:
        return numbers, list(table.T)
    rows = [dialect.split(line.text) for line in piece.data]
    width = max(len(row) for row in rows)
    return numbers, [[row[k] if k < len(row) else "" for row in rows] for k in range(width)]


def _numbers(data: list[Line], dialect: Dialect) -> NDArray[np.float64] | None:
    """All cells as numbers in one go, shape [t, columns]; None when some line holds anything else."""
    texts = [line.text for line in data]
    if dialect.decimal == ",":
        if any("." in text for text in texts):
            return None
        texts = [text.replace(",", ".") for text in texts]
    delimiter = None if dialect.delimiter == " " else dialect.delimiter
    if delimiter and '"' in texts[0] and all(t.count('"') == 2 * t.count(delimiter) + 2 for t in texts):
        texts = [text.replace('"', "") for text in texts]
    if delimiter and all(text.endswith(delimiter) for text in texts):
        texts = [text[:-1] for text in texts]  # one empty column at the end, as KickStart writes
    try:
        return np.loadtxt(texts, delimiter=delimiter, comments=None, ndmin=2)
    except ValueError:
        return None


def _is_blank(cells: Any) -> bool:
    return isinstance(cells, list) and all(is_missing(cell) for cell in cells)


def name_columns(heads: list[list[str]], width: int) -> tuple[list[str], list[str | None], list[str]]:
    """Column names, units and groups out of up to three header rows: groups, names, units, comments.

    A row of nothing but units may stand below the names, with comments below it, or above them. A group, such as a
    merged cell with the name of a device, reaches up to the next one.
    """
    if not heads:
        return [""] * width, [None] * width, [""] * width
    units: list[str | None] = [None] * width
    at = next((k for k in reversed(range(len(heads))) if _is_units(heads[k], whole=k < len(heads) - 1)), None)
    if at is not None and len(heads) > 1:
        units = [cell.strip("[]() ") or None for cell in heads[at]]
        heads = heads[:at] or heads[at + 1 :]
    parted = [split_unit(cell) for cell in heads[-1]]
    names = [name for name, _ in parted]
    units = [own or below for (_, own), below in zip(parted, units, strict=True)]
    groups = [""] * width
    if len(heads) > 1 and any(a == b for a, b in pairwise(sorted(names)) if a):
        groups = _reaching(["" if is_missing(group) else group for group in heads[-2]])
        names = [f"{group}.{name}" if group else name for group, name in zip(groups, names, strict=True)]
    return names, units, groups


def _is_units(row: list[str], *, whole: bool) -> bool:
    """Whether a header row holds units and nothing else, in every column if `whole`."""
    said = [cell.strip("[]() ") for cell in row]
    if whole and not all(said):
        return False
    return any(not cell.isdigit() for cell in said if cell) and all(parse_unit(cell) for cell in said if cell)


def _reaching(groups: list[str]) -> list[str]:
    """Groups, each repeated over the blanks behind it."""
    filled: list[str] = []
    for group in groups:
        filled.append(group or (filled[-1] if filled else ""))
    return filled
