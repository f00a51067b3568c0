#!/usr/bin/env python3
"""tools/fuzz.py, with programs that behave as libFuzzer does."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "fuzz.py"
STATS = 'echo "#9 DONE cov: 12 ft: 34"; echo "stat::number_of_executed_units: 900"; echo "stat::average_exec_per_sec: 45"'


class FuzzTest(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.build = pathlib.Path(self.scratch.name)
        (self.build / "bin").mkdir()

    def tearDown(self):
        self.scratch.cleanup()

    def target(self, name: str, script: str) -> None:
        program = self.build / "bin" / f"fuzz_{name}"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def run_tool(self, *args: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, TOOL, self.build, *args], capture_output=True, text=True, check=False)

    def test_says_what_each_target_did(self):
        self.target("a", f'echo "$@" > {self.build}/args; {STATS}')
        done = self.run_tool("a", "--seconds", "7")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"\| a +\| +900 \| +45 \| +12 \| nothing found \|")
        self.assertIn("-max_total_time=7", (self.build / "args").read_text())

    def test_takes_options_before_and_among_targets(self):
        self.target("a", STATS)
        self.target("b", STATS)
        done = self.run_tool("--runs", "5", "a", "--jobs", "1", "b")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("| a ", done.stdout)
        self.assertIn("| b ", done.stdout)

    def test_runs_a_number_of_executions(self):
        self.target("a", f'echo "$@" > {self.build}/args; {STATS}')
        self.assertEqual(self.run_tool("fuzz_a", "--runs", "5").returncode, 0)
        args = (self.build / "args").read_text()
        self.assertIn("-runs=5", args)
        self.assertNotIn("max_total_time", args)

    def test_a_target_that_finds_something_fails_the_run_and_the_others_go_on(self):
        self.target("bad", "echo crashed; exit 77")
        self.target("good", STATS)
        done = self.run_tool("bad", "good", "--jobs", "1")
        self.assertEqual(done.returncode, 1)
        log = self.build / "fuzz-found" / "bad.log"
        self.assertIn(f"FAILED (77): {log}", done.stdout)
        self.assertIn("crashed", log.read_text())
        self.assertIn("nothing found", done.stdout)


if __name__ == "__main__":
    unittest.main()
