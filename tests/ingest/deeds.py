"""What a codec may do to its process; in a file that processes import at once, so that tests do not time imports."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Sequence

from medssl.errors import UserError


def obey(chunk: Sequence[object]) -> list[tuple[object, str]]:
    """What a codec may do to its process."""
    for item in chunk:
        if item == "segfault":
            ctypes.string_at(0)
        elif item == "abort":
            os.write(2, b"Jane")
            os.abort()
        elif item == "hang":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            time.sleep(1000)
        elif item == "eat":
            bytearray(1 << 45)
        elif item == "refuse":
            raise UserError("no", "here", "never")
    return [(item, "done") for item in chunk]
