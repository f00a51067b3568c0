#!/usr/bin/env python3
"""README's lines work as they are printed.

usage: readme_test.py SOURCE_FOLDER QUANTD        the commands of "Serving", in a folder with the layout of a checkout
       readme_test.py SOURCE_FOLDER --everything  every block, `make demo` too and `make test` not, in the checkout itself
"""
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv[1]).resolve()
EVERYTHING = sys.argv[2] == "--everything"
README = (SOURCE / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.S | re.M)
SHELL = [text for language, text in BLOCKS if language == ""]
(PYTHON,) = [text for language, text in BLOCKS if language == "python"]
MODEL = pathlib.Path(os.environ.get("QUANTD_CACHE") or pathlib.Path.home() / ".cache" / "quantd") / "models"


def free_address() -> str:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{chosen.getsockname()[1]}"


class Readme(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = SOURCE if EVERYTHING else pathlib.Path(temporary.name)
        self.address = free_address()
        self.environment = {**os.environ, "QUANTD_LISTEN": self.address, "QUANTD_ADDRESS": self.address,
                            "QUANTD_METRICS_LISTEN": "127.0.0.1:0", "XDG_STATE_HOME": temporary.name}
        if not EVERYTHING:
            binary = self.folder / "build" / "dev" / "bin"
            binary.mkdir(parents=True)
            (binary / "quantd").symlink_to(pathlib.Path(sys.argv[2]).resolve())
            (self.folder / "proto").symlink_to(SOURCE / "proto")

    def run_lines(self, text: str) -> str:
        """What the lines print on standard output; each must succeed. What they left running is ended."""
        script = f"set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{text}"
        result = subprocess.run(["bash", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True,
                                timeout=3600 if EVERYTHING else 240, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def serving(self) -> str:
        (block,) = [text for text in SHELL if "quantd serve" in text]
        return block

    def test_serving(self):
        if EVERYTHING:
            self.run_lines("make demo")
        elif not (MODEL / "SmolLM2-135M-Instruct.Q4_1.gguf").is_file():
            self.skipTest("the demo's model is not there: make demo fetches it")
        shown = self.run_lines(self.serving())
        self.assertIn("fits", shown)
        self.assertRegex(shown, r"SmolLM2-135M-Instruct\.Q4_1 +ready +Q4_1")

    @unittest.skipUnless(EVERYTHING, "fetches packages: --everything")
    def test_python(self):
        (block,) = [text for text in SHELL if "grpc_tools.protoc" in text]
        (pathlib.Path(self.folder) / "hello.py").write_text(PYTHON.replace("127.0.0.1:8001", self.address))
        self.addCleanup((self.folder / "hello.py").unlink)
        shown = self.run_lines(self.serving() + "echo ANSWER\n" + block)
        self.assertGreater(len(shown.split("ANSWER\n")[1].strip()), 10)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual(status.stdout.replace("?? hello.py\n", ""), "")  # nothing else is left in the checkout


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
