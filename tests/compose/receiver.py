"""A target that remembers: what was posted to it is read back with GET, as a list of paths."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

received: list[str] = []


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        received.append(self.path)
        self._answer(b"{}")

    def do_GET(self) -> None:
        self._answer(json.dumps(received).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8080), Receiver).serve_forever()
