"""Each attack of attacks.py, with a bystander."""
import sys

import attacks
import fixture
import harness

class Attacks(fixture.WithDaemon):
    @classmethod
    def setUpClass(cls) -> None:
        print(harness.HEADING, file=sys.stderr, flush=True)

    def attack(self, name: str) -> None:
        lines = len(self.daemon.log().splitlines())
        harness.measure(self.daemon, name, fixture.stubs)
        self.assert_serves()
        said = self.daemon.log().splitlines()[lines:]
        # What a stranger causes is one line a second and kind; the bystander's own requests are not counted.
        told = [line for line in said if "code=OK" not in line]
        self.assertLess(len(told), 200, "\n".join(told[:20]))


def add_test(name: str) -> None:
    def test(self: Attacks) -> None:
        self.attack(name)

    test.__doc__ = attacks.ATTACKS[name].__doc__
    setattr(Attacks, f"test_{name}", test)


for attack_name in attacks.ATTACKS:
    add_test(attack_name)
