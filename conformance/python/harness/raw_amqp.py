"""The first bytes of AMQP by hand, for what no SDK would send."""

SASL_HEADER = b"AMQP\x03\x01\x00\x00"


def sasl_init(mechanism: str, response: bytes | None = None) -> bytes:
    """The frame by which a client chooses a mechanism."""
    fields = b"\xa3" + bytes([len(mechanism)]) + mechanism.encode()
    count = 1
    if response is not None:
        fields += b"\xa0" + bytes([len(response)]) + response
        count = 2
    body = b"\x00\x53\x41\xc0" + bytes([len(fields) + 1, count]) + fields
    return (len(body) + 8).to_bytes(4) + b"\x02\x01\x00\x00" + body
