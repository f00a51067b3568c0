#!/usr/bin/env python3
"""Fails if a file includes a floor above its own, or a library that its floor may not know.

usage: tools/check_layers.py [ROOT]

The rules are the table of floors in docs/architecture.md. The compiler cannot hold them: Debian puts every library's
headers into /usr/include, so a target that does not link gRPC can still include it.
"""
import pathlib
import re
import sys

# Low to high; an include points down or sideways. base knows nothing of ours but itself.
FLOORS = ["base", "kernels", "runtime", "scheduler", "server"]
# loadtest is a client of the wire: of ours it knows the generated proto alone.
FOLDERS = [*FLOORS, "loadtest"]

THREADS = ["thread", "stop_token", "future", "semaphore", "latch", "barrier", "pthread.h", "sched.h"]
LOCKS = ["mutex", "shared_mutex", "condition_variable", "base/mutex.h", "absl/synchronization/"]
CLOCKS = ["chrono", "sys/time.h", "base/clock.h", "absl/time/"]
SIMD = ["immintrin.h", "x86intrin.h", "xmmintrin.h", "emmintrin.h", "cpuid.h", "arm_neon.h"]
CUDA = ["cuda.h", "cuda_", "cuda/", "cublas", "cudnn", "nvrtc", "nvtx3/", "cub/", "cooperative_groups", "cutlass/", "cute/"]

# (what an include is, or begins with where it ends in a slash or is one of PREFIXES; the only folders that may have it).
# What has a slash and is named nowhere here is refused, so a new library gets its row.
ONLY = [
    (["grpc", "grpcpp/", "google/", "quantd/"], ["server", "loadtest"]),
    (["prometheus/", "httplib.h", "yaml-cpp/", "CLI/", "zlib.h"], ["server", "loadtest"]),
    (["nlohmann/", "runtime/json.h"], ["runtime", "server", "loadtest"]),
    (["pcre2.h", "utf8proc.h"], ["runtime"]),
    (CUDA, ["kernels/cuda"]),
    (SIMD, ["kernels/cpu"]),
    (THREADS, ["kernels/cpu", "scheduler", "server", "loadtest"]),
    (LOCKS, ["base", "kernels/cpu", "scheduler", "server", "loadtest"]),
    (CLOCKS, ["base", "scheduler", "server", "loadtest"]),
    (["kernels/cpu/"], ["kernels"]),
    (["kernels/cuda/"], ["kernels/cuda"]),
    # Model classes: what they are is known to the runtime and to its table of architectures.
    (["runtime/llama"], ["runtime"]),
]
# (a folder of the server, what else of ours it may include): the edge stands before gRPC and is built without it.
CLOSED = [("server/edge", ["server/edge/", "base/", "absl/"])]
PREFIXES = ["grpc", "cuda_", "cublas", "cudnn", "nvrtc", "cooperative_groups", "runtime/llama"]
# A header of the runtime must not bring these to whoever includes it. runtime/json.h wraps nlohmann and is as good as it.
SOURCE_ONLY = (["nlohmann/", "pcre2.h", "utf8proc.h", "runtime/json.h"], "runtime")
EXCUSED = [("runtime/json.h", "nlohmann/json.hpp")]
FORWARD = "nlohmann/json_fwd.hpp"
KNOWN_SYSTEM = ["sys/", "linux/", "arpa/", "net/", "netinet/", "asm/", "bits/"]
KNOWN = [*(f + "/" for f in FOLDERS), "absl/", *KNOWN_SYSTEM]
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+["<]([^">]+)[">]', re.M)


def begins(include: str, patterns: list[str]) -> bool:
    return any(include == p or ((p.endswith("/") or p in PREFIXES) and include.startswith(p)) for p in patterns)


def inside(path: str, folders: list[str]) -> bool:
    return any(path.startswith(f + "/") for f in folders)


def problem(path: str, include: str) -> str | None:
    """Why `path` may not have `include`, or None."""
    top, to = path.split("/")[0], include.split("/")[0]
    if include.startswith("."):
        return "paths start at the root of the repository"
    if top == "loadtest" and to in FLOORS:
        return "loadtest is a client of the wire alone"
    if to == "loadtest" and top != "loadtest":
        return "loadtest is a program, not a library"
    if top in FLOORS and to in FLOORS and "/" in include and FLOORS.index(to) > FLOORS.index(top):
        return "a floor above"
    for folder, allowed in CLOSED:
        if inside(path, [folder]) and "/" in include and not begins(include, [*allowed, *KNOWN_SYSTEM]):
            return f"{folder} knows {', '.join(allowed)} alone"
    for patterns, folders in ONLY:
        if begins(include, patterns) and not inside(path, folders):
            return f"only {', '.join(folders)} may"
    patterns, folder = SOURCE_ONLY
    if top == folder and begins(include, patterns) and include != FORWARD and not path.endswith(".cc") \
            and (path, include) not in EXCUSED:
        return f"only the .cc files of {folder} may"
    if "/" in include and not begins(include, KNOWN) and not any(begins(include, p) for p, _ in ONLY):
        return "not a library of ours: add it to tools/check_layers.py with the folders that may have it"
    return None


def check(root: pathlib.Path) -> list[str]:
    found = []
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in {".h", ".cc", ".cu", ".cuh", ".inc"}:
                continue
            path = file.relative_to(root).as_posix()
            for include in INCLUDE.findall(file.read_text(errors="replace")):
                if why := problem(path, include):
                    found.append(f"{path}: includes {include}: {why}")
    return found


def main() -> int:
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    problems = check(root)
    print("\n".join(problems) or "layers hold")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
