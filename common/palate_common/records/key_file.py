"""Key files: a signing key on disk, which nobody but its owner may read.

>>> import tempfile
>>> path = Path(tempfile.mkdtemp(), "key")
>>> key = SigningKey.generate()
>>> save_key(key, path)
>>> load_key(path).public == key.public
True
"""

from __future__ import annotations

from pathlib import Path

from palate_common.records.files import create_durably
from palate_common.system import others_may_read
from palate_core.errors import InputError
from palate_core.log.signing import MOST_KEY, SigningKey


def load_key(path: Path | str) -> SigningKey:
    """Read a key that `save_key` wrote (PKCS #8, PEM).

    Raises:
        InputError: no such file, not an Ed25519 key, or others than its owner may read it.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            data = file.read(MOST_KEY + 1)
    except OSError as error:
        raise InputError(f"`key` must be a readable key file, got {path}: {error.strerror}") from None
    if others_may_read(mode):
        raise InputError(f"`key` must be readable by its owner alone, got mode {mode & 0o777:o}: chmod 600 {path}")
    try:
        return SigningKey.from_pem(data)
    except InputError as error:
        raise InputError(f"{error}: {path}") from None


def save_key(key: SigningKey, path: Path | str) -> None:
    """Write the key as PKCS #8 PEM, mode 0600: either the whole file appears, on disk, or none.

    Raises:
        InputError: the file exists (a key is never overwritten), or the folder can't be written.
    """
    path = Path(path)
    try:
        create_durably(path, key.to_pem(), mode=0o600)
    except FileExistsError:
        raise InputError(f"`key` must be a new file, got {path}, which exists: keys are not overwritten") from None
    except OSError as error:
        raise InputError(f"`key` must be in a writable folder, got {path}: {error.strerror}") from None
