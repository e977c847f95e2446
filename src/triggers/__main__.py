"""Entry point of `triggers` and `python -m triggers`."""

import io
import os
import signal
import sys


def main() -> None:
    """Load the command line and run it.

    An interrupt while modules are imported ends the process at once. As an exception it would be raised
    in the middle of some import, and a module written in C could turn it into another error. Interrupts
    that are ignored, as in the background of a script, stay ignored.
    """
    _prepare_streams()
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from triggers import cli  # noqa: PLC0415 - the import takes long

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


def _prepare_streams() -> None:
    """Make the standard streams usable, even if the environment closed them.

    A closed stream becomes /dev/null. Otherwise the next file or socket would get its descriptor. Characters
    that the encoding of the output does not have are escaped.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
