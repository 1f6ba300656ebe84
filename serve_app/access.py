"""API keys: who may ask for predictions."""

from __future__ import annotations

import hashlib
import hmac
import os

from starlette.datastructures import Headers

from lstmfcn import storage
from lstmfcn.errors import DataError

VARIABLE = "LSTMFCN_API_KEYS"
_SHORTEST = 16


class ApiKeys:
    """The keys of an endpoint. A request must carry one of them, as `Authorization: Bearer <key>` or as
    `X-Api-Key: <key>`; without any keys everybody may ask.
    """

    def __init__(self, keys: list[str]) -> None:
        """Raises DataError for a key that is too short to be safe, or that no header can carry."""
        if any(len(key) < _SHORTEST for key in keys):
            raise DataError(
                f"an API key has fewer than {_SHORTEST} characters; make one by: openssl rand -hex 32"
            )
        if not all(key.isascii() and key.isprintable() for key in keys):
            raise DataError(
                "an API key has a character that isn't printable ASCII; a header can carry no others"
            )
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def read(cls, path: str | None) -> ApiKeys:
        """Read keys from a file, one a line with comments after `#`, or without a path from the environment,
        where commas separate them.

        Raises DataError when a file or variable is given that has no key, or one that can't be used.
        """
        if path is None:
            if VARIABLE not in os.environ:
                return cls([])
            keys = [key.strip() for key in os.environ[VARIABLE].split(",") if key.strip()]
            if not keys:
                raise DataError(f"{VARIABLE} holds no API key; unset it to let everybody ask")
            return cls(keys)
        lines = storage.read_bytes(storage.location(path)).decode("utf-8-sig", errors="replace").splitlines()
        keys = [key for line in lines if (key := line.partition("#")[0].strip())]
        if not keys:
            raise DataError(f"{path} holds no API key; write one a line")
        return cls(keys)

    def __len__(self) -> int:
        return len(self._digests)

    def allow(self, headers: Headers) -> bool:
        """Return whether a request may be answered; this takes the same time whichever key is right."""
        if not self._digests:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        carried = [_digest(key) for key in (bearer, headers.get("x-api-key", ""))]
        return sum(hmac.compare_digest(one, known) for one in carried for known in self._digests) > 0


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
