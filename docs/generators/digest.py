"""What changed in the catalogs since an earlier state: models, hardware, limits, verdicts."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

from generators.markup import Page, Section, page, prose, table
from willitrun import Catalog, WillItRunError
from willitrun.catalog.catalogs import open_catalog
from willitrun.changes import digest_changes

SECTION = Section(
    "Changes of the catalog", "changes", "A digest of what changed: models, hardware, limits, verdicts"
)
ROOT = Path(__file__).resolve().parents[2]
DAYS = 7
MOST = 40


def pages(catalog: Catalog) -> Iterator[Page]:
    """One page."""
    lines = [
        "# Changes of the catalog",
        "",
        "Two states of the catalogs, compared record by record, with common workloads judged under both. "
        "`willitrun changes OLD NEW` does the same for any two folders, checkouts or wheels.",
        "",
    ]
    yield page("changes.md", lines + list(_digest(catalog)))


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True).stdout


def _digest(catalog: Catalog) -> Iterator[str]:
    """The state of a week ago, or the first that this version can read."""
    since = datetime.now(UTC) - timedelta(days=DAYS)
    try:
        before = _git(
            "log", "-1", f"--before={since.isoformat()}", "--format=%H", "--", "catalogs/_index"
        ).split()
        every = _git("log", "--format=%H", "--reverse", "--", "catalogs/_index").split()
        commits = [*before, *every]
    except (OSError, subprocess.CalledProcessError):
        commits = []
    for commit in commits[:: max(1, len(commits) // 12)]:
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fileobj=BytesIO(_git("archive", commit.decode(), "catalogs"))) as archive:
                archive.extractall(folder, filter="data")
            try:
                digest = digest_changes(open_catalog(str(Path(folder) / "catalogs")), catalog)
            except (WillItRunError, ValueError, KeyError, OSError):
                # A state whose records this version no longer reads has nothing to compare with.
                continue
            day = _git("show", "-s", "--format=%as", commit.decode()).decode().strip()
            yield f"Since {day} (commit `{commit.decode()[:10]}`): {prose(digest.summary())}."
            yield ""
            counts = Counter((change.kind, change.what) for change in digest.difference.changes)
            for (kind, what), count in sorted(counts.items()):
                yield f"- {kind}: {count} {what}"
            yield ""
            if digest.verdicts:
                yield "## Verdicts that came out otherwise"
                yield ""
                rows = [[case.workload, case.machine, case.old, case.new] for case in digest.verdicts[:MOST]]
                yield from table(["workload", "machine", "before", "now"], rows)
            return
    yield "There is no earlier state here to compare with."
