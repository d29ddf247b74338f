"""Run as a program of its own: a workbook on standard input, its sheets pickled on standard output.

The workbook library ends its process when a damaged file, or one stray cell in the last row and column, asks for more
memory than there is. So it gets a process that may end. Nothing but that library is imported here.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys

import python_calamine as calamine

MEMORY = 4 * 2**30
"""Address space of this process [byte]."""


def main() -> None:
    """Read, and write either a dict of sheet name to rows, or the text of what is wrong."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found: object
    try:
        with calamine.load_workbook(io.BytesIO(sys.stdin.buffer.read())) as book:
            found = {name: book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in book.sheet_names}
    except (calamine.CalamineError, OSError, ValueError, MemoryError) as problem:
        found = f"{type(problem).__name__}: {str(problem)[:120]}"
    pickle.dump(found, sys.stdout.buffer)


if __name__ == "__main__":
    main()
