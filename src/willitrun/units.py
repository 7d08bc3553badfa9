"""Units: the one place that parses and formats quantities.

Inside the library bytes are `int`; rates are `float` in base units (B/s, FLOP/s, s, W, Hz). Catalogs write
``{value = 24, unit = "GiB"}`` or the string ``"24 GiB"``. GiB and GB are both legal and different.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

from willitrun.errors import UnitError

__all__ = [
    "format_bytes",
    "format_count",
    "format_duration",
    "format_rate",
    "parse_bytes",
    "parse_quantity",
    "parse_rate",
]

_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}


def _scaled(symbol: str, *, binary: bool = False) -> dict[str, int]:
    prefixes = {**_DECIMAL, **(_BINARY if binary else {})}
    units = {f"{prefix}{symbol}": factor for prefix, factor in prefixes.items()}
    if symbol == "B":
        units["KB"] = 1000
    return units


_UNITS: dict[str, dict[str, float | int | Fraction]] = {
    "bytes": {**_scaled("B", binary=True)},
    "bytes_per_s": {f"{unit}/s": factor for unit, factor in _scaled("B", binary=True).items()},
    "flop_per_s": {**_scaled("FLOP/s"), **_scaled("FLOPS"), **_scaled("OP/s"), **_scaled("OPS")},
    "hertz": {**_scaled("Hz")},
    "transfers_per_s": {**_scaled("T/s")},
    "watt": {**_scaled("W"), "mW": Fraction(1, 1000)},
    "seconds": {"s": 1, "ms": Fraction(1, 1000), "us": Fraction(1, 10**6), "min": 60, "h": 3600},
    "usd": {"USD": 1},
    "count": {**_scaled(""), "K": 1000, "B": 10**9},
    "flop": {**_scaled("FLOP")},
}

_PATTERN = re.compile(r"\s*([-+]?\d[\d_,]*(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*([A-Za-z/]*)\s*\Z")


def parse_quantity(value: object, dimension: str) -> Fraction:
    """Parse ``{value, unit}`` or ``"24 GiB"`` into base units, exactly.

    Parameters
    ----------
    value
        A mapping with ``value`` and ``unit``, or a string of a number and a unit.
    dimension
        One of ``bytes``, ``bytes_per_s``, ``flop_per_s``, ``hertz``, ``transfers_per_s``, ``watt``,
        ``seconds``, ``usd``, ``flop``.

    Raises
    ------
    UnitError
        No unit, a unit of another dimension, a negative or non-finite number.

    Examples
    --------
    >>> int(parse_quantity("24 GiB", "bytes")), int(parse_quantity("24 GB", "bytes"))
    (25769803776, 24000000000)
    """
    known = _UNITS[dimension]
    if isinstance(value, Mapping):
        if set(value) != {"value", "unit"}:
            raise UnitError(
                f"a quantity is {{value, unit}}, got the keys {sorted(map(str, value))}.",
                hint=f'Write {{value = 24, unit = "{next(iter(known))}"}}.',
            )
        number, unit = value["value"], value["unit"]
    elif isinstance(value, str):
        return _parse_text(value, dimension)
    else:
        raise UnitError(
            f"{value!r} carries no unit.",
            hint=f"Write for example '{value} {_last(known)}'. Units: {_some(known)}.",
        )
    return _exact(number, unit, dimension)


@lru_cache(1024)
def _parse_text(value: str, dimension: str) -> Fraction:
    match = _PATTERN.match(value)
    if match is None:
        raise UnitError(f"{value!r} is not a number with a unit.", hint=f"Units: {_some(_UNITS[dimension])}.")
    return _exact(match[1].replace(",", "").replace("_", ""), match[2], dimension)


def _whole(value: object, dimension: str) -> int | None:
    """The whole number of base units of a plain quantity; None leaves it to `parse_quantity`, which is thrice as slow."""
    if type(value) is not dict or len(value) != 2:
        return None
    number, unit = value.get("value"), value.get("unit")
    factor = _UNITS[dimension].get(unit) if type(unit) is str else None
    return number * factor if type(number) is type(factor) is int and number >= 0 else None


def _exact(number: object, unit: object, dimension: str) -> Fraction:
    known = _UNITS[dimension]
    if not isinstance(unit, str) or unit not in known:
        raise UnitError(f"{unit!r} is no unit of {dimension}.", hint=f"Units: {_some(known)}.")
    if isinstance(number, bool) or not isinstance(number, int | float | str):
        raise UnitError(f"{number!r} is not a number.")
    if isinstance(number, float) and not math.isfinite(number):
        raise UnitError(f"{number!r} is not a finite number.")
    factor = known[unit]
    if type(number) is int and type(factor) is int and number >= 0:
        return Fraction(number * factor)
    return _product(str(number), unit, dimension)


@lru_cache(1024)
def _product(number: str, unit: str, dimension: str) -> Fraction:
    # Through str, so that 1.1 means 11/10 as written and not its binary neighbour.
    exact = Fraction(number) * Fraction(_UNITS[dimension][unit])
    if exact < 0:
        raise UnitError(f"{number} {unit} is negative.")
    return exact


def parse_bytes(value: object) -> int:
    """Bytes from a quantity; a plain `int` is taken as bytes already.

    >>> parse_bytes("16 GiB"), parse_bytes(123)
    (17179869184, 123)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise UnitError(f"{value} bytes is negative.")
        return value
    whole = _whole(value, "bytes")
    return round(parse_quantity(value, "bytes")) if whole is None else whole


