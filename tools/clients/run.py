#!/usr/bin/env python3
"""Calls a daemon with clients made elsewhere (README.md beside this file) and prints what worked.

usage: tools/clients/run.py QUANTD [--model PATH] [--scratch FOLDER] [CLIENT...]

CLIENT is grpcio, grpcio-aio, grpclib, grpcurl, grpc-js or buf; none is all of them. QUANTD is the built program, the model
by default the demo's (tools/fetch_demo_model.sh). Ends with 1 where a check failed, with 77 and "SKIP: reason" where what
the clients need cannot be fetched.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIMIT_S = 300
PYTHON_CLIENTS = ["grpcio", "grpcio-aio", "grpclib", "grpcurl"]
NODE_CLIENTS = ["grpc-js", "buf"]


def skip(reason: str) -> None:
    print(f"SKIP: {reason}")
    sys.exit(77)


def demo_model() -> pathlib.Path:
    home_cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    cache = pathlib.Path(os.environ.get("QUANTD_CACHE") or pathlib.Path(home_cache) / "quantd")
    model = cache / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not model.exists():
        skip("data: SmolLM2 is not in the cache (tools/fetch_demo_model.sh)")
    return model


def is_fresh(stamp: pathlib.Path, wanted: pathlib.Path) -> bool:
    return stamp.exists() and stamp.read_text() == wanted.read_text()


def python_environment(scratch: pathlib.Path) -> pathlib.Path:
    """The programs' folder of a virtual environment with requirements.txt."""
    folder, wanted = scratch / "venv", HERE / "requirements.txt"
    if not is_fresh(folder / "requirements.txt", wanted):
        venv.create(folder, with_pip=True, clear=True)
        pip = subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted],
                             check=False, timeout=600)
        if pip.returncode != 0:
            skip("network: pip cannot install " + ", ".join(wanted.read_text().split()))
        shutil.copy(wanted, folder)
    return folder / "bin"


def node_modules(scratch: pathlib.Path) -> pathlib.Path | None:
    """A folder with package.json's modules, or None where there is no npm."""
    folder, wanted = scratch / "node", HERE / "package.json"
    if shutil.which("npm") is None:
        return None
    if not is_fresh(folder / "installed.json", wanted):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(wanted, folder / "package.json")
        npm = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder], check=False, timeout=600)
        if npm.returncode != 0:
            skip("network: npm cannot install what package.json names")
        shutil.copy(wanted, folder / "installed.json")
    return folder


def make_stubs(python: pathlib.Path, out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    protos = [str(file.relative_to(ROOT / "proto")) for file in sorted((ROOT / "proto" / "quantd").rglob("*.proto"))]
    subprocess.run([python, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}", *protos],
                   check=True)


def start_daemon(quantd: str, model: pathlib.Path, folder: pathlib.Path) -> tuple[subprocess.Popen, str]:
    ready = folder / "ready.json"
    with open(folder / "daemon.log", "wb") as log:
        daemon = subprocess.Popen([quantd, "serve", "--model", f"m={model}", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                                   "--ready-file", ready], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    end = time.monotonic() + LIMIT_S
    while not ready.exists() and daemon.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    if not ready.exists():
        sys.exit(f"quantd serve is not ready:\n{(folder / 'daemon.log').read_text()}")
    return daemon, json.loads(ready.read_text())["grpc"]


def commands(clients: list[str], scratch: pathlib.Path, address: str) -> dict[str, list]:
    """How each client is run; a client that cannot be is left out with a word."""
    programs = python_environment(scratch)
    make_stubs(programs / "python", scratch / "stubs")
    common = [address, "m", scratch / "stubs"]
    out = {"grpcio": [programs / "python", HERE / "grpcio_sync.py", *common],
           "grpcio-aio": [programs / "python", HERE / "grpcio_aio.py", *common],
           "grpclib": [programs / "python", HERE / "grpclib_client.py", *common],
           "grpcurl": [programs / "python", HERE / "command_line.py", *common, "grpcurl", programs / "grpcurl", ROOT / "proto"]}
    if set(clients) & set(NODE_CLIENTS):
        modules = node_modules(scratch)
        if modules is None:
            print("left out: " + ", ".join(c for c in clients if c in NODE_CLIENTS) + " (no npm: apt-get install nodejs npm)")
        else:
            out["grpc-js"] = ["node", HERE / "grpc_js.js", address, "m", ROOT / "proto"]
            out["buf"] = [programs / "python", HERE / "command_line.py", *common, "buf", modules / "node_modules/.bin/buf", ROOT / "proto"]
    return {client: out[client] for client in clients if client in out}


def run(client: str, command: list, scratch: pathlib.Path) -> bool:
    environment = {**os.environ, "NODE_PATH": str(scratch / "node" / "node_modules"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False)
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not results:
        results.append({"check": "exit status", "ok": False, "note": str(done.returncode)})
    for result in results:
        print(f"| {client:10} | {result['check']:11} | {'ok' if result['ok'] else 'FAILED':6} | {result['note']} |", flush=True)
    if not all(result["ok"] for result in results):
        print(done.stderr, file=sys.stderr)
    return all(result["ok"] for result in results)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("quantd")
    parser.add_argument("clients", nargs="*", default=[])
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--scratch", type=pathlib.Path, default=ROOT / "build" / "clients")
    args = parser.parse_args()
    clients = args.clients or PYTHON_CLIENTS + NODE_CLIENTS
    if unknown := set(clients) - set(PYTHON_CLIENTS + NODE_CLIENTS):
        parser.error(f"unknown client {', '.join(sorted(unknown))}")
    model = (args.model or demo_model()).resolve()
    scratch = args.scratch.resolve()
    python_environment(scratch)
    with tempfile.TemporaryDirectory() as folder:
        daemon, address = start_daemon(args.quantd, model, pathlib.Path(folder))
        try:
            print(f"| {'client':10} | {'check':11} | {'':6} | note |\n|{'-' * 12}|{'-' * 13}|--------|------|")
            good = [run(client, command, scratch) for client, command in commands(clients, scratch, address).items()]
        finally:
            daemon.send_signal(signal.SIGTERM)
            status = daemon.wait(timeout=LIMIT_S)
    if status != 0:
        print(f"quantd serve ended with {status} on SIGTERM", file=sys.stderr)
    return 0 if all(good) and status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
