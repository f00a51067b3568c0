"""A daemon, a bystander whose stream nobody may hold up, and a sink in which an attack does its work for comparison.

An attack is a function of attacks.py. `measure` runs it twice beside the same bystander: into a sink of its own,
then at the daemon. Attacker, daemon and bystander share the machine's cores, so what the attacker's own work costs the
bystander shows in the first run; what the daemon's handling of it costs, in the second.
"""
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import polling

HERE = pathlib.Path(__file__).resolve().parent
LIMIT_S = 60  # for what takes milliseconds on a free machine
PHASE_S = 1.5  # of an attack, and of its control
GIVEN_BACK_S = 10
# Of the resident memory from before an attack: what the allocator keeps for the next requests, of any size of attack.
MARGIN_MIB = 48
MAX_RATIO = 2.0  # of the bystander's p99 under attack to that of the control
ROUNDS = 4  # of measuring that, at most: other work on the machine can make a round worse, never better


def wait_until(condition, what: str, limit_s: float = LIMIT_S) -> None:
    polling.wait_until(condition, what, limit_s)


class Daemon:
    """`quantd serve` on ports of its own choosing."""

    def __init__(self, binary: str, models: dict[str, pathlib.Path], *args: str, shell: str = "", ready: bool = True,
                 env: dict[str, str] | None = None):
        """`shell` runs before it in the same process (`ulimit -n 256`)."""
        self.folder = tempfile.TemporaryDirectory(prefix="quantd-hostile-")
        folder = pathlib.Path(self.folder.name)
        self.ready_file, self.log_file = folder / "ready.json", folder / "log"
        command = [binary, "serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--ready-file",
                   str(self.ready_file), *args]
        for name, path in models.items():
            command += ["--model", f"{name}={path}"]
        if shell:
            command = ["bash", "-c", shell + '; exec "$@"', "bash", *command]
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, **(env or {})})
        if ready:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.ready_file.exists() or not self.alive(), "the daemon is ready")
        if not self.ready_file.exists():
            raise RuntimeError(f"quantd serve ended with {self.process.returncode}:\n{self.log()}")
        addresses = json.loads(self.ready_file.read_text())
        self.address, self.metrics_address = addresses["grpc"], addresses["metrics"]

    def alive(self) -> bool:
        return self.process.poll() is None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def _status(self, key: str) -> float:
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(key + ":"))

    def rss_mib(self) -> float:
        return self._status("VmRSS")

    def peak_mib(self) -> float:
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def http(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.metrics_address}{path}", timeout=LIMIT_S) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, labels: str = "") -> float:
        """The sum of the samples of `name` whose labels contain `labels`."""
        lines = self.http("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines
                   if line.split("{")[0].split(" ")[0] == name and labels in line)

    def stop(self, limit_s: float = LIMIT_S) -> int:
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=limit_s)

    def close(self) -> None:
        if self.alive():
            self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Bystander:
    """A process that reads one stream after another and notes when each token came."""

    def __init__(self, address: str, stubs: pathlib.Path):
        self.process = subprocess.Popen([sys.executable, HERE / "bystander.py", address, stubs], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ask("start")

    def _ask(self, word: str) -> dict:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the bystander ended")
        return json.loads(line)

    def begin(self) -> None:
        """From now on the times count."""
        self._ask("begin")

    def gaps(self) -> list[float]:
        """Seconds between tokens since `begin`."""
        answer = self._ask("end")
        if answer["error"]:
            raise AssertionError(f"the bystander's stream failed: {answer['error']}")
        return answer["gaps"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def sink():
    """The address of a process that takes whatever it is sent."""
    with subprocess.Popen([sys.executable, HERE / "sink.py"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def attack(name: str, address: str, seconds: float) -> str:
    """Runs it in a process of its own; what it says of itself."""
    result = subprocess.run([sys.executable, HERE / "attacks.py", name, address, str(seconds)], stdout=subprocess.PIPE,
                            text=True, timeout=LIMIT_S + seconds, check=True)
    return result.stdout.strip()


@dataclasses.dataclass
class Figures:
    attack: str
    done: str  # what the attacker says
    cpu_s: float  # of the daemon, beyond what it takes in the control's time
    rss_before_mib: float
    peak_mib: float
    rss_after_mib: float
    p99_control_ms: float
    p99_attack_ms: float

    def line(self) -> str:
        return (f"| {self.attack} | {self.done} | {max(self.cpu_s, 0):.2f} | {self.rss_before_mib:.0f} | "
                f"{self.peak_mib:.0f} | {self.rss_after_mib:.0f} | {self.p99_control_ms:.1f} | "
                f"{self.p99_attack_ms:.1f} |")


HEADING = ("| attack | what was sent in 1.5 s | CPU s | RSS before, MiB | peak | 10 s after | bystander p99, control, ms "
           "| attack |\n|---|---|---|---|---|---|---|---|")


def measure(daemon: Daemon, name: str, stubs: pathlib.Path) -> Figures:
    """Both runs. Raises where memory is not given back or the bystander suffers."""
    before, best = daemon.rss_mib(), None
    bystander = Bystander(daemon.address, stubs)
    try:
        daemon.forget_peak()
        for _ in range(ROUNDS):
            with sink() as address:
                cpu = daemon.cpu_s()
                bystander.begin()
                attack(name, address, PHASE_S)
                control, control_cpu = bystander.gaps(), daemon.cpu_s() - cpu
            cpu = daemon.cpu_s()
            bystander.begin()
            done = attack(name, daemon.address, PHASE_S)
            attacked = bystander.gaps()
            figures = Figures(name, done, daemon.cpu_s() - cpu - control_cpu, before, daemon.peak_mib(), 0,
                              1e3 * percentile(control, 0.99), 1e3 * percentile(attacked, 0.99))
            ratio = figures.p99_attack_ms / figures.p99_control_ms
            if best is None or ratio < best[0]:
                best = ratio, figures
            if ratio < MAX_RATIO:
                break
    finally:
        bystander.close()
    ratio, figures = best
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: daemon.rss_mib() < before + MARGIN_MIB, "memory is given back", GIVEN_BACK_S)
    figures.rss_after_mib = daemon.rss_mib()
    print(figures.line(), file=sys.stderr, flush=True)
    if figures.rss_after_mib >= before + MARGIN_MIB:
        raise AssertionError(f"{name}: RSS {before:.0f} MiB, {figures.rss_after_mib:.0f} MiB {GIVEN_BACK_S} s after")
    if ratio >= MAX_RATIO:
        raise AssertionError(f"{name}: the bystander's p99 is {ratio:.1f} times that of the control")
    return figures
