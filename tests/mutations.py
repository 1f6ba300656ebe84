"""Requests to the endpoint, most of them broken."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from tests.samples import LENGTH


def mutated(body: bytes, random: Random) -> bytes:
    """Return a body with a few bytes changed, taken out or put in."""
    changed = bytearray(body)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(changed))
        piece = random.choice(
            [b"", b"\0", b'"', b",", b"\r", b"\n\n", b"nan", b"1e999", b"\xff\xfe", b"-", b"\x1f\x8b"]
        )
        changed[at : at + random.randint(0, 3)] = piece
    return bytes(changed)


CELLS = st.one_of(
    st.floats(width=32).map(str),
    st.sampled_from(["", "1", ".5", "-0", '"2"', " 3 ", "1e39", "1_0", "0x1F", "nan", "x", '"', "\ufeff"]),
)
ROWS = st.lists(CELLS, min_size=LENGTH - 1, max_size=LENGTH + 1).map(",".join)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.lists(ROWS, max_size=3).flatmap(
        lambda rows: st.sampled_from(["\n", "\r\n", "\r", "\n\n"]).map(lambda end: end.join(rows).encode())
    ),
    st.lists(st.lists(st.floats(-1e30, 1e30), min_size=LENGTH, max_size=LENGTH), min_size=1, max_size=3).map(
        lambda rows: "\n".join(",".join(map(str, row)) for row in rows).encode()
    ),
)

HEADERS: dict[bytes, list[bytes]] = {
    b"Content-Type": [b"text/csv; charset=\xff", b"", b"application/json", b"text/csv, text/csv", b";"],
    b"Content-Encoding": [b"identity", b"gzip", b"\xff", b""],
    b"Accept": [b"text/csv;q=0", b"*/*;q=x", b",,;", b"application/json", b"\xff/\xff", b"text/*"],
    b"X-Amzn-SageMaker-Custom-Attributes": [
        b"columns=",
        b"columns=\xff",
        b";=;",
        b"columns=label",
        b"a" * 2000,
    ],
    b"X-Amzn-SageMaker-Inference-Id": [b"", b"\xe9", b"=" * 500],
    b"X-Request-Id": [b"", b"x" * 500, b"\xff"],
    b"X-Request-Timeout-Seconds": [b"1e-9", b"\xff"],
    b"X-Request-Disconnect-Disabled": [b"?1", b"\xff"],
    b"X-Session-Id": [b"\xff"],
    b"X_Session_Id": [b"\xff"],
    b"serve_multiplexed_model_id": [b"\xff"],
    b"Authorization": [b"", b"Bearer", b"AWS4-HMAC-SHA256 Credential=\xff"],
    b"Range": [b"bytes=5-", b"-"],
    b"Expect": [b"100-continue"],
    b"Upgrade": [b"websocket", b"h2c"],
}
