"""llama.cpp for the CPU and the probe that loads models in it, built once per version into the user's cache.

The sources come out of the sdist of ``llama-cpp-python``, which carries llama.cpp whole, so that a package index is all
that is needed; a C++ compiler and CMake must be there. Nothing is ever computed, so the build does without optimiser.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

__all__ = ["LLAMA_CPP", "VERSION", "build_probe"]

VERSION = "0.3.36"
"""Of ``llama-cpp-python``."""
LLAMA_CPP = "0c1e57098"
"""The llama.cpp commit in it: https://github.com/abetlen/llama-cpp-python/blob/v0.3.36/CHANGELOG.md"""

_PROBE = Path(__file__).parent / "probe"
_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O0 -DNDEBUG",
    "-DCMAKE_C_FLAGS_RELEASE=-O0 -DNDEBUG",
    "-DBUILD_SHARED_LIBS=ON",
    *(f"-DGGML_{part}=OFF" for part in ("NATIVE", "OPENMP", "LLAMAFILE", "METAL", "BLAS")),
    *(f"-DLLAMA_{part}=OFF" for part in ("CURL", "BUILD_COMMON", "BUILD_TESTS", "BUILD_EXAMPLES")),
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("TOOLS", "SERVER")),
)
# What a version's interface has: the word in its header, and the macro that the probe reads.
_FEATURES = (
    ("include/llama.h", "use_extra_bufts;", "PROBE_EXTRA_BUFTS"),
    ("include/llama.h", "tensor_buft_overrides;", "PROBE_OVERRIDES"),
    ("include/llama.h", "flash_attn_type;", "PROBE_FLASH_TYPE"),
    ("include/llama.h", "swa_full;", "PROBE_SWA_FULL"),
    ("include/llama.h", "kv_unified;", "PROBE_UNIFIED"),
    ("include/llama.h", "n_outputs_max;", "PROBE_OUTPUTS"),
    ("ggml/include/ggml-backend.h", "device_id;", "PROBE_DEVICE_IDS"),
    ("ggml/include/ggml-backend.h", "mmap_support", "PROBE_MMAP_CAP"),
)


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def _sources(version: str, folder: Path) -> Path:
    """llama.cpp's source tree, out of the sdist."""
    tree = folder / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"
    if not tree.exists():
        with tempfile.TemporaryDirectory() as scratch:
            pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:")
            _run(*pip, "--dest", scratch, f"llama-cpp-python=={version}")
            with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
                archive.extractall(folder, filter="data")
    return tree


def build_probe(version: str = VERSION) -> Path:
    """The probe of one version, built where the cache has none yet (some minutes).

    Raises
    ------
    RuntimeError
        A tool is missing, or a step failed; its last output is in the message.
    """
    for tool in ("cmake", "cc", "c++"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"{tool} is needed to build llama.cpp.")
    folder = user_cache_path("willitrun") / "llama.cpp" / version
    build, probe = folder / "build", folder / "probe"
    library = build / "bin" / "libllama.so"
    folder.mkdir(parents=True, exist_ok=True)
    tree = _sources(version, folder)
    if not library.exists():
        generator = ("-G", "Ninja") if shutil.which("ninja") else ()
        _run("cmake", *generator, "-S", tree, "-B", build, *_FLAGS)
        _run("cmake", "--build", build, "--target", "llama", "--parallel")
    ours = sorted(_PROBE.glob("*.[ch]"))
    if not probe.exists() or probe.stat().st_mtime < max(path.stat().st_mtime for path in (*ours, library)):
        defines = [
            f"-D{macro}"
            for header, word, macro in _FEATURES
            if re.search(re.escape(word), (tree / header).read_text())
        ]
        include = [f"-I{tree / part}" for part in ("include", "ggml/include", "ggml/src")]
        link = [f"-L{library.parent}", f"-Wl,-rpath,{library.parent}", "-lllama", "-lggml", "-lggml-base"]
        _run("cc", "-O1", *defines, *include, *_PROBE.glob("*.c"), *link, "-lggml-cpu", "-lm", "-o", probe)
    return probe


if __name__ == "__main__":
    print(build_probe(sys.argv[1] if len(sys.argv) > 1 else VERSION))
