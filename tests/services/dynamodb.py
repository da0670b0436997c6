"""A DynamoDB-compatible table server of the test run's own."""

from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.services.container import Container
from tests.services.given import Given
from tests.services.port import free_port
from tests.services.process import Process
from tests.services.runner import Runner
from tests.services.service import Service

IMAGE = "localstack/localstack:4.14.0"
LAUNCHER = Path(__file__).parents[2] / "infra" / "native" / "dynamodb.sh"
LIST_TABLES = {
    "content-type": "application/x-amz-json-1.0",
    "x-amz-target": "DynamoDB_20120810.ListTables",
    "x-amz-date": "20260101T000000Z",
    "authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature=0",
}


class DynamoDB(Service):
    name = "DynamoDB"

    def __init__(self, runner: Runner, *, port: int) -> None:
        super().__init__(runner)
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"

    def answers(self) -> bool:
        try:
            with urlopen(Request(self.endpoint, data=b"{}", headers=LIST_TABLES), timeout=1):
                return True
        except HTTPError as error:
            error.close()
            return False
        except OSError:
            return False


def native_dynamodb(folder: Path) -> DynamoDB:
    port = free_port()
    data = folder / "dynamodb"
    return DynamoDB(Process([str(LAUNCHER), str(data), str(port)], data=data), port=port)


def given_dynamodb(port: int) -> DynamoDB:
    return DynamoDB(Given(), port=port)


def docker_dynamodb() -> DynamoDB:
    port = free_port()
    runner = Container(IMAGE, ports=(4566, port), environment={"SERVICES": "dynamodb"})
    return DynamoDB(runner, port=port)
