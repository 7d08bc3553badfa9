"""Build the wheel, install it where there is no source, and compare verdicts; then from a zip.

Run by ``make wheel-test``; not collected by pytest because it needs the package index.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROBE = """
import json, sys, willitrun
from willitrun import Workload, assess
cases = [
    assess("llama-3.1-8b", "rtx-4090", Workload(context_tokens=8192), quantization="q4_k_m"),
    assess("llama-3.3-70b", "rtx-4090", quantization="q4_k_m"),
    assess("resnet-50", "rtx-3060-12gb", Workload(batch_size=1)),
]
print(json.dumps({"where": willitrun.__file__, "verdicts": [json.loads(case.model_dump_json()) for case in cases]}))
"""


def run(python: Path, *arguments: str, where: Path, **options: object) -> str:
    done = subprocess.run(
        [str(python), *arguments],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)[:200]} failed:\n{done.stdout}\n{done.stderr}")
    return str(done.stdout)


def main() -> None:
    here = Path(sys.executable)
    expected = json.loads(run(here, "-c", PROBE, where=ROOT))["verdicts"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(here, "-m", "build", "--wheel", "--outdir", str(folder / "dist"), str(ROOT), where=folder)
        wheel = next((folder / "dist").glob("*.whl"))
        names = zipfile.ZipFile(wheel).namelist()
        assert "willitrun/_catalogs/CATALOG.toml" in names, "the catalogs are not in the wheel"
        assert "willitrun/py.typed" in names
        run(here, "-m", "venv", str(folder / "env"), where=folder)
        python = folder / "env" / "bin" / "python"
        constraint = str(ROOT / "requirements" / "dev.txt")
        run(python, "-m", "pip", "install", "--quiet", "--constraint", constraint, str(wheel), where=folder)
        installed = json.loads(run(python, "-c", PROBE, where=folder))
        assert str(folder) in installed["where"], installed["where"]
        assert installed["verdicts"] == expected, "the installed wheel judges differently"

        site = next((folder / "env" / "lib").glob("python*/site-packages"))
        archive = folder / "bundle.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
            for file in sorted((site / "willitrun").rglob("*")):
                if "__pycache__" not in file.parts:
                    bundle.write(file, file.relative_to(site))
        shutil.rmtree(site / "willitrun")
        zipped = json.loads(
            run(python, "-c", f"import sys; sys.path.insert(0, {str(archive)!r})\n{PROBE}", where=folder)
        )
        assert "bundle.zip" in zipped["where"], zipped["where"]
        assert zipped["verdicts"] == expected, "the zip judges differently"
    print(f"{wheel.name}: installed and from a zip, {len(expected)} verdicts are the same")


if __name__ == "__main__":
    main()
