"""A bare ASGI application without a model: the least that a request of one row can cost."""

import msgspec
from rows import NAMES, respond

Row = msgspec.defstruct("Row", [(name, float) for name in NAMES])
decoder, encoder = msgspec.json.Decoder(Row), msgspec.json.Encoder()
probabilities = [1 / 6] * 6


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    decoder.decode(body)
    content = encoder.encode(respond(probabilities))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
