"""Unit texts as instruments write them, and the factor that takes a number to SI."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import FileFormatError

PREFIXES: dict[str, float] = {
    "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3,
    "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
}  # fmt: skip
SYMBOLS: dict[str, str] = {
    "V": "V", "v": "V", "A": "A", "a": "A", "s": "s", "Ohm": "ohm", "ohm": "ohm", "OHM": "ohm", "Ω": "ohm",
    "\u2126": "ohm", "S": "S", "Hz": "Hz", "W": "W", "K": "K", "F": "F",
}  # fmt: skip
WORD_PREFIXES: dict[str, float] = {
    "femto": 1e-15, "pico": 1e-12, "nano": 1e-9, "micro": 1e-6, "milli": 1e-3, "kilo": 1e3, "mega": 1e6, "giga": 1e9,
}  # fmt: skip
WORDS: dict[str, str] = {
    "volt": "V", "volts": "V", "ampere": "A", "amperes": "A", "amp": "A", "amps": "A", "second": "s", "seconds": "s",
    "sec": "s", "secs": "s", "ohm": "ohm", "ohms": "ohm", "siemens": "S", "hertz": "Hz", "watt": "W", "watts": "W",
    "kelvin": "K",
}  # fmt: skip
TIMES = {
    "usec": 1e-6, "msec": 1e-3, "nsec": 1e-9, "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
AREAS = {"n": 1e-18, "u": 1e-12, "µ": 1e-12, "μ": 1e-12, "m": 1e-6, "c": 1e-4, "": 1.0}
OTHERS: dict[str, tuple[str, float, float]] = {
    **{name: ("s", scale, 0.0) for name, scale in TIMES.items()},
    **{f"{prefix}m{square}": ("m2", scale, 0.0) for prefix, scale in AREAS.items() for square in ("2", "²", "^2")},
    **{name: ("K", 1.0, 273.15) for name in ("°C", "degC", "C", "celsius")},
    "1": ("1", 1.0, 0.0),
}
NEVER_LARGE = {"V", "A", "s", "S", "F", "K"}
"""No device is measured in megaampere: `MA` stands for mA in headers that know capitals only, and so for nothing."""
BRACKETS = re.compile(r"[\s_]*(?:\(([^()]*)\)|\[([^\[\]]*)\]|\{([^{}]*)\}|<([^<>]*)>)")
LONGEST_NAME = 200
"""Characters in the longest text that is looked at as the name of a column; anything longer is no header."""
NOT_A_UNIT_WE_TAKE = re.compile(r"/|\^|²|%|·|\*|^a\.?u\.?$|^arb|^norm|^log|^dB", re.IGNORECASE)


@dataclass(frozen=True)
class Unit:
    """A unit as written and its way to SI: value_si = value * scale + offset.

    Args:
        text: The unit as the file states it.
        si: The SI unit it converts to, for example `"A"`.
        scale: Factor to SI.
        offset: Added after scaling [SI unit]; not zero for degrees Celsius only.
    """

    text: str
    si: str
    scale: float = 1.0
    offset: float = 0.0


def parse_unit(text: str) -> Unit | None:
    """The unit that `text` names, or None when it is not a unit this toolkit knows.

    Symbols are case sensitive where case decides the size (`mohm`, `Mohm`), words are not (`Volt`, `microampere`).
    """
    token = text.strip()
    if token in OTHERS:
        si, scale, offset = OTHERS[token]
        return Unit(token, si, scale, offset)
    if token in SYMBOLS:
        return Unit(token, SYMBOLS[token])
    if token in {"uS", "µS", "μS", "nS", "mS"}:
        return Unit(token, "S", PREFIXES[token[0]])
    if token[:1] == "K" and SYMBOLS.get(token[1:]) in {"ohm", "Hz"}:
        return Unit(token, SYMBOLS[token[1:]], 1e3)
    if token[:1] in PREFIXES and token[1:] not in {"S", "K"}:
        si = SYMBOLS.get(token[1:]) or WORDS.get(token[1:].lower(), "")
        if si and not (si in NEVER_LARGE and PREFIXES[token[0]] > 1e3):
            return Unit(token, si, PREFIXES[token[0]])
    word = token.lower()
    for prefix, scale in {"": 1.0, **WORD_PREFIXES}.items():
        rest = word.removeprefix(prefix).strip() if word.startswith(prefix) else ""
        if rest in WORDS:
            return Unit(token, WORDS[rest], scale)
        if prefix and token[len(prefix) :].strip() in SYMBOLS and word.startswith(prefix):
            return Unit(token, SYMBOLS[token[len(prefix) :].strip()], scale)
    return None


def require_unit(text: str, where: str) -> Unit:
    """The unit that `text` names.

    Raises:
        FileFormatError: If it is not a unit this toolkit knows; numbers are never read in a guessed unit.
    """
    unit = parse_unit(text)
    if unit is None:
        raise FileFormatError(
            f"{where} has a unit that is not understood",
            got=repr(text),
            allowed="V, A, s, ohm, S, Hz, K, degC; prefixes f p n u m k, for ohm and Hz M G too; names (microampere)",
            hint="state the unit yourself: units={'i': 'uA'}, or `unit = \"uA\"` in a profile",
        )
    return unit


def bracketed(name: str) -> list[tuple[int, int, str]]:
    """Start, end and text of everything in brackets that says something other than a number."""
    found = [(b.start(), b.end(), next(g for g in b.groups() if g is not None)) for b in BRACKETS.finditer(name)]
    plain = [(start, end, re.sub(r"^\s*in\s+", "", text).strip()) for start, end, text in found]
    return [(start, end, text) for start, end, text in plain if text and not text.isdigit()]


def split_unit(header: str) -> tuple[str, str | None]:
    """Part a column header into its name and the unit written with it, if any.

    Understands `Voltage (V)`, `Current [uA] Ch1`, `U / V`, `Voltage (in Volt)`, `Voltage in V`, `Voltage, V`. The
    forms `I_A` and `t s` depend on what the name means and are left to `roles.describe`.
    """
    name = header.strip().strip("\"'").strip()
    if len(name) > LONGEST_NAME:
        return name, None
    found = bracketed(name)
    for start, end, text in reversed(found):
        if parse_unit(text):
            return f"{name[:start]} {name[end:].strip(' *')}".strip(), text
    if found and found[-1][1] == len(name) and name[-1] in ")]":
        start, _, text = found[-1]
        if NOT_A_UNIT_WE_TAKE.search(text) or len(text) <= 3:
            return name[:start].strip(), text
        return name, None
    for pattern in (r"(.+?)\s*/\s*([^\s/]+)", r"(.+?)\s+in\s+(\S+)", r"(.+?),\s*(\S+)"):
        parted = re.fullmatch(pattern, name)
        if parted and parse_unit(parted[2]):
            return parted[1].strip(), parted[2]
    return name, None
