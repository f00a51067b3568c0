#!/usr/bin/env python3
"""Prompt, decode and batch-of-8 rates of llama.cpp and of quantd on the same GGUF files, in turns on the same machine.

    tools/bench/peer_llama_cpp.py [--model GGUF] [--rounds 5]

llama.cpp comes as source inside the PyPI package llama-cpp-python and is built once, for this machine's own instructions, in the
cache outside the tree. It runs the model as it is and requantized by its own tool to the formats it has the fastest kernels for.
Both work on a prompt of 512 tokens, decode 128 tokens after it, and 32 tokens of 8 sequences after prompts of 16, with 2 bytes a
key and value (f16 there, bf16 here). A round takes the best of three measurements on either side; rates are medians of the
rounds, a ratio is the median of the rounds' ratios.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile

VERSION = "0.3.36"
REPO = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("QUANTD_CACHE") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "quantd")
PEERS = CACHE / "peers"
SOURCE = PEERS / f"llama_cpp_python-{VERSION}"
BIN = SOURCE / "build/bin"
TARGETS = ["llama-bench", "llama-batched-bench", "llama-quantize"]
RATES = ["prompt", "decode", "batch of 8"]
DYNAMIC = "int8_dynamic_activation_int8_weight"


def run(*command):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def build():
    if not all((BIN / t).exists() for t in TARGETS):
        print(f"fetching and building llama.cpp of llama-cpp-python {VERSION} in {SOURCE}", file=sys.stderr)
        PEERS.mkdir(parents=True, exist_ok=True)
        if not (SOURCE / "vendor").exists():
            run(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", PEERS,
                f"llama-cpp-python=={VERSION}")
            with tempfile.TemporaryDirectory(dir=PEERS) as folder:  # whole or not at all
                with tarfile.open(PEERS / f"llama_cpp_python-{VERSION}.tar.gz") as archive:
                    archive.extractall(folder)
                shutil.rmtree(SOURCE, ignore_errors=True)
                (pathlib.Path(folder) / SOURCE.name).rename(SOURCE)
        run("cmake", "-S", SOURCE / "vendor/llama.cpp", "-B", SOURCE / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
            "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
            "-DLLAMA_BUILD_SERVER=OFF")
        run("cmake", "--build", SOURCE / "build", "--target", *TARGETS)
    run("make", "--silent", "-C", REPO, "PRESET=release", "build")


def requantized(model, kind, folder):
    path = pathlib.Path(folder) / f"{kind}.gguf"
    run(BIN / "llama-quantize", "--allow-requantize", model, path, kind)
    return path


def rates_of_llama_cpp(model, threads):
    def one(*args):
        result = json.loads(run(BIN / "llama-bench", "-m", model, "-t", threads, "-r", 3, "-o", "json", *args))
        return max(result[0]["samples_ts"])

    def batch():
        out = run(BIN / "llama-batched-bench", "-m", model, "-t", threads, "-c", 2048, "-npp", 16, "-ntg", 32, "-npl", 8,
                  "--output-format", "jsonl")
        return next(json.loads(line) for line in out.splitlines() if line.startswith("{"))["speed_tg"]

    return [one("-p", 512, "-n", 0), one("-p", 0, "-n", 128, "-d", 512), max(batch() for _ in range(3))]


def rates_of_quantd(model, threads, scheme):
    out = run(REPO / "build/release/bin/model_bench", model, "--threads", threads, "--prompt", 512, "--decode", 128, "--kv", "bf16",
              scheme)
    row = re.search(r"^.{42} +[\d.]+ +([\d.]+) +[\d.]+% +[\d.]+% +([\d.]+) +[\d.]+% +([\d.]+)$", out, re.M)
    return [float(x) for x in row.groups()], out.splitlines()[0]


def measure(args, files):
    threads = len(os.sched_getaffinity(0))
    theirs = {name: [] for name, _, _ in files}
    ours = {(name, scheme): [] for name, _, schemes in files for scheme in schemes}
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        for name, path, schemes in files:
            theirs[name].append(rates_of_llama_cpp(path, threads))
            for scheme in schemes:
                rates, machine = rates_of_quantd(path, threads, scheme)
                ours[name, scheme].append(rates)
    print(f"{args.model.name}, {threads} threads, {args.rounds} rounds in turns; quantd: {machine}")
    print("\n| File | Scheme here | " + " | ".join(f"{r}: llama.cpp | quantd | ratio" for r in RATES) + " |")
    print("|---|---|" + "---|" * (3 * len(RATES)))
    for (name, scheme), rounds in ours.items():
        cells = []
        for i in range(len(RATES)):
            peer, own = [r[i] for r in theirs[name]], [r[i] for r in rounds]
            ratio = statistics.median(b / a for a, b in zip(peer, own))
            cells += [f"{statistics.median(peer):.0f}", f"{statistics.median(own):.0f}", f"{ratio:.2f}x"]
        print(f"| {name} | {'as the file is' if not scheme else f'`{scheme}`'} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=CACHE / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    build()
    with tempfile.TemporaryDirectory() as folder:
        measure(args, [("as it is", args.model, ["", DYNAMIC]),
                       ("Q4_0", requantized(args.model, "Q4_0", folder), ["", DYNAMIC]),
                       ("Q8_0", requantized(args.model, "Q8_0", folder), ["", DYNAMIC])])


if __name__ == "__main__":
    main()
