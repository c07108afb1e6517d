"""Run a program's main function; a user's error ends in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from speechbrain_ext.utils.errors import InputError


def run(main: Callable[..., Any]) -> None:
    """Call a recipe's ``main``; an `InputError` is one line and status 2."""
    try:
        main()
    except InputError as error:
        # An error in a loader's worker arrives inside its traceback.
        text = str(error).split("InputError: ")[-1].strip()
        print(f"error: {text}", file=sys.stderr)
        sys.exit(2)
    finally:
        _leave_processes()


def _leave_processes() -> None:
    """End the group of processes that a training has joined, if any."""
    # What has not imported torch is in no group, and need not import it now.
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available():
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
