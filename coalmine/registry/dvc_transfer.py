"""Objects from one of DVC's stores to another, and why some did not get there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from coalmine.errors import NotFound, RemoteUnavailable
from coalmine.registry.faults import is_machine_fault, machine_fault, without_credentials

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo


def transfer_objects(
    source: Any, destination: Any, objects: set[HashInfo], repo: Repo, **indexes: Any
) -> None:
    """
    Raises:
        NotFound: neither side has it.
        MachineUnready: this machine's disk or rights.
        RemoteUnavailable: anything else that went wrong.
    """
    from dvc_data.hashfile.transfer import transfer

    missing: set[HashInfo] = set()
    with _errors_logged_by("dvc_data.hashfile.transfer") as errors:
        failed = transfer(
            source,
            destination,
            objects,
            cache_odb=repo.cache.local,
            validate_status=lambda status: missing.update(status.missing),
            **indexes,
        ).failed
    if missing:
        shown = ", ".join(sorted(found.value for found in missing)[:5])
        raise NotFound(
            f"{len(missing)} files are neither on this machine nor on the DVC remote ({shown}). "
            "Whoever made them must push them: dvc push. Or make them again: dvc repro"
        )
    for error in errors:
        if isinstance(error, OSError) and is_machine_fault(error):
            raise machine_fault(error, destination.path) from error
    if failed:
        why = f": {errors[0]}" if errors else ""
        way = without_credentials(f"from {source.path} to {destination.path}{why}")
        raise RemoteUnavailable(f"{len(failed)} files did not get {way}. Run again")


@contextmanager
def _errors_logged_by(name: str) -> Iterator[list[BaseException]]:
    """DVC goes on after a failed file and only logs why: here is why."""
    errors: list[BaseException] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                errors.append(record.exc_info[1])

    logger, handler = logging.getLogger(name), Collect(logging.ERROR)
    propagate, logger.propagate = logger.propagate, False  # the error that is raised says it once
    logger.addHandler(handler)
    try:
        yield errors
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
