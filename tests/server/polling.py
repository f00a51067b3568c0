"""What the tests that watch another process share."""
import time


def wait_until(condition, what: str, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.01)  # polls another process; nothing depends on how long
