"""An upstream that says on stdout, one JSON line each, what Python's own parsers take a request for."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


LOCK = threading.Lock()


def text(value):
    return value if isinstance(value, str) else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            value = json.loads(body)
        except ValueError:
            value = None
        for message in value if isinstance(value, list) else [value]:
            message = message if isinstance(message, dict) else {}
            params = message.get("params")
            params = params if isinstance(params, dict) else {}
            reading = {
                "requestId": self.headers.get("X-Request-ID"),
                "method": text(message.get("method")),
                "params": {key: text(params[key]) for key in ("name", "uri") if key in params},
            }
            with LOCK:
                print(json.dumps(reading), flush=True)
        answer = b'{"jsonrpc":"2.0","id":1,"result":{}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"port": server.server_address[1]}), flush=True)
sys.setrecursionlimit(100000)
server.serve_forever()
