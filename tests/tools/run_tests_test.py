#!/usr/bin/env python3
"""The skip policy of tools/run_tests.py on results as ctest writes them."""
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import run_tests  # noqa: E402

RESULTS = """<?xml version="1.0"?>
<testsuite name="t" tests="5">
  <testcase name="good" status="run"><system-out>fine</system-out></testcase>
  <testcase name="bad" status="fail"><failure message="Failed"/><system-out>no</system-out></testcase>
  <testcase name="isa" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/>
    <system-out>[ RUN      ] A.B
/src/a_test.cc:12: Skipped
hardware: no AVX-512

[  SKIPPED ] A.B (0 ms)</system-out></testcase>
  <testcase name="script" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/>
    <system-out>SKIP: data: no folder</system-out></testcase>
  <testcase name="off" status="disabled"><skipped message="Disabled"/></testcase>
</testsuite>
"""


class RunTests(unittest.TestCase):
    def test_reads_results_with_reasons(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "r.xml"
            file.write_text(RESULTS)
            passed, failed, skipped = run_tests.read_results(file)
        self.assertEqual(passed, 1)
        self.assertEqual(failed, ["bad"])
        self.assertEqual(skipped, [("isa", "hardware: no AVX-512"), ("script", "data: no folder"), ("off", "disabled")])

    def test_missing_hardware_is_an_excuse_and_missing_data_is_not(self):
        hardware, data = [("isa", "hardware: no AVX-512")], [("d", "data: no folder")]
        self.assertTrue(run_tests.report(3, [], hardware, strict=True)[1])
        self.assertTrue(run_tests.report(3, [], data, strict=False)[1])
        lines, good = run_tests.report(3, [], hardware + data, strict=True)
        self.assertFalse(good)
        self.assertEqual(lines[-1], "3 passed, 0 failed, 2 skipped")
        self.assertTrue(any("hardware: no AVX-512" in line for line in lines))

    def test_a_failure_or_an_empty_run_is_bad(self):
        self.assertFalse(run_tests.report(3, ["x"], [], strict=False)[1])
        self.assertFalse(run_tests.report(0, [], [], strict=False)[1])


if __name__ == "__main__":
    unittest.main()
