"""Every property of a message as each door spells it, and what comes of it at the other end."""

import json
import time
import uuid
from dataclasses import dataclass, field
from urllib.parse import quote

from uamqp import c_uamqp, types

END = "end"
CREATED = "2030-01-02T03:04:05.6780000Z"
CREATED_MILLIS = 1893553445678
EXPIRES_MILLIS = int(time.time() * 1000) // 1000 * 1000 + 3_600_000
NET_TIME = "%Y-%m-%dT%H:%M:%S.0000000Z"
EXPIRES = time.strftime(NET_TIME, time.gmtime(EXPIRES_MILLIS / 1000))


@dataclass(frozen=True)
class Row:
    """One property as each door spells it, and what a reader of the stream finds."""

    name: str
    # MQTT 3.1.1: the bag, as it stands in the topic.
    bag: str | None = None
    # MQTT 5: properties of the standard, and user properties.
    five: tuple[dict, list] | None = None
    # HTTPS: headers of one message, in their order and case.
    headers: list[tuple[str, str]] | None = None
    # HTTPS: `properties` of one message of a batch, as JSON text, for it may hold what a dict cannot.
    batch: str | None = None
    # AMQP: the properties section, application properties, and annotations.
    amqp: tuple[dict, dict, dict] | None = None
    # What a reader finds of it.
    system: dict = field(default_factory=dict)
    application: dict = field(default_factory=dict)
    # The doors that have to refuse it.
    refused: tuple[str, ...] = ()


def timestamp(millis: int):
    return c_uamqp.timestamp_value(millis)


def bag_of(name: str, value: str) -> str:
    return f"{quote(name, safe='')}={quote(value, safe='')}"


def system(name: str, value: str, short: str, header: str, five=None, amqp=None, found=None, **more) -> Row:
    """A system property; `found` is its name in the stream, `value` the same text at each door."""
    return Row(
        name,
        bag=bag_of(f"$.{short}", value),
        five=five,
        headers=[(header, value)] if header else None,
        batch=json.dumps({header: value}) if header else None,
        amqp=amqp,
        system={found or name: value},
        **more,
    )


def marked(name: str, value: str, short: str | None, header: str | None, five=None) -> Row:
    """A system property that stands among those of the application in AMQP, and so in the stream."""
    return Row(
        name,
        bag=bag_of(f"$.{short}" if short else name, value),
        five=five,
        headers=[(header, value)] if header else None,
        batch=json.dumps({header: value}) if header else None,
        amqp=({}, {name: value}, {}),
        application={name: value},
    )


def own(case: str, name: str, value: str, only: str = "mqtt mqtt5 https batch amqp amqp-batch", **more) -> Row:
    """A property of the application."""
    return Row(
        case,
        bag=bag_of(name, value) if "mqtt" in only.split() else None,
        five=({}, [(f"@{name}", value)]) if "mqtt5" in only.split() else None,
        headers=[(f"iothub-app-{name}", value)] if "https" in only.split() else None,
        batch=json.dumps({f"iothub-app-{name}": value}) if "batch" in only.split() else None,
        amqp=({}, {name: value}, {}) if "amqp" in only.split() else None,
        application={name: value},
        **more,
    )


def typed(case: str, value, found=None) -> Row:
    """An application property of a type that only AMQP has."""
    return Row(f"typed {case}", amqp=({}, {"typed": value}, {}), application={"typed": value if found is None else found})


NOT_HTTPS = "mqtt mqtt5 amqp amqp-batch"

