"""Every exception the library raises on purpose.

Each error has a stable ``code`` (kebab-case), a ``hint`` that says what to do next, and ``see``: catalog
references (``glossary:...``, ``troubleshooting:...``) that explain it. All of them survive pickling, so they
can cross process boundaries in a sweep.
"""

from __future__ import annotations

__all__ = [
    "AmbiguousNameError",
    "CatalogError",
    "CatalogInvalidError",
    "CheckpointError",
    "CorruptCheckpointError",
    "InvalidWorkloadError",
    "MissingDataError",
    "MissingExtraError",
    "UnitError",
    "UnknownIdError",
    "UnsupportedArchitectureError",
    "UnsupportedFormatError",
    "WillItRunError",
]


class WillItRunError(Exception):
    """Base of all errors of this library.

    Parameters
    ----------
    message
        What is wrong, naming the thing and the place.
    code
        Stable kebab-case code of the failure.
    hint
        The remedy, in one sentence.
    see
        Catalog references that help.
    """

    default_code = "error"

    def __init__(
        self, message: str, *, code: str | None = None, hint: str = "", see: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.see = see

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


def _rebuild(cls: type[WillItRunError], args: tuple[object, ...], state: dict[str, object]) -> WillItRunError:
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class CatalogError(WillItRunError):
    """Something about the catalogs."""

    default_code = "catalog-error"


class CatalogInvalidError(CatalogError):
    """A catalog file does not say what its schema allows.

    ``file`` is relative to the catalog root, ``pointer`` names record and field, ``problem`` what is wrong.
    """

    default_code = "catalog-invalid"

    def __init__(self, file: str, pointer: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{file}: {pointer}: {problem}", hint=hint)
        self.file = file
        self.pointer = pointer
        self.problem = problem


# What helps where no spelling is near.
_WHERE_TO_LOOK = {
    "model": "Pass the path or the keys of its config.json, its GGUF file or https address, or look with `willitrun catalog find`.",
    "accelerator or host": "Pass an id from `willitrun catalog find`, or describe it: {'name': ..., 'memory': '12 GiB', 'memory_bandwidth': '360 GB/s', 'peaks': {'fp16_tensor': '50 TFLOP/s'}}.",
}


class UnknownIdError(CatalogError, LookupError):
    """No record has this id, alias or name. ``suggestions`` holds near spellings, best first."""

    default_code = "unknown-id"

    def __init__(
        self, kind: str, name: str, suggestions: tuple[str, ...] = (), *, hint: str | None = None
    ) -> None:
        if hint is None:
            hint = f"Did you mean {_listed(suggestions)}?" if suggestions else _WHERE_TO_LOOK.get(kind, "")
        noun = f"{kind} entry" if kind in ("glossary", "troubleshooting") else kind
        super().__init__(f"no {noun} is known as {name!r}.", hint=hint)
        self.kind = kind
        self.name = name
        self.suggestions = suggestions


class AmbiguousNameError(CatalogError, LookupError):
    """A name fits several records. ``candidates`` holds their ids."""

    default_code = "ambiguous-name"

    def __init__(self, kind: str, name: str, candidates: tuple[str, ...], *, hint: str | None = None) -> None:
        super().__init__(
            f"{name!r} fits {len(candidates)} {kind} records: {_listed(candidates)}.",
            hint="Pass one of these ids." if hint is None else hint,
        )
        self.kind = kind
        self.name = name
        self.candidates = candidates


class CheckpointError(WillItRunError, ValueError):
    """A checkpoint on disk (or its description) can't be used."""

    default_code = "checkpoint-error"


class UnsupportedFormatError(CheckpointError):
    """The file is of a format, or a version of it, that this library does not read."""

    default_code = "unsupported-format"


class CorruptCheckpointError(CheckpointError):
    """The file contradicts itself: truncated, absurd counts, overlapping tensors."""

    default_code = "corrupt-checkpoint"


class UnsupportedArchitectureError(CheckpointError):
    """The architecture is unknown; nothing is guessed from its neighbours."""

    default_code = "unsupported-architecture"


class MissingDataError(WillItRunError, LookupError):
    """A computation needs a field that no cited source fills."""

    default_code = "missing-data"


class InvalidWorkloadError(WillItRunError, ValueError):
    """A workload, runtime or placement contradicts itself or the model's task."""

    default_code = "invalid-workload"


class UnitError(WillItRunError, ValueError):
    """A quantity without a unit, or with one of the wrong dimension."""

    default_code = "unit"


class MissingExtraError(WillItRunError, ImportError):
    """An optional package is needed. The hint names the extra that installs it."""

    default_code = "missing-extra"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed.",
            hint=f"Install it with: pip install 'willitrun-engine[{extra}]'",
        )
        self.package = package
        self.extra = extra


def _listed(names: tuple[str, ...], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} (and {len(names) - most} more)" if len(names) > most else shown


# Errors show the public path in tracebacks and survive a move between modules.
for _name in __all__:
    globals()[_name].__module__ = "willitrun"
