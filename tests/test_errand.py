from __future__ import annotations

import os
import sys

from lstmfcn.errand import _lines, _started


def test_what_a_command_writes_is_shown_though_it_is_no_text() -> None:
    written = r"import os; os.write(1, b'one\n'); os.write(1, b'caf\xe9\n')"

    with _started([sys.executable, "-c", written], os.environ) as process:
        lines = list(_lines(process))

    assert lines == [("stdout", "one\n"), ("stdout", "caf\\xe9\n")]
