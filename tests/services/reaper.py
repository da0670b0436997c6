"""
Kills the process groups it was told of once its standard input ends.

Its input ends with the test run that started it, however that died, so no service outlives the run.
Each line is ``watch GROUP`` or ``forget GROUP``.
"""

import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        verb, group = line.split()
        (groups.add if verb == "watch" else groups.discard)(int(group))
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
