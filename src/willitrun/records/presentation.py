"""How results show themselves: one line in a console, one escaped table in a notebook."""

from collections.abc import Iterable

from willitrun.intervals import Interval
from willitrun.records.deferred import Deferred
from willitrun.units import format_bytes, format_duration, format_rate

__all__ = ["Presented", "counted", "format_field", "html_table"]

_RATES = {
    "tokens_per_s": "tokens/s",
    "images_per_s": "images/s",
    "samples_per_s": "samples/s",
    "iterations_per_s": "it/s",
    "bytes_per_s": "B/s",
    "flop_per_s": "FLOP/s",
    "flops_per_s": "FLOP/s",
    "cycles_per_s": "cycles/s",
    "requests_per_s": "requests/s",
}
_EACH = {"images/s": "image", "samples/s": "sample"}
"""What takes longer than a second is told by its time."""
_PREFIXED = ("B/s", "FLOP/s", "cycles/s")


def counted(number: int, noun: str) -> str:
    """A number of things in words.

    >>> counted(1, "sequence"), counted(2000, "replica")
    ('1 sequence', '2,000 replicas')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_field(name: str, value: float) -> str:
    """A number in the unit that its field's name carries.

    >>> format_field("kv_cache_bytes", 2**30), format_field("decode_tokens_per_s", 131.42)
    ('1 GiB', '131 tokens/s')
    >>> format_field("unit_cycles_per_s", 5.7e10), format_field("prefill_time_s", 0.25)
    ('57 Gcycles/s', '250 ms')
    >>> format_field("images_per_s", 0.0221)
    '45.2 s per image'
    """
    for suffix, unit in _RATES.items():
        if name.endswith(suffix):
            if unit in _PREFIXED:
                return format_rate(value, unit)
            if unit in _EACH and 0.0 < value < 1.0:
                return f"{format_duration(1.0 / value)} per {_EACH[unit]}"
            return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    if name.endswith("bytes"):
        return format_bytes(value)
    if (name.endswith("_s") and not name.endswith("_per_s")) or name == "seconds_per_image":
        return format_duration(value)
    if name.endswith("_w"):
        return f"{value:.0f} W"
    if name.endswith("_j_per_unit"):
        return f"{value:.3g} J"
    if name == "real_time_factor":
        return f"{value:.3g} times real time"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def format_interval(name: str, interval: Interval) -> str:
    """Best estimate with its bounds, or the exact number alone."""
    best = format_field(name, interval.best)
    if interval.is_exact:
        return best
    if " per " in best and interval.low > 0.0:
        # Told by its time: the highest rate is the shortest.
        low, high = format_duration(1.0 / interval.high), format_duration(1.0 / interval.low)
    else:
        low, high = format_field(name, interval.low), format_field(name, interval.high)
    return f"{best} ({low} to {high})"


def html_table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A two-column table with everything escaped and no style sheet."""
    from html import escape

    body = "".join(
        f"<tr><th style='text-align:left'>{escape(key)}</th>"
        f"<td style='text-align:left'>{escape(value)}</td></tr>"
        for key, value in rows
    )
    return f"<table><caption style='text-align:left'>{escape(title)}</caption>{body}</table>"


class Presented(Deferred):
    """A record with a one-line ``repr`` and an HTML table for notebooks."""

    def summary(self) -> str:
        """One sentence; `repr` shows it."""
        return ""

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Label and text of each line of the table."""
        shown = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None or value == ():
                continue
            if isinstance(value, Interval):
                shown.append((name, format_interval(name, value)))
            elif isinstance(value, str | bool | int | float):
                shown.append((name, str(value)))
        return tuple(shown)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary()})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return html_table(self.summary(), self.rows())
