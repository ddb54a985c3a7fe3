"""The files of one folder: which may be read, and the digest of what was read."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import islice

from ..services import environment_file
from ..services.environment_file import EnvironmentFileError
from .document import UnreadableFile, decode

MAX_SIZE = 256 << 10  # bytes
MAX_FILES = 50
MAX_FOLDERS = 100  # that are looked at in one


class FolderFiles:
    """Reads regular files whose real path is within the folder, and keeps their content: each is read once.

    Args:
        folder: its real path.

    Attributes:
        watched: the paths whose existence or content mattered, relative to the folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.watched: dict[str, None] = {}  # in the order of the look-ups
        self._contents: dict[str, bytes] = {}

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal over the names and bytes of what was read."""
        hash_ = sha256()
        for path, content in sorted(self._contents.items()):
            hash_.update(b"%d %d\n" % (len(name := os.fsencode(path)), len(content)) + name + content)
        return hash_.hexdigest()

    def exists(self, path: str) -> bool:
        """True if there is something under this name, readable or not."""
        self.watched[path] = None
        return os.path.lexists(os.path.join(self.folder, path))

    def list_folders(self, path: str) -> list[str]:
        """The names of the folders in a folder, sorted; none if it cannot be read, or leads out of the folder."""
        self.watched[path] = None
        real = os.path.realpath(os.path.join(self.folder, path))
        if not self._is_inside(real):
            return []
        try:
            with os.scandir(real) as entries:
                return sorted(entry.name for entry in islice(entries, MAX_FOLDERS) if entry.is_dir())
        except OSError:
            return []

    def locate(self, path: str, base: str = "") -> str:
        """A path that a file has, relative to the folder.

        Args:
            path: relative to `base`, or absolute.
            base: a folder relative to the folder.

        Raises:
            UnreadableFile: it leads out of the folder.
        """
        if "\0" in path:
            raise UnreadableFile("A file name has a NUL character.", "Remove it.")
        located = os.path.relpath(os.path.join(self.folder, base, path), self.folder).replace(os.sep, "/")
        if located == ".." or located.startswith("../"):
            raise UnreadableFile(f"'{path}' is outside of the folder.", "Move it into the folder.")
        return posixpath.normpath(located)

    def read(self, path: str) -> bytes:
        """The content of a file.

        Args:
            path: relative to the folder.

        Raises:
            UnreadableFile
        """
        self.watched[path] = None
        if path not in self._contents:
            if len(self._contents) >= MAX_FILES:
                raise UnreadableFile(f"There are more than {MAX_FILES} files to read.", "Use fewer.")
            try:
                self._contents[path] = self._read(os.path.join(self.folder, path))
            except UnicodeError:
                raise UnreadableFile("The file's name is not valid.", "Correct it.") from None
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise UnreadableFile(f"It cannot be read: {reason}.", "Correct its name or its permissions.") from None
        return self._contents[path]

    def read_text(self, path: str) -> str:
        """Raises: UnreadableFile"""
        return decode(self.read(path))

    def read_variables(self, path: str, insert: Callable[[str, Mapping[str, str]], str] | None = None) -> dict[str, str]:
        """The variables of a file in dotenv form.

        Args:
            insert: see `environment_file.parse`.

        Raises:
            UnreadableFile
        """
        try:
            return environment_file.parse(self.read(path), insert)
        except EnvironmentFileError as error:
            message = f"It has no variables that can be read: {error}."
            raise UnreadableFile(message, "Correct it; none of its variables is used.", error.line) from None

    def _read(self, path: str) -> bytes:
        real = os.path.realpath(path)
        if not self._is_inside(real):
            raise UnreadableFile("It is a symbolic link that leads out of the folder.", "Put the file itself into the folder.")
        self._check(os.stat(real))  # before it is opened: to open a device may have an effect
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        with open(os.open(real, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
            self._check(os.fstat(file.fileno()))
            content = file.read(MAX_SIZE + 1)
        if len(content) > MAX_SIZE:
            raise UnreadableFile(f"It has more than {MAX_SIZE >> 10} KiB.", "Make it smaller.")
        return content

    def _is_inside(self, real: str) -> bool:
        return real == self.folder or real.startswith(os.path.join(self.folder, ""))

    @staticmethod
    def _check(status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFile("It is not a regular file.", "Put a file in its place.")
        if status.st_size > MAX_SIZE:
            size = f"{status.st_size >> 10} KiB" if status.st_size < 10 << 20 else f"{status.st_size >> 20} MiB"
            raise UnreadableFile(f"It has {size}; at most {MAX_SIZE >> 10} KiB are read.", "Make it smaller.")
