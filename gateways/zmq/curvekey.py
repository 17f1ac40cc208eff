"""The native door's own CURVE keys: clients know its public one beforehand.

Reads   systemd's credential, or the file; makes the file at the first start.
"""

from __future__ import annotations

import os
from pathlib import Path

import zmq

from shm.config import Config
from shm.files import DataError, create_file


def curve_key(config: Config) -> tuple[bytes, bytes]:
    """The gateway's own key pair: (public, secret), made at the first start, 0600.

    systemd's credential of the same name goes before the file.
    """
    path = config.curve_key_path
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "")) / path.name
    if "CREDENTIALS_DIRECTORY" in os.environ and not config.zmq.key and credential.exists():
        path = credential
    if not path.exists():
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        create_file(path, b"%b\n%b\n" % zmq.curve_keypair())
    pair = path.read_bytes().split()
    if len(pair) != 2:
        raise DataError(
            f"{path}: {len(pair)} lines, must be two, the public key and the secret one. Put a "
            "copy there, or remove it: the next start makes another pair, and clients need to "
            "know its public key"
        )
    return pair[0], pair[1]
