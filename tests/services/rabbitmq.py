"""A RabbitMQ of the test run's own."""

import socket
from pathlib import Path

from tests.services.container import Container
from tests.services.port import free_port
from tests.services.process import Process
from tests.services.runner import Runner
from tests.services.service import Service

IMAGE = "rabbitmq:4.3-management"
ACCOUNT = {"RABBITMQ_DEFAULT_USER": "timers", "RABBITMQ_DEFAULT_PASS": "timers"}
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
INFRA = Path(__file__).parents[2] / "infra"


class RabbitMQ(Service):
    name = "RabbitMQ"

    def __init__(self, runner: Runner, *, port: int) -> None:
        super().__init__(runner)
        self.port = port
        self.url = f"amqp://timers:timers@127.0.0.1:{port}/%2F"

    def answers(self) -> bool:
        """Tell whether it greets a client; it opens its port when all else has started."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(PROTOCOL_HEADER)
                return connection.recv(1) == b"\x01"
        except OSError:
            return False


def native_rabbitmq(folder: Path) -> RabbitMQ:
    port, distribution_port, epmd_port = free_port(), free_port(), free_port()
    data = folder / "rabbitmq"
    environment = {
        **ACCOUNT,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "ERL_EPMD_PORT": str(epmd_port),
    }
    command = [str(INFRA / "native" / "rabbitmq.sh"), str(data)]
    return RabbitMQ(Process(command, data=data, environment=environment), port=port)


def docker_rabbitmq() -> RabbitMQ:
    port = free_port()
    files = {
        INFRA / "broker" / "rabbitmq.conf": "/etc/rabbitmq/conf.d/20-timers.conf",
        INFRA / "broker" / "advanced.config": "/etc/rabbitmq/advanced.config",
    }
    runner = Container(IMAGE, ports=(5672, port), environment=ACCOUNT, files=files)
    return RabbitMQ(runner, port=port)
