"""Quantities as the API writes them: `1Gi`, `250m`, `1500k`."""

from __future__ import annotations

import re
from fractions import Fraction

_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?")
BAD = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def parse_quantity(text: str | float) -> Fraction:
    """Read a quantity exactly; raise ValueError with the server's words."""
    found = _FORM.fullmatch(str(text).strip())
    if not found:
        raise ValueError(BAD)
    number, suffix = Fraction(found[1]), found[2] or ""
    if suffix in _BINARY:
        return Fraction(number * Fraction(1024) ** _BINARY.index(suffix))
    exponent: int = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    return Fraction(number * Fraction(10) ** exponent)


def canonical(text: str | float) -> str:
    """Write a quantity as the server does: the largest suffix without a fraction, in the family that it had."""
    value = parse_quantity(text)
    suffix = (_FORM.fullmatch(str(text).strip()) or ["", "", ""])[2] or ""
    if suffix.endswith("i") and value.denominator == 1 and abs(value) >= 1024:
        return _binary(int(value))
    return _decimal(value, exponents=suffix[:1] in ("e", "E") and len(suffix) > 1)


def _binary(value: int) -> str:
    power = 0
    while value and value % 1024 == 0 and power < len(_BINARY) - 1:
        value, power = value // 1024, power + 1
    return f"{value}{_BINARY[power]}"


def _decimal(value: Fraction, *, exponents: bool) -> str:
    if value == 0:
        return "0"
    for suffix, power in reversed(_DECIMAL.items()):
        scaled = value / Fraction(10) ** power
        if scaled.denominator == 1:
            if exponents and power:
                return f"{int(scaled)}e{power}"
            return f"{int(scaled)}{suffix}"
    nano = value * 10**9
    return f"{-(-nano.numerator // nano.denominator)}n"