def parse_rate(value: object, dimension: str) -> float:
    """A float in base units; a plain number is taken as being in base units already."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            raise UnitError(f"{value!r} is not a finite number >= 0.")
        return float(value)
    whole = _whole(value, dimension)
    return float(parse_quantity(value, dimension) if whole is None else whole)


def format_bytes(value: float, *, digits: int = 3) -> str:
    """Capacity in binary units, three significant digits unless more are asked for.

    >>> format_bytes(20.58 * 2**30), format_bytes(512), format_bytes(128 * 2**20)
    ('20.6 GiB', '512 B', '128 MiB')
    >>> format_bytes(20.58 * 2**30, digits=4)
    '20.58 GiB'
    """
    sign = "-" if value < 0 else ""
    size = abs(float(value))
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{sign}{_digits(size, digits)} {unit}"
        size /= 1024
    return f"{sign}{_digits(size, digits)} TiB"


def format_rate(value: float, unit: str) -> str:
    """A rate in decimal units: ``format_rate(1.008e12, "B/s")`` is ``'1.01 TB/s'``."""
    size = abs(float(value))
    for prefix in ("", "k", "M", "G", "T"):
        if size < 1000:
            return f"{'-' if value < 0 else ''}{_digits(size)} {prefix}{unit}"
        size /= 1000
    return f"{'-' if value < 0 else ''}{_digits(size)} P{unit}"


def format_count(value: float) -> str:
    """A count as engineers write parameters.

    >>> format_count(8_030_261_248), format_count(25_557_032)
    ('8.03 B', '25.6 M')
    """
    size = float(value)
    for unit in ("", "K", "M", "B"):
        if abs(size) < 1000:
            return f"{_digits(size)} {unit}".rstrip()
        size /= 1000
    return f"{_digits(size)} T"


def format_duration(seconds: float) -> str:
    """A time span in the unit a person would choose.

    >>> format_duration(0.0034), format_duration(7_500)
    ('3.4 ms', '2.08 h')
    """
    for limit, factor, unit in (
        (1e-3, 1e6, "us"),
        (1.0, 1e3, "ms"),
        (120.0, 1.0, "s"),
        (7200.0, 1 / 60, "min"),
    ):
        if seconds < limit:
            return f"{_digits(seconds * factor)} {unit}"
    if seconds < 172_800:
        return f"{_digits(seconds / 3600)} h"
    return f"{_digits(seconds / 86_400)} days"


def _digits(size: float, digits: int = 3) -> str:
    if size >= 10 ** (digits - 1) or size == int(size):
        return f"{size:,.0f}"
    return f"{size:.{digits}g}"


def _some(known: Mapping[str, object]) -> str:
    return ", ".join(sorted(known, key=len)[:12])


def _last(known: Mapping[str, object]) -> str:
    return "GiB" if "GiB" in known else list(known)[-1]
