"""What is in a folder, to be compared with what is in it later."""

import os
from pathlib import Path


def contents(folder, leave_out=(".lock",)):
    """Everything in a folder: bytes of files, targets of links, and that folders are there."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(top) / name
            if name in leave_out:
                continue
            if path.is_symlink():
                found[path] = path.readlink()
            else:
                found[path] = path.read_bytes() if path.is_file() else None
    return found
