"""The folder in which an engine keeps its data: no two may write over each other's."""

import os
from pathlib import Path

from ..exceptions import ConfigurationError

__all__ = ["claim"]


def claim(folder: Path) -> int:
    """Have a folder for one engine alone, made if it is not there.

    Returns:
        A file descriptor. Whoever holds it, or inherits it, has the folder.

    Raises:
        ConfigurationError: the engine of another server has it, or it cannot be used.
    """
    import fcntl  # which Windows lacks, as it lacks the programs

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise _unusable(folder, error) from error
    return descriptor


def _unusable(folder: Path, error: OSError) -> ConfigurationError:
    if isinstance(error, BlockingIOError):
        return ConfigurationError(
            f"the engine of another server keeps its data in {folder}: give each its own folder"
        )
    return ConfigurationError(f"{folder} cannot hold the engine's data: {error.strerror}")
