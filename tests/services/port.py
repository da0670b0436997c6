"""Ports for services that are stopped and started again."""

import atexit
import random
import socket

# Below the range from which the kernel takes the ports of outgoing connections: a port from there
# could be taken by any client while its service is down.
CANDIDATES = range(20_000, 32_000)


def free_port() -> int:
    """Return a port of the loopback interface that nothing uses, and that no test run on this machine is given."""
    while True:
        port = random.choice(CANDIDATES)
        if _claim(port):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return port


def _claim(port: int) -> bool:
    """Hold the UDP port of the same number, which no service wants, until this process ends."""
    claim = socket.socket(type=socket.SOCK_DGRAM)
    try:
        claim.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    atexit.register(claim.close)
    return True
