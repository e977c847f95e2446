"""Entry point of `triggers` and `python -m triggers`."""

import signal


def main() -> None:
    """Load the command line and run it.

    An interrupt while modules are imported ends the process at once. As an exception it would be raised
    in the middle of some import, and a module written in C could turn it into another error. Interrupts
    that are ignored, as in the background of a script, stay ignored.
    """
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from triggers import cli  # noqa: PLC0415 - the import takes long

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
