#!/usr/bin/env python3
"""Prompt, decode and batch-of-8 rates of llama.cpp and of quantd on the same GGUF files, in turns on the same machine.

    tools/bench/peer_llama_cpp.py [--model GGUF] [--rounds 5]

llama.cpp comes as source inside the PyPI package llama-cpp-python and is built once, for this machine's own instructions, in the
cache outside the tree. It runs the model as it is and requantized by its own tool to the formats it has the fastest kernels for.
Both work on a prompt of 512 tokens, decode 128 tokens after it, and 32 tokens of 8 sequences after prompts of 16, with 2 bytes a
key and value (f16 there, bf16 here). Rates are medians of the rounds; a ratio is the median of the rounds' ratios.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tarfile

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
            with tarfile.open(PEERS / f"llama_cpp_python-{VERSION}.tar.gz") as archive:
                archive.extractall(PEERS)
        run("cmake", "-S", SOURCE / "vendor/llama.cpp", "-B", SOURCE / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
            "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
            "-DLLAMA_BUILD_SERVER=OFF")
        run("cmake", "--build", SOURCE / "build", "--target", *TARGETS)
    run("make", "--silent", "-C", REPO, "PRESET=release", "build")


def requantized(model, kind):
    path = PEERS / f"{model.stem}.{kind}.gguf"
    if not path.exists():
        run(BIN / "llama-quantize", "--allow-requantize", model, path, kind)
    return path


def rates_of_llama_cpp(model, threads):
    def bench(*args):
        return json.loads(run(BIN / "llama-bench", "-m", model, "-t", threads, "-r", 3, "-o", "json", *args))[0]["avg_ts"]
    batch = run(BIN / "llama-batched-bench", "-m", model, "-t", threads, "-c", 2048, "-npp", 16, "-ntg", 32, "-npl", 8,
                "--output-format", "jsonl")
    batch = next(json.loads(line) for line in batch.splitlines() if line.startswith("{"))
    return [bench("-p", 512, "-n", 0), bench("-p", 0, "-n", 128, "-d", 512), batch["speed_tg"]]


def rates_of_quantd(model, threads, scheme):
    out = run(REPO / "build/release/bin/model_bench", model, "--threads", threads, "--prompt", 512, "--decode", 128, "--kv", "bf16",
              scheme)
    row = re.search(r"^.{42} +[\d.]+ +([\d.]+) +[\d.]+% +[\d.]+% +([\d.]+) +[\d.]+% +([\d.]+)$", out, re.M)
    return [float(x) for x in row.groups()], out.splitlines()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=CACHE / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    build()
    threads = len(os.sched_getaffinity(0))
    cases = [(name, path, scheme)
             for name, path, schemes in [("as it is", args.model, ["", DYNAMIC]),
                                         ("Q4_0", requantized(args.model, "Q4_0"), ["", DYNAMIC]),
                                         ("Q8_0", requantized(args.model, "Q8_0"), ["", DYNAMIC])]
             for scheme in schemes]
    theirs = {name: [] for name, _, _ in cases}
    ours = {(name, scheme): [] for name, _, scheme in cases}
    for round_number in range(args.rounds):
        print(f"round {round_number + 1} of {args.rounds}", file=sys.stderr)
        for name, path, scheme in cases:
            if len(theirs[name]) == round_number:
                theirs[name].append(rates_of_llama_cpp(path, threads))
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


if __name__ == "__main__":
    main()
