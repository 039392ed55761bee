"""`python -m coalmine.serving`: one model server from the command line to its exit status.

What goes wrong before it serves is one line on stderr and the error's own status.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from coalmine.errors import CoalmineError
from coalmine.serving.port import take_port
from coalmine.slots import Slot


def main() -> int:
    arguments = _arguments()
    # Read when numpy, OpenMP and joblib load. Two OpenMP threads under load answer hundreds of
    # times slower than one.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
        os.environ[name] = "1"
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    try:
        _serve(arguments)
    except CoalmineError as error:
        print(f"coalmine.serving: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


def _serve(arguments: argparse.Namespace) -> None:
    taken = take_port(arguments.host, arguments.port)
    # Here, since they load numpy and scikit-learn: a port in use is known without them, and the
    # environment must be set before.
    from coalmine.serving.app import Serving
    from coalmine.serving.host import serve
    from coalmine.serving.release import load_release

    predictor = load_release(arguments.release)
    manifest = predictor.manifest
    host, port = taken.getsockname()[:2]
    announcement = (
        f"{manifest.model} {manifest.version} serves in slot {arguments.slot} at http://{host}:{port}"
    )
    serve(Serving(predictor, arguments.slot), taken, arguments.drain_s, announcement)


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
        "--drain-s",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="from SIGTERM, which turns readiness off, to the end of listening (default: 1)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is answered. Granian's own threads may still run, and the interpreter's ordinary end
    # aborts when one of them then asks for it.
    os._exit(status)
