"""Commands that tests start in processes of their own."""

import signal


def catch_ctrl_c() -> None:
    """For a child's `preexec_fn`: where tests run in the background, SIGINT is ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
