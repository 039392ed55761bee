"""The DVC remote where there is neither repository nor DVC: objects by digest, from an address.

A pod that serves needs files of known digests and nothing else of DVC. DVC's own storage layer
(dvc-objects, and a package for each kind of remote) brings them at a fortieth of DVC's weight.
Credentials are found as DVC finds them: in the environment, or in the cloud's own files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coalmine.errors import InputError, NotFound, RemoteUnavailable, Unsupported
from coalmine.registry.faults import is_machine_fault, machine_fault

# Where DVC 3 keeps what it knows by md5, below the remote's address.
_OBJECTS = ("files", "md5")


class Remote:
    """The DVC remote at `url`, as `dvc remote add` takes it; not asked for anything yet.

    Raises:
        Unsupported: a kind of remote whose package is not installed, or that DVC does not know.
        InputError: an address that this kind of remote cannot read.
    """

    def __init__(self, url: str) -> None:
        # Here and not above: only a pod's first step needs it.
        from dvc_objects.fs import known_implementations, registry

        scheme = urlsplit(url).scheme
        self.shown = _without_secrets(url)
        if scheme not in ("", "file", *known_implementations):
            raise Unsupported(
                f"DVC knows no remote like {self.shown}. It knows: {', '.join(sorted(known_implementations))}"
            )
        try:
            kind = registry[scheme]  # no scheme, or "file": a folder
        except ImportError as error:
            raise Unsupported(
                f"{self.shown}: {error}. Name it in requirements-serving.txt and build the image anew"
            ) from error
        try:
            # WebDAV's file system starts at the address itself; the others take it for a path.
            webdav = kind.protocol in ("webdav", "webdavs")
            self._root: str = kind.root_marker if webdav else kind._strip_protocol(url)
            self._files: Any = kind(**{**kind._get_kwargs_from_urls(url), **({"url": url} if webdav else {})})
        except Exception as error:  # every kind has a library of its own, with errors of its own
            raise InputError(f"{self.shown} is no address of a DVC remote: {error}") from error

    def fetch(self, md5: str, into: Path) -> None:
        """The object with DVC's digest `md5` as the file `into`, which may be left unfinished.

        Raises:
            NotFound: the remote answers, and does not have it.
            RemoteUnavailable: safe to repeat.
            MachineUnready: this machine's disk or rights.
        """
        place = self._files.join(self._root, *_OBJECTS, md5[:2], md5[2:])
        try:
            self._files.get_file(place, str(into))
        except FileNotFoundError as error:
            self._require_root()
            raise NotFound(
                f"The DVC remote {self.shown} has no object {md5}. Whoever made the release must push it: "
                "dvc push"
            ) from error
        except Exception as error:
            if isinstance(error, OSError) and is_machine_fault(error) and _is_about(error, into):
                raise machine_fault(error, into) from error
            raise self._unavailable(error) from error

    def _require_root(self) -> None:
        """A folder that is not mounted has nothing, and that says nothing of the release."""
        if self._files.protocol == "local" and not Path(self._root, *_OBJECTS).is_dir():
            raise self._unavailable("there is no DVC remote in that folder. Is it mounted?")

    def _unavailable(self, why: object) -> RemoteUnavailable:
        return RemoteUnavailable(
            f"The DVC remote {self.shown} cannot be reached. Run again when it is back: {why}"
        )


def _without_secrets(url: str) -> str:
    """`url` for messages: credentials before the host, and signed queries, are nobody's to read."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _is_about(error: OSError, into: Path) -> bool:
    """Whether it is the target that cannot be written, rather than a source that cannot be read."""
    return error.filename is None or str(error.filename) == str(into) or error.filename2 == str(into)
