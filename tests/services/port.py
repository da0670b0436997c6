"""Ports for services that are stopped and started again."""

import random
import socket

# Below the range from which the kernel takes the ports of outgoing connections: a port from there
# could be taken by any client while its service is down.
CANDIDATES = range(20_000, 32_000)


def free_port() -> int:
    """Return a port of the loopback interface that nothing uses."""
    while True:
        port = random.choice(CANDIDATES)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
