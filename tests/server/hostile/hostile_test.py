#!/usr/bin/env python3
"""What strangers do to the daemon, and what must hold meanwhile and after: it lives, it answers, its readiness is true,
whoever streams beside does not notice, and memory comes back. Prints a row of figures for each attack.

usage: hostile_test.py QUANTD PROTO_FOLDER SCRATCH_FOLDER [unittest arguments]

The scratch folder keeps a virtual environment from run to run (tests/server/python_client.py). One test:
hostile_test.py ... Attacks.test_rapid_reset
"""
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import python_client

MODULES = ["requests_test", "truth_test", "models_test", "templates_test", "exhaustion_test", "memory_test", "attacks_test"]


def main() -> None:
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    scratch = pathlib.Path(sys.argv[3]).resolve()
    python_client.enter_environment(scratch)
    stubs = scratch / "stubs"
    python_client.make_stubs(pathlib.Path(sys.argv[2]).resolve(), stubs)
    python_client.use_stubs(stubs)
    import fixture
    with tempfile.TemporaryDirectory(prefix="quantd-hostile-models-") as models:
        fixture.begin(sys.argv[1], stubs, pathlib.Path(models))
        wanted = [f"{module}.{name}" for name in sys.argv[4:] for module in MODULES if module_has(module, name)]
        suite = unittest.defaultTestLoader.loadTestsFromNames(wanted or MODULES)
        result = unittest.TextTestRunner(verbosity=2).run(suite)
    sys.exit(not result.wasSuccessful())


def module_has(module: str, name: str) -> bool:
    return hasattr(__import__(module), name.split(".")[0])


if __name__ == "__main__":
    main()
