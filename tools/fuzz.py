#!/usr/bin/env python3
"""Runs the libFuzzer targets of a build and says what each did; ends with 1 where one found something.

usage: tools/fuzz.py BUILD [--seconds N | --runs N] [--jobs N] [--max-len BYTES] [--keep] [TARGET...]

BUILD is build/fuzz. A TARGET is fuzz_<name> or <name>; none is all of them. --runs: executions of each target instead of
a time. What a target finds lies in BUILD/fuzz-found/<name>. --keep adds the
inputs that reach new code to tests/fuzz/corpus/<name>, as few and as small as libFuzzer's merge makes them, up to
200 KB a target.
"""
import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FUZZ = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fuzz"
MAX_CORPUS_BYTES, MAX_INPUT_BYTES = 200_000, 16_384
FINDINGS = ("crash-", "leak-", "oom-", "slow-unit-", "timeout-")  # how libFuzzer names what it found
# Leaks are looked for at the end: after each input that takes a quarter of the time.
LIMITS = ["-timeout=30", "-rss_limit_mb=2048", "-detect_leaks=0"]
SCHEDULE = ["-entropic=0"]  # entropic's bookkeeping takes three quarters of the time of a target with many edges
SCRATCH = {"TMPDIR": "/dev/shm"} if os.path.isdir("/dev/shm") else {}  # of the targets that write files
ASAN = "detect_leaks=1:strict_string_checks=1:malloc_context_size=5:quarantine_size_mb=16"
ENVIRONMENT = {**SCRATCH, **os.environ, "ASAN_OPTIONS": ASAN,
               "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}


@dataclasses.dataclass
class Result:
    name: str
    status: int
    runs: int
    per_second: int
    edges: int
    log: pathlib.Path


def number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def fuzz(binary: pathlib.Path, build: pathlib.Path, args: argparse.Namespace) -> Result:
    name = binary.name.removeprefix("fuzz_")
    found = build / "fuzz-found" / name
    found.mkdir(parents=True, exist_ok=True)
    bound = [f"-runs={args.runs}"] if args.runs else [f"-max_total_time={args.seconds}"]
    words = FUZZ / "dict" / f"{name}.dict"
    log = found.with_suffix(".log")
    command = [binary, *bound, *LIMITS, *SCHEDULE, f"-max_len={args.max_len}", "-print_final_stats=1", f"-artifact_prefix={found}/",
               *([f"-dict={words}"] if words.exists() else []), found, FUZZ / "corpus" / name]
    with log.open("w") as out:
        status = subprocess.run(command, stdout=out, stderr=out, env=ENVIRONMENT, check=False).returncode
    text = log.read_text(errors="replace")
    return Result(name, status, number(r"stat::number_of_executed_units: +(\d+)", text),
                  number(r"stat::average_exec_per_sec: +(\d+)", text), number(r"cov: (\d+)", text), log)


def keep(binary: pathlib.Path, build: pathlib.Path) -> str:
    """Adds what was found and reaches more code to the kept corpus, under the first digits of its hash."""
    name = binary.name.removeprefix("fuzz_")
    corpus = FUZZ / "corpus" / name
    with tempfile.TemporaryDirectory() as scratch:
        merged = pathlib.Path(scratch)
        for file in corpus.iterdir():
            shutil.copy(file, merged)
        before = {file.name for file in merged.iterdir()}
        subprocess.run([binary, "-merge=1", *LIMITS, f"-max_len={MAX_INPUT_BYTES}", merged, build / "fuzz-found" / name],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT, check=False)
        size = sum(file.stat().st_size for file in corpus.iterdir())
        added = 0
        for file in sorted((f for f in merged.iterdir() if f.name not in before), key=lambda f: f.stat().st_size):
            if file.name.startswith(FINDINGS) or size + file.stat().st_size > MAX_CORPUS_BYTES:
                continue
            shutil.copy(file, corpus / file.name[:12])
            size, added = size + file.stat().st_size, added + 1
    return f"{name}: {added} inputs added, {size} bytes in all"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--max-len", type=int, default=4096)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_intermixed_args()
    names = args.targets or sorted(file.stem for file in FUZZ.glob("fuzz_*.cc"))
    binaries = [args.build / "bin" / ("fuzz_" + name.removeprefix("fuzz_")) for name in names]
    print(f"| {'target':24} | executions | a second |  edges | result |\n|{'-' * 26}|-----------:|---------:|-------:|--------|")
    good = True
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for result in pool.map(lambda binary: fuzz(binary, args.build, args), binaries):
            good &= result.status == 0
            verdict = "nothing found" if result.status == 0 else f"FAILED ({result.status}): {result.log}"
            print(f"| {result.name:24} | {result.runs:10} | {result.per_second:8} | {result.edges:6} | {verdict} |", flush=True)
    for binary in binaries if args.keep else []:
        print(keep(binary, args.build))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
