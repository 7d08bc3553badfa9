"""Write the pages that come from records and from the engine under ``docs/catalog``: they can't drift from the data.

``python docs/generate.py`` writes all of them, ``python docs/generate.py glossary models`` those families.
"""

from __future__ import annotations

import sys
from pathlib import Path

from generators.registry import write_families

OUT = Path(__file__).resolve().parent / "catalog"

if __name__ == "__main__":
    write_families(OUT, sys.argv[1:])
