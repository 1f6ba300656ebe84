from __future__ import annotations

from pathlib import Path

import pytest
from starlette.datastructures import Headers

from lstmfcn.errors import DataError
from serve_app.access import VARIABLE, ApiKeys

KEY, NEXT = "0123456789abcdef", "fedcba9876543210"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Authorization": f"Bearer {KEY}"}, True),
        ({"authorization": f"bearer  {NEXT} "}, True),
        ({"X-Api-Key": NEXT}, True),
        ({"X-Api-Key": KEY, "Authorization": "AWS4-HMAC-SHA256 Credential=..."}, True),
        ({"X-Api-Key": KEY, "Authorization": "Bearer of a gateway"}, True),
        ({"X-Api-Key": KEY[:-1]}, False),
        ({"Authorization": f"Basic {KEY}"}, False),
        ({"X-Api-Key": "é"}, False),
        ({}, False),
    ],
)
def test_one_of_the_keys_opens(headers: dict[str, str], allowed: bool) -> None:
    assert ApiKeys([KEY, NEXT]).allow(Headers(headers)) == allowed


def test_without_keys_everybody_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)

    assert ApiKeys.read(None).allow(Headers({}))


def test_keys_come_from_a_file_or_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"  # until May\n{KEY} # Alice\n\n{NEXT}\n")
    monkeypatch.setenv(VARIABLE, f"{KEY}, {NEXT}")

    for keys in (ApiKeys.read(str(path)), ApiKeys.read(None)):
        assert len(keys) == 2
        assert keys.allow(Headers({"X-Api-Key": NEXT}))


def test_the_byte_order_mark_of_an_editor_is_no_part_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{KEY}\n", encoding="utf-8-sig")

    assert ApiKeys.read(str(tmp_path / "keys")).allow(Headers({"X-Api-Key": KEY}))


@pytest.mark.parametrize("text", ["", " , "])
def test_a_variable_that_holds_no_key_opens_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)

    with pytest.raises(DataError, match=r"^LSTMFCN_API_KEYS holds no API key; unset it to let everybody ask"):
        ApiKeys.read(None)


def test_keys_that_protect_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")

    with pytest.raises(DataError, match=r"keys holds no API key; write one a line$"):
        ApiKeys.read(str(tmp_path / "keys"))
    with pytest.raises(DataError, match=r"^an API key has fewer than 16 characters; make one by: openssl"):
        ApiKeys(["secret"])
    with pytest.raises(DataError, match=r"^an API key has a character that isn't printable ASCII"):
        ApiKeys(["0123456789abcdefé"])
    with pytest.raises(DataError, match=r"none does not exist$"):
        ApiKeys.read(str(tmp_path / "none"))