TO_THE_CLOUD = [
    Row("nothing", bag="", five=({}, []), headers=[], batch="{}", amqp=({}, {}, {})),
    system("message-id", "m:1.%2F+#", "mid", "iothub-messageid", ({}, [("message-id", "m:1.%2F+#")]), ({"message_id": "m:1.%2F+#"}, {}, {})),
    system("correlation-id", "c/1 +", "cid", "iothub-correlationid", ({}, [("correlation-id", "c/1 +")]), ({"correlation_id": "c/1 +"}, {}, {})),
    system("user-id", "u@1", "uid", "iothub-userid", ({}, [("user-id", "u@1")]), ({"user_id": "u@1"}, {}, {})),
    system("content-type", "application/json;charset=utf-8", "ct", "iothub-contenttype", ({"content-type": "application/json;charset=utf-8"}, []), ({"content_type": "application/json;charset=utf-8"}, {}, {})),
    system("content-encoding", "utf-8", "ce", "iothub-contentencoding", ({}, [("content-encoding", "utf-8")]), ({"content_encoding": "utf-8"}, {}, {})),
    Row(
        "absolute-expiry-time",
        bag=bag_of("$.exp", EXPIRES),
        headers=[("iothub-expiry", EXPIRES)],
        batch=json.dumps({"iothub-expiry": EXPIRES}),
        amqp=({"absolute_expiry_time": EXPIRES_MILLIS}, {}, {}),
        system={"absolute-expiry-time": EXPIRES_MILLIS},
    ),
    # azure-iot-device writes str() of a datetime, which has no zone where the application gave none: it is UTC by its name.
    Row(
        "absolute-expiry-time without a zone",
        bag=bag_of("$.exp", EXPIRES[:19].replace("T", " ")),
        headers=[("iothub-expiry", EXPIRES[:19])],
        batch=json.dumps({"iothub-expiry": EXPIRES[:19]}),
        system={"absolute-expiry-time": EXPIRES_MILLIS},
    ),
    Row("to", bag=bag_of("$.to", "/x"), system={"to": "/x"}),
    marked("iothub-creation-time-utc", CREATED, "ctime", "iothub-creationtimeutc", ({}, [("creation-time", str(CREATED_MILLIS))])),
    Row(
        "iothub-creation-time-utc by its documented name",
        bag=bag_of("iothub-creation-time-utc", CREATED),
        five=({}, [("@iothub-creation-time-utc", CREATED)]),
        headers=[("iothub-creation-time-utc", CREATED)],
        batch=json.dumps({"iothub-app-iothub-creation-time-utc": CREATED}),
        amqp=({}, {"iothub-creation-time-utc": CREATED}, {}),
        application={"iothub-creation-time-utc": CREATED},
    ),
    Row(
        "iothub-creation-time-utc as application property",
        headers=[("iothub-app-iothub-creation-time-utc", CREATED)],
        batch=json.dumps({"iothub-creation-time-utc": CREATED}),
        application={"iothub-creation-time-utc": CREATED},
    ),
    marked("iothub-message-schema", "order-v2", "schema", "iothub-messageschema"),
    marked("iothub-operation", "op", None, "iothub-operation"),
    marked("iothub-ack", "full", None, "iothub-ack"),
    Row("iothub-outputname", bag=bag_of("$.on", "out 1"), amqp=({}, {"iothub-outputname": "out 1"}, {}), system={"iothub-outputname": "out 1"}),
    system("iothub-interface-id", "urn:x:1", "ifid", "iothub-interface-id", amqp=({}, {}, {"iothub-interface-id": "urn:x:1"})),
    system("dt-subject", "part", "sub", "dt-subject", amqp=({}, {}, {"dt-subject": "part"})),
    Row("Diagnostic-Id", bag=bag_of("$.diagid", "0a1b"), amqp=({}, {}, {"Diagnostic-Id": "0a1b"}), system={"Diagnostic-Id": "0a1b"}),
    Row("Correlation-Context", bag=bag_of("$.diagctx", "creationtimeutc=1"), amqp=({}, {}, {"Correlation-Context": "creationtimeutc=1"}), system={"Correlation-Context": "creationtimeutc=1"}),
    # What only the hub says.
    Row(
        "stamps of the hub",
        bag="%24.cdid=other&%24.cmid=other",
        headers=[("iothub-connection-device-id", "other")],
        batch=json.dumps({"iothub-connection-device-id": "other"}),
        amqp=({}, {}, {"iothub-connection-device-id": "other", "iothub-enqueuedtime": 1, "x-opt-sequence-number": 7, "dt-dataschema": "dtmi:x;1"}),
    ),
    # Properties of the application.
    own("plain", "room", "7"),
    own("case", "RoomNo", "Seven"),
    own("empty", "empty", ""),
    own("blank inside", "blank", "a  b"),
    own("blanks around", "blank", " a ", "mqtt mqtt5 batch amqp amqp-batch"),
    own("token", "!#$%&'*+-.^_`|~", "!#$%&'*+-.^_`|~"),
    own("reserved", "p", "\"(),/:;<=>?@[\\]{}"),
    own("reserved in a name", "\"(),/;<=>?@[\\]{}", "v", NOT_HTTPS),
    own("percent", "p%41", "%zz %41 %"),
    own("no ASCII", "ünï ✓", "水は🌊", NOT_HTTPS),
    Row("no ASCII over HTTPS", headers=[("iothub-app-a", "水".encode())], batch=json.dumps({"iothub-app-a": "水"}), refused=("https", "batch")),
    own("tab and line end", "lines", "a\tb\r\nc", NOT_HTTPS),
    Row("line end over HTTPS", batch=json.dumps({"iothub-app-a": "a\r\nb"}), refused=("batch",)),
    own("long", "long", "x" * 4000),
    # A name without `=` is as good as empty in the stream; what is null in AMQP stays null.
    Row("bare", bag="bare", application={"bare": ""}),
    Row("null", batch='{"iothub-app-null": null}', amqp=({}, {"null": None}, {}), application={"null": None}),
    Row(
        "twice",
        bag="a=1&b=2&a=3",
        five=({}, [("@a", "1"), ("@b", "2"), ("@a", "3")]),
        headers=[("iothub-app-a", "1"), ("iothub-app-b", "2"), ("iothub-app-a", "3")],
        # A member that comes twice is refused in every body.
        batch='{"iothub-app-a": "1", "iothub-app-b": "2", "iothub-app-a": "3"}',
        application={"a": "3", "b": "2"},
        refused=("batch",),
    ),
    Row(
        "a system property twice",
        bag="%24.mid=1&$.mid=3",
        five=({}, [("message-id", "1"), ("message-id", "3")]),
        headers=[("iothub-messageid", "1"), ("IoTHub-MessageId", "3")],
        batch='{"iothub-messageid": "1", "IoTHub-MessageId": "3"}',
        system={"message-id": "3"},
    ),
    # Both names mean one property: there is one in the stream.
    Row(
        "one property by two names",
        bag=f"iothub-creation-time-utc=1&{bag_of('$.ctime', CREATED)}",
        five=({}, [("@iothub-creation-time-utc", "1"), ("creation-time", str(CREATED_MILLIS))]),
        headers=[("iothub-app-iothub-creation-time-utc", "1"), ("iothub-creation-time-utc", CREATED)],
        batch=json.dumps({"iothub-app-iothub-creation-time-utc": "1", "iothub-creation-time-utc": CREATED}),
        application={"iothub-creation-time-utc": CREATED},
    ),
    Row("a header that is none of ours", headers=[("x-mine", "ü".encode()), ("iothub-app-a", "1")], application={"a": "1"}),
    typed("int", types.AMQPInt(-7), -7),
    typed("uint", types.AMQPuInt(7), 7),
    typed("ulong", types.AMQPuLong(7), 7),
    typed("uuid", uuid.UUID(int=1), str(uuid.UUID(int=1))),
    typed("bool", True),
    typed("double", 1.5),
    typed("timestamp", timestamp(CREATED_MILLIS), CREATED_MILLIS),
    typed("binary", bytearray(b"\x00\xff"), b"\x00\xff"),
    typed("symbol", types.AMQPSymbol(b"sym"), "sym"),
]


