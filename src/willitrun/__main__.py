"""``python -m willitrun`` and the ``willitrun`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; say which extra is missing instead of a traceback."""
    from willitrun.errors import MissingExtraError

    try:
        from willitrun.cli.app import app
    except ImportError as error:
        package = str(error.name).partition(".")[0]
        if package not in ("typer", "rich"):
            raise
        sys.stderr.write(f"{MissingExtraError(package, 'cli')}\n")
        raise SystemExit(2) from None
    app()


if __name__ == "__main__":
    main()
