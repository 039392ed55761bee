"""Every error that coalmine raises on purpose, as one tree.

The type says what the caller should do; the message says what happened, where, and
how to mend it. A failed gate is a verdict, not an error.

    CoalmineError
    ├── InputError               mend the input and run again; nothing was changed   exit 2
    │   ├── SpecError              a YAML file that people write
    │   ├── DataRefused            rows or partitions that break the dataset's schema
    │   ├── RepositoryUnready      Git: not a repository, dirty, detached HEAD, no remote
    │   ├── NotFound               a model, version, rollout, or environment nobody knows
    │   └── Unsupported            this technology cannot do what was asked
    ├── MachineUnready           mend this machine and run again                     exit 3
    │                              (port in use, no Envoy, disk full, missing program)
    ├── Unavailable              run again later; every step is safe to repeat       exit 4
    │   ├── RouterUnavailable
    │   ├── TelemetryUnavailable
    │   ├── ReconcilerUnavailable
    │   ├── JournalUnavailable     where a rollout's state lies
    │   ├── RemoteUnavailable      the Git or DVC remote
    │   ├── ReviewAwaited          a pull request that nobody has merged yet
    │   ├── ServerUnavailable      a model server that died, or is not ready in time
    │   └── NotYetAdmitted         the environment takes the release later, and says from when on
    ├── Conflict                 somebody else is at it: look before you run again   exit 5
    │   ├── AlreadyRunning         another retraining or rollout of this model
    │   ├── RouteConflict          another hand on the route
    │   └── PushRejected           the Git remote moved on and the two cannot be joined
    └── IntegrityError           stop: bytes are not what the record says            exit 6

A rollout that ends rolled back or aborted is no error: its commands exit with 1.
"""


class CoalmineError(Exception):
    """What happened, where, and how to mend it, in words for people."""

    exit_code = 70


class InputError(CoalmineError):
    exit_code = 2


class SpecError(InputError):
    pass


class DataRefused(InputError):
    pass


class RepositoryUnready(InputError):
    pass


class NotFound(InputError):
    pass


class Unsupported(InputError):
    pass


class MachineUnready(CoalmineError):
    exit_code = 3


class Unavailable(CoalmineError):
    exit_code = 4


class RouterUnavailable(Unavailable):
    pass


class TelemetryUnavailable(Unavailable):
    pass


class ReconcilerUnavailable(Unavailable):
    pass


class JournalUnavailable(Unavailable):
    pass


class RemoteUnavailable(Unavailable):
    pass


class ReviewAwaited(Unavailable):
    pass


class ServerUnavailable(Unavailable):
    pass


class NotYetAdmitted(Unavailable):
    pass


class Conflict(CoalmineError):
    exit_code = 5


class AlreadyRunning(Conflict):
    pass


class RouteConflict(Conflict):
    pass


class PushRejected(Conflict):
    pass


class IntegrityError(CoalmineError):
    exit_code = 6