# To devices.


@dataclass(frozen=True)
class Command:
    """What a service says of a message over AMQP, and how each door to devices spells it."""

    name: str
    amqp: tuple[dict, dict, dict]
    # MQTT 3.1.1: the parts of the bag, as they stand in the topic, but for `$.to`.
    bag: tuple[str, ...] = ()
    # MQTT 5: properties of the standard, and user properties.
    five: tuple[dict, list] = ({}, [])
    # HTTPS: headers.
    headers: tuple[tuple[str, str], ...] = ()
    # AMQP: the properties section, application properties, and annotations.
    out: tuple[dict, dict, dict] = ({}, {}, {})


def escaped(value: str) -> str:
    return quote(value, safe="-._~")


def header_text(value: str) -> str:
    """As it is where a header can carry it, else as it stands in a topic."""
    carried = value.isascii() and value.isprintable() and value == value.strip()
    return value if carried else escaped(value)


def header_name(name: str) -> str:
    carried = name.isascii() and all(letter.isalnum() or letter in "!#$%&'*+-.^_`|~" for letter in name)
    return f"iothub-app-{name if carried else escaped(name)}"


def given(name: str, value: str, short: str, header: tuple[str, ...], field_: str, five=None) -> Command:
    """A system property of the properties section."""
    return Command(
        name,
        ({field_: value}, {}, {}),
        (f"%24.{short}={escaped(value)}",),
        five or ({}, [(name, value)]),
        tuple((one, value) for one in header),
        ({field_: value}, {}, {}),
    )


def among(name: str, value: str, key: str, header: str, five=None) -> Command:
    """A system property that stands among those of the application in AMQP."""
    return Command(
        name,
        ({}, {name: value}, {}),
        (f"{key}={escaped(value)}",),
        five or ({}, [(f"@{name}", value)]),
        ((header, value),),
        ({}, {name: value}, {}),
    )


