"""What an endpoint tells of itself: metrics through Serve, and a line in the log for each request."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter as Counts

from ray.serve.metrics import Counter, Histogram

_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60]
_ROWS = [1.0, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000]

_SECONDS_BETWEEN_REPORTS = 1.0

_log = logging.getLogger("ray.serve")


class Observer:
    """Counts requests, rows and passes, and writes the access log.

    Counts and lines of requests are reported together, once a second: one at a time they take Serve longer
    than a prediction.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._by_status: Counts[str] = Counts()
        self._by_reason: Counts[str] = Counts()
        self._num_rows = 0
        self._requests = Counter("lstmfcn_requests", "Requests answered.", tag_keys=("status",))
        self._refused = Counter("lstmfcn_refused", "Requests refused, by reason.", tag_keys=("reason",))
        self._rows = Counter("lstmfcn_rows", "Rows predicted.")
        self._seconds = Histogram(
            "lstmfcn_request_seconds", "Time from request to answer, in seconds.", boundaries=_SECONDS
        )
        self._pass_rows = Histogram(
            "lstmfcn_pass_rows", "Rows that were predicted together.", boundaries=_ROWS
        )
        self._waited = Histogram(
            "lstmfcn_queue_seconds", "Longest wait of a row before its pass, in seconds.", boundaries=_SECONDS
        )

    def note_request(
        self, request_id: str, method: str, path: str, status: int, reason: str, rows: int, seconds: float
    ) -> None:
        """Note that a request was answered, or refused for a reason."""
        self._seconds.observe(seconds)
        self._by_status[str(status)] += 1
        if reason:
            self._by_reason[reason] += 1
        self._num_rows += rows
        line = {
            "time": round(time.time(), 3),
            "request_id": request_id,
            "method": method,
            "path": path,
            "status": status,
            "reason": reason,
            "rows": rows,
            "ms": round(1000 * seconds, 2),
        }
        self._lines.append(json.dumps(line))
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_later(_SECONDS_BETWEEN_REPORTS, self.report)

    def report(self) -> None:
        """Report the requests since the last report."""
        lines, self._lines = self._lines, []
        by_status, self._by_status = self._by_status, Counts()
        by_reason, self._by_reason = self._by_reason, Counts()
        num_rows, self._num_rows = self._num_rows, 0
        for status, count in by_status.items():
            self._requests.inc(count, tags={"status": status})
        for reason, count in by_reason.items():
            self._refused.inc(count, tags={"reason": reason})
        if num_rows:
            self._rows.inc(num_rows)
        if lines:
            _log.info("requests\n%s", "\n".join(lines))

    def note_pass(self, rows: int, waited: float) -> None:
        """Note that `rows` go through the network together, one of which has waited `waited` seconds."""
        self._pass_rows.observe(rows)
        self._waited.observe(waited)
