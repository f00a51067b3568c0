#!/usr/bin/env python3
"""Runs ctest with a preset, says what was skipped and why, and ends with the line `N passed, N failed, N skipped`.

usage: tools/run_tests.py PRESET [ctest arguments]

A test may be skipped for missing hardware (its reason begins with "hardware:"). With CI=true any other reason fails the
run: a continuous build has everything else. Reasons come from GTEST_SKIP() or, in a script that exits with 77, from its
line "SKIP: reason".
"""
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
REASON = re.compile(r"(?:: Skipped\n|^SKIP: )(.+)", re.M)


def read_results(junit: pathlib.Path) -> tuple[int, list[str], list[tuple[str, str]]]:
    """The number of tests that passed, the names that failed, (name, reason) of those that did not run."""
    passed, failed, skipped = 0, [], []
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        name, status = case.get("name"), case.get("status")
        if status == "run":
            passed += 1
        elif status in ("notrun", "disabled") and case.find("failure") is None:
            found = REASON.search(case.findtext("system-out") or "")
            why = found.group(1).strip() if found else "disabled" if status == "disabled" else "no reason given"
            skipped.append((name, why))
        else:
            failed.append(name)
    return passed, failed, skipped


def report(passed: int, failed: list[str], skipped: list[tuple[str, str]], strict: bool) -> tuple[list[str], bool]:
    """The lines to print at the end and whether the run is good."""
    lines = []
    reasons: dict[str, list[str]] = {}
    for name, why in skipped:
        reasons.setdefault(why, []).append(name)
    if skipped:
        lines.append(f"SKIPPED {len(skipped)} tests:")
    for why, names in sorted(reasons.items()):
        lines.append(f"  {why}: {len(names)}")
        lines.extend(f"    {name}" for name in names[:5])
        if len(names) > 5:
            lines.append(f"    and {len(names) - 5} more")
    unexcused = [name for name, why in skipped if not why.startswith("hardware:")]
    if strict and unexcused:
        lines.append(f"CI=true: {len(unexcused)} tests were skipped for another reason than missing hardware")
    if failed:
        lines.append("FAILED:")
        lines.extend(f"    {name}" for name in failed)
    lines.append(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return lines, passed > 0 and not failed and not (strict and unexcused)


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    preset = sys.argv[1]
    build = ROOT / "build" / preset
    junit = build / "test-results.xml"
    junit.unlink(missing_ok=True)
    # What a test prints is kept whole, for the reasons of those skipped.
    ctest = subprocess.run(
        ["ctest", "--preset", preset, "--output-on-failure", "--no-tests=error", "-j", str(len(os.sched_getaffinity(0))),
         "--test-output-size-passed", "1000000", "--output-junit", str(junit), *sys.argv[2:]], cwd=ROOT, check=False)
    if not junit.exists():
        print("ctest left no results", file=sys.stderr)
        return ctest.returncode or 1
    lines, good = report(*read_results(junit), strict=os.environ.get("CI") == "true")
    if ctest.returncode != 0 and good:  # what has no row in the results, such as a test program that could not be listed
        lines.insert(-1, f"ctest failed with status {ctest.returncode}")
        good = False
    print("\n" + "\n".join(lines), flush=True)
    (build / "test-summary.txt").write_text(lines[-1] + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
