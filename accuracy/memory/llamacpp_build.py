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

__all__ = ["LLAMA_CPP", "VERSION", "build_probe", "build_tracer"]

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
            pip = (
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--no-binary",
                "llama-cpp-python",
            )
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


# What the allocator is made to print: after a line of its source, a line of ours.
_TRACED = (
    (
        "#define MAX_FREE_BLOCKS 256\n",
        "static FILE * trace(void) {\n"
        "    static FILE * file = NULL;\n"
        '    return file ? file : (file = fopen(getenv("GGML_ALLOC_TRACE"), "w"));\n'
        "}\n",
    ),
    (
        "    chunk->max_size = MAX(chunk->max_size, addr.offset + size);\n",
        '    fprintf(trace(), "ALLOC %p %zu %zu %s\\n", (void *) alloc, addr.offset, size, tensor->name);\n',
    ),
    (
        "struct buffer_address addr, size_t size) {\n    size = aligned_offset(NULL, size, alloc->alignment);\n",
        '    fprintf(trace(), "FREE %p %zu %zu\\n", (void *) alloc, addr.offset, size);\n',
    ),
    (
        "    // reset allocators\n",
        '    fprintf(trace(), "RESERVE\\n");\n'
        "    for (int i = 0; i < galloc->n_buffers; i++) {\n"
        '        fprintf(trace(), "BUFFER %p %s\\n", (void *) galloc->buf_tallocs[i],\n'
        "                ggml_backend_buft_name(galloc->bufts[i]));\n"
        "    }\n",
    ),
)


def build_tracer(version: str = VERSION) -> Path:
    """ggml's base library with an allocator that writes to the file ``GGML_ALLOC_TRACE``; to be loaded first.

    Raises
    ------
    RuntimeError
        The allocator's source is not what it was, or does not compile.
    """
    folder = user_cache_path("willitrun") / "llama.cpp" / version
    library = folder / "libggml-base-traced.so"
    build_probe(version)
    ggml = _sources(version, folder) / "ggml"
    text = (ggml / "src" / "ggml-alloc.c").read_text()
    for line, ours in _TRACED:
        if text.count(line) != 1:
            raise RuntimeError(f"ggml-alloc.c has {text.count(line)} times {line!r}.")
        text = text.replace(line, line + ours)
    source = folder / "ggml-alloc-traced.c"
    source.write_text(text)
    defines = ("-DGGML_BUILD", "-DGGML_SHARED", "-DGGML_SCHED_MAX_COPIES=4", "-D_GNU_SOURCE", "-DNDEBUG")
    include = [f"-I{ggml / part}" for part in ("src", "include")]
    object_file = source.with_suffix(".o")
    _run("cc", "-fPIC", "-std=gnu11", *defines, *include, "-c", source, "-o", object_file)
    rest = (folder / "build" / "ggml" / "src" / "CMakeFiles" / "ggml-base.dir").glob("*.o")
    others = [path for path in rest if "ggml-alloc" not in path.name]
    _run(
        "c++",
        "-shared",
        "-Wl,-soname,libggml-base.so.0",
        "-o",
        library,
        *others,
        object_file,
        "-lpthread",
        "-lm",
    )
    return library


if __name__ == "__main__":
    print(build_probe(sys.argv[1] if len(sys.argv) > 1 else VERSION))
