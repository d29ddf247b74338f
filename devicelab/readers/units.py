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
OTHERS: dict[str, tuple[str, float, float]] = {
    "min": ("s", 60.0, 0.0), "h": ("s", 3600.0, 0.0), "°C": ("K", 1.0, 273.15), "degC": ("K", 1.0, 273.15),
    "C": ("K", 1.0, 273.15), "celsius": ("K", 1.0, 273.15), "usec": ("s", 1e-6, 0.0), "msec": ("s", 1e-3, 0.0),
    "nsec": ("s", 1e-9, 0.0), "1": ("1", 1.0, 0.0), "um2": ("m2", 1e-12, 0.0), "um^2": ("m2", 1e-12, 0.0),
    "µm2": ("m2", 1e-12, 0.0), "µm²": ("m2", 1e-12, 0.0), "m2": ("m2", 1.0, 0.0), "cm2": ("m2", 1e-4, 0.0),
    "nm2": ("m2", 1e-18, 0.0),
}  # fmt: skip
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

    Symbols are case sensitive where case decides the size (`mA`, `MA`), words are not (`Volt`, `microampere`).
    """
    token = text.strip()
    if token in OTHERS:
        si, scale, offset = OTHERS[token]
        return Unit(token, si, scale, offset)
    if token in SYMBOLS:
        return Unit(token, SYMBOLS[token])
    if token[:1] in PREFIXES and token[1:] in SYMBOLS and token[1:] not in {"S", "K"}:
        return Unit(token, SYMBOLS[token[1:]], PREFIXES[token[0]])
    if token in {"uS", "µS", "μS", "nS", "mS"}:
        return Unit(token, "S", PREFIXES[token[0]])
    word = token.lower()
    for prefix, scale in {"": 1.0, **WORD_PREFIXES}.items():
        if word.startswith(prefix) and word[len(prefix) :] in WORDS:
            return Unit(token, WORDS[word[len(prefix) :]], scale)
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
            allowed="V, A, s, ohm, S, Hz, K, degC with the prefixes f p n u m k M G, or their names (microampere)",
            hint="state the unit yourself: units={'i': 'uA'}, or `unit = \"uA\"` in a profile",
        )
    return unit


def split_unit(header: str) -> tuple[str, str | None]:
    """Part a column header into its name and the unit written with it, if any.

    Understands `Voltage (V)`, `Current [uA]`, `U / V`, `Voltage (in Volt)`, `Voltage in V`, `Voltage, V`. The forms
    `I_A` and `t s` depend on what the name means and are left to `roles.describe`.
    """
    name = header.strip().strip("\"'").strip()
    if len(name) > LONGEST_NAME:
        return name, None
    bracket = re.fullmatch(r"(.*?)[\s_]*[\[(]\s*(?:in\s+)?([^\[\]()]*?)\s*[\])]", name)
    if bracket and bracket[2] and not bracket[2].isdigit():
        if parse_unit(bracket[2]) or NOT_A_UNIT_WE_TAKE.search(bracket[2]) or len(bracket[2]) <= 3:
            return bracket[1].strip(), bracket[2]
        return name, None
    for pattern in (r"(.+?)\s*/\s*([^\s/]+)", r"(.+?)\s+in\s+(\S+)", r"(.+?),\s*(\S+)"):
        found = re.fullmatch(pattern, name)
        if found and parse_unit(found[2]):
            return found[1].strip(), found[2]
    return name, None
