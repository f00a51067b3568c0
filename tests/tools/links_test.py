#!/usr/bin/env python3
"""The links of the checkout and of the installed documentation lead somewhere.

usage: links_test.py SOURCE_FOLDER BUILD_FOLDER
"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

SOURCE, BUILD = map(pathlib.Path, sys.argv[1:3])


def check(folder) -> subprocess.CompletedProcess:
    return subprocess.run([SOURCE / "tools" / "check_links.py", folder], capture_output=True, text=True, check=False)


class Links(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def test_of_the_checkout(self):
        result = check(SOURCE)
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_of_the_installed_tree(self):
        subprocess.run(["cmake", "--install", BUILD, "--prefix", self.folder, "--component", "docs"], check=True,
                       capture_output=True)
        (readme,) = [path for path in self.folder.rglob("README.md") if (path.parent / "docs").is_dir()]
        self.assertTrue((readme.parent / "docs" / "demo.svg").is_file())
        result = check(readme.parent)
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_a_dead_link_is_found(self):
        (self.folder / "a.md").write_text("# One\n[x](b.md) [y](#one) [z](#two) `[c](c.md)`\n```\n[d](d.md)\n```\n")
        result = check(self.folder)
        self.assertEqual(result.returncode, 1)
        self.assertEqual([line.split(":", 1)[1] for line in result.stdout.splitlines()[:-1]],
                         ["2: b.md leads nowhere", "2: #two: no such heading"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
