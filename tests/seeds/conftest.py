"""The same running service as for the tests from end to end."""

from tests.contract.conftest import store
from tests.end_to_end.conftest import api, client, consumers, queues, receiver, running

__all__ = ["api", "client", "consumers", "queues", "receiver", "running", "store"]
