"""A WSGI server on loopback that answers a JSON-RPC request with what it was told of it. Prints its port."""

import json
from wsgiref.simple_server import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    told = {key: value for key, value in environ.items() if key.startswith(("HTTP_", "CONTENT_", "REMOTE_"))}
    answer = json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": told}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