def noted(name: str, value: str, short: str, header: str) -> Command:
    """A system property that stands in an annotation in AMQP."""
    return Command(
        name,
        ({}, {}, {name: value}),
        (f"%24.{short}={escaped(value)}",),
        ({}, [(f"@{name}", value)]),
        ((header, value),),
        ({}, {}, {name: value}),
    )


def app(case: str, name: str, value, found: str | None = None) -> Command:
    """A property of the application; `found` is its text where it came as no text."""
    found = value if found is None else found
    return Command(
        case,
        ({}, {name: value}, {}),
        (f"{escaped(name)}={escaped(found)}",),
        ({}, [(f"@{name}", found)]),
        ((header_name(name), header_text(found)),),
        ({}, {name: found}, {}),
    )


TO_DEVICES = [
    Command("nothing", ({}, {}, {})),
    given("message-id", "m:1.%2F+#", "mid", ("iothub-messageid",), "message_id"),
    given("correlation-id", "c/1 +", "cid", ("iothub-correlationid",), "correlation_id"),
    given("user-id", "u@1", "uid", ("iothub-userid",), "user_id"),
    given(
        "content-type",
        "application/json;charset=utf-8",
        "ct",
        ("iothub-contenttype", "ContentType"),
        "content_type",
        ({"content-type": b"application/json;charset=utf-8"}, []),
    ),
    given("content-encoding", "utf-8", "ce", ("iothub-contentencoding", "ContentEncoding"), "content_encoding"),
    Command(
        "absolute-expiry-time",
        ({"absolute_expiry_time": EXPIRES_MILLIS}, {}, {}),
        (f"%24.exp={escaped(EXPIRES)}",),
        # The preview names none; what is in the message has to come out of it all the same.
        ({"message-expiry-interval": True}, []),
        (("iothub-expiry", EXPIRES),),
        ({"absolute_expiry_time": EXPIRES_MILLIS}, {}, {}),
    ),
    among("iothub-ack", "full", "iothub-ack", "iothub-ack"),
    Command(
        "iothub-ack none",
        ({}, {"iothub-ack": "none"}, {}),
        ("iothub-ack=none",),
        ({}, [("@iothub-ack", "none")]),
        (("iothub-ack", "none"),),
        ({}, {"iothub-ack": "none"}, {}),
    ),
    among("iothub-message-schema", "order-v2", "%24.schema", "iothub-messageschema"),
    among("iothub-operation", "op", "iothub-operation", "iothub-operation"),
    among("iothub-creation-time-utc", CREATED, "%24.ctime", "iothub-creationtimeutc", ({}, [("creation-time", str(CREATED_MILLIS))])),
    # .NET parses seven digits and `Z` only, and ends the connection over anything else.
    Command(
        "iothub-creation-time-utc in short",
        ({}, {"iothub-creation-time-utc": "2030-01-02T03:04:05Z"}, {}),
        ("%24.ctime=2030-01-02T03%3A04%3A05.0000000Z",),
        ({}, [("creation-time", "1893553445000")]),
        (("iothub-creationtimeutc", "2030-01-02T03:04:05Z"),),
        ({}, {"iothub-creation-time-utc": "2030-01-02T03:04:05Z"}, {}),
    ),
    noted("iothub-interface-id", "urn:x:1", "ifid", "iothub-interface-id"),
    noted("dt-subject", "part", "sub", "dt-subject"),
    app("plain", "room", "7"),
    app("case", "RoomNo", "Seven"),
    app("empty", "empty", ""),
    Command(
        "null",
        ({}, {"null": None}, {}),
        ("null",),
        ({}, [("@null", "")]),
        (("iothub-app-null", ""),),
        ({}, {"null": None}, {}),
    ),
    app("blank inside", "blank", "a  b"),
    app("blanks around", "blank", " a "),
    app("token", "!#$%&'*+-.^_`|~", "!#$%&'*+-.^_`|~"),
    app("reserved", "p", "\"(),/:;<=>?@[\\]{}"),
    app("reserved in a name", "\"(),/:;<=>?@[\\]{}", "v"),
    app("no ASCII", "ünï ✓", "水は🌊"),
    app("tab and line end", "lines", "a\tb\r\nc"),
    app("a name of the system", "$.mid", "mine"),
    app("typed int", "typed", types.AMQPInt(-7), "-7"),
    app("typed bool", "typed", True, "true"),
    app("typed double", "typed", 1.5, "1.5"),
    app("typed timestamp", "typed", timestamp(CREATED_MILLIS), CREATED),
    app("typed binary", "typed", bytearray(b"\x00\xff"), "AP8="),
]
