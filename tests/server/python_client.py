"""What tests with a stock Python client share: an environment with grpcio-tools, and stubs of the protos."""
import os
import pathlib
import subprocess
import sys
import venv

REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "python" / "requirements.txt"


def skip(reason: str) -> None:
    print(f"SKIP: {reason}")
    sys.exit(77)


def enter_environment(scratch: pathlib.Path) -> None:
    """Goes on under a Python that has what REQUIREMENTS names. `scratch` keeps it from run to run."""
    folder = scratch / "venv"
    python = folder / "bin" / "python"
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        venv.create(folder, with_pip=True, clear=True)
        pip = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS],
                             check=False, timeout=300)
        if pip.returncode != 0:
            skip("network: pip cannot install grpcio-tools")
        stamp.write_text(REQUIREMENTS.read_text())
    if pathlib.Path(sys.prefix) != folder:
        os.execv(python, [python, *sys.argv])


def make_stubs(protos: pathlib.Path, out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    files = [str(f.relative_to(protos)) for folder in ("quantd", "google", "grpc") for f in sorted((protos / folder).rglob("*.proto"))]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", f"--python_out={out}", f"--grpc_python_out={out}",
                    *files], check=True)


def use_stubs(out: pathlib.Path) -> None:
    """Makes what make_stubs wrote to `out` importable."""
    sys.path.insert(0, str(out))
    # `google` and `grpc` are packages of their libraries: what is generated below them joins those.
    import google
    import grpc
    google.__path__.append(str(out / "google"))
    grpc.__path__.append(str(out / "grpc"))
