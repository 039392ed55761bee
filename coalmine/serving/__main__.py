"""`python -m coalmine.serving`: one model server from the command line to its exit status.

What goes wrong before it serves is one line on stderr and the error's own status.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from coalmine.errors import CoalmineError
from coalmine.serving.port import own_port, take_port
from coalmine.slots import Slot

if TYPE_CHECKING:
    from coalmine.manifest import Manifest
    from coalmine.serving.payloads import PayloadLog

DRAIN_S = 1.0  # longer than whoever routes to this server keeps an idle connection (`routers.xds`)


def main() -> int:
    arguments = _arguments()
    # Read when numpy, OpenMP and joblib load. Two OpenMP threads under load answer hundreds of
    # times slower than one.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
        os.environ[name] = "1"
    try:
        _serve(arguments)
    except CoalmineError as error:
        print(f"coalmine.serving: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


def _serve(arguments: argparse.Namespace) -> None:
    taken = own_port(arguments.host, arguments.port)
    at = arguments.copies_port
    copies = None if at is None else take_port(arguments.host, at, "--copies-port")
    # Here, since they load numpy and scikit-learn: a port in use is known without them, and the
    # environment must be set before.
    from coalmine.serving import logs
    from coalmine.serving.app import Serving
    from coalmine.serving.host import serve
    from coalmine.serving.release import load_release

    predictor = load_release(arguments.release)
    manifest = predictor.manifest
    logs.configure(manifest.model, manifest.version, arguments.slot.value, arguments.log_values)
    host, port = taken.getsockname()[:2]
    address = f"http://{host}:{port}"
    payloads = _payload_log(arguments, manifest, address)
    serve(
        lambda: Serving(predictor, arguments.slot, arguments.queue, payloads),
        taken,
        f"{manifest.model} {manifest.version} serves in slot {arguments.slot} at {address}",
        copies=copies,
        timeout_s=arguments.timeout_s,
        drain_s=arguments.drain_s,
    )


def _payload_log(arguments: argparse.Namespace, manifest: Manifest, address: str) -> PayloadLog | None:
    if arguments.payload_sink is None:
        return None
    from coalmine.serving.payloads import Origin, PayloadLog

    origin = Origin(manifest.model, manifest.version, arguments.slot.value, address)
    return PayloadLog(arguments.payload_sink, arguments.payload_sample, origin)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m coalmine.serving", description="Serve one release of one model."
    )
    parser.add_argument(
        "--release", type=Path, required=True, metavar="DIR", help="manifest.yaml, files/ and code/"
    )
    parser.add_argument(
        "--slot", type=Slot, choices=list(Slot), required=True, help="told in headers and metrics"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one and prints it")
    parser.add_argument(
        "--copies-port",
        type=int,
        metavar="N",
        help="where a proxy sends copies of users' requests, which are counted apart (default: none)",
    )
    parser.add_argument(
        "--drain-s",
        type=float,
        default=DRAIN_S,
        metavar="SECONDS",
        help="from SIGTERM, which turns readiness off, to the end of listening (default: 1)",
    )
    parser.add_argument(
        "--timeout-s",
        type=_positive,
        default=10.0,
        metavar="SECONDS",
        help="from a request's head to its answer, or 503 (default: 10)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=1024,
        metavar="N",
        help="requests that may wait for the model; one more is answered 503 (default: 1024)",
    )
    parser.add_argument(
        "--payload-sink", metavar="FILE|URL", help="keep requests and answers there, as CloudEvents"
    )
    parser.add_argument(
        "--payload-sample", type=float, default=0.01, metavar="SHARE", help="of the requests (default: 0.01)"
    )
    parser.add_argument(
        "--log-values",
        action="store_true",
        help="let log lines hold words of errors, which may quote what users sent",
    )
    return parser.parse_args()


def _positive(text: str) -> float:
    if (number := float(text)) > 0:
        return number
    raise ValueError(text)


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everybody is answered, and a prediction that nobody waits for any more must not hold up the end.
    os._exit(status)
