"""`triggers`, and `python -m triggers`: the command line, quiet from its first moment on."""

import signal


def main() -> None:
    """Load the command line and run it.

    An interrupt while it loads ends the process at once: as an exception it would come up from the
    middle of some module, of those written in C even as an error of theirs. Where interrupts are
    ignored, as in the background of a script, they stay so.
    """
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from triggers import cli  # noqa: PLC0415 - what takes the time

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
