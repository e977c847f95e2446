"""Forms as multipart/form-data: as browsers send them, and as nobody should."""

from __future__ import annotations

import pytest

from triggers.console.multipart import MOST_FIELDS, fields_of
from triggers.errors import Invalid

TYPE = b"multipart/form-data; boundary=----WebKitFormBoundaryX"


def form(*fields: tuple[str, str]) -> bytes:
    parts = [
        f'------WebKitFormBoundaryX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    return ("".join(parts) + "------WebKitFormBoundaryX--\r\n").encode()


def test_fields_of_a_browser() -> None:
    body = form(("type", "order.paid"), ("payload", '{\r\n  "ü": "a=b&c"\r\n}'), ("empty", ""))
    assert fields_of(body, TYPE) == {"type": "order.paid", "payload": '{\n  "ü": "a=b&c"\n}', "empty": ""}
    assert fields_of(b"------WebKitFormBoundaryX--\r\n", TYPE) == {}
    assert len(fields_of(form(*((str(n), "") for n in range(MOST_FIELDS))), TYPE)) == MOST_FIELDS


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (form(("a", "b")), b"multipart/form-data"),
        (form(("a", "b")), b"multipart/form-data; boundary=other"),
        (form(("a", "b")), b"multipart/form-data; boundary=" + b"x" * 71),
        (form(("a", "b"))[:-6], TYPE),
        (b"x" + form(("a", "b")), TYPE),
        (b"", TYPE),
        (form(("a", "b")).replace(b"\r\n\r\n", b"\r\n"), TYPE),
        (form(("a", "b")).replace(b"name=", b"nome="), TYPE),
        (form(("a", "b")).replace(b"\r\nb\r\n", b"\r\n\xff\r\n"), TYPE),
        (form(*((str(n), "") for n in range(MOST_FIELDS + 1))), TYPE),
    ],
    ids=[
        "no boundary",
        "another boundary",
        "a long boundary",
        "cut",
        "text before",
        "nothing",
        "no empty line",
        "no name",
        "not UTF-8",
        "too many",
    ],
)
def test_everything_else_is_refused(body: bytes, media_type: bytes) -> None:
    with pytest.raises(Invalid):
        fields_of(body, media_type)
