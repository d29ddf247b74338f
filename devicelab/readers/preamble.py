"""What the lines above the data say: compliance, temperature, area, device; and units that stand there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .roles import NOT_A_SIGNAL, SI, WORDS, name_role
from .units import parse_unit, split_unit

NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
QUANTITIES = {
    "compliance": (r"(?:current )?compliance(?: current)?|current limit|i_?cc", "A"),
    "temperature": (r"temp(?:erature)?", "K"),
    "area": (r"(?:(?:device|cell|electrode) )?area", "m2"),
}
DEVICE = re.compile(r"(?i)^\W*(?:device|dut|cell|sample)(?:[ _]?(?:id|name|no\.?))?\s*[:=]\s*(\S.{0,80}?)\s*$")


def said_in(lines: Iterable[str]) -> dict[str, Any]:
    """Compliance [A], temperature [K] and area [m2] where a line gives a number with its unit; the device."""
    found: dict[str, Any] = {}
    for line in lines:
        for key, (words, si) in QUANTITIES.items():
            match = re.match(rf"(?i)\W*(?:{words})\s*(?:[\[(]([^\])]*)[\])])?\s*[:=,;\t]\s*{NUMBER}\s*(\S*)\s*$", line)
            unit = parse_unit(match[1] or match[3]) if match else None
            if match and unit and unit.si == si:
                found.setdefault(key, float(match[2]) * unit.scale + unit.offset)
        if device := DEVICE.match(line):
            found.setdefault("device", device[1])
    return found


def unit_above(lines: Iterable[str], role: str) -> tuple[str, str] | None:
    """The first line that states a unit other than SI, or a factor, for `role`, and that unit."""
    for line in lines:
        said = re.sub(r"^\W+", "", line)
        name, text = split_unit(said)
        texts = [text] if text and name_role(name)[::2] == (role, 0) and not NOT_A_SIGNAL.search(name) else []
        if re.search(r"(?i)\bunits?\b", said):
            texts += re.split(r"[^\wµμΩ°]+", said)
        for word in texts:
            unit = parse_unit(word)
            if unit and unit.si == SI[role] and unit.scale != 1.0:
                return line, word
        if re.search(r"(?i)\b(scale|factor|multiplier)\b", said) and re.search(rf"(?i)\b({WORDS[role]})\b", said):
            return line, SI[role]
    return None
