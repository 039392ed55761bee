"""Other projects' model servers, each run as its documentation runs one worker.

None is slowed by choice: what a peer lets one turn off without losing its telemetry is off where
that is faster (debug, gRPC, MLServer's second process), and no peer starts a second OpenMP thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.serving import cases
from benchmarks.serving.cases import Case
from benchmarks.serving.contenders import Contender
from benchmarks.serving.environments import Environment
from benchmarks.serving.load import Requests
from benchmarks.serving.process import free_ports

KSERVE, MLSERVER, BENTOML = "KServe", "MLServer", "BentoML"
_HERE = Path(__file__).parent


def kserve(case: Case, environment: Environment, folder: Path) -> Contender:
    extra = {} if case.is_matrix else {"parameters": {"content_type": "pd"}}
    words = [
        *(environment.program("python"), str(_HERE / "kserve_server.py")),
        *("--model_name", case.name, "--model_file", str(_model_file(case, folder))),
        *("--enable_grpc", "false", "--http_port"),
    ]
    return Contender(
        name=KSERVE,
        case=case.name,
        command=lambda port: [*words, str(port)],
        ready_path=f"/v2/models/{case.name}/ready",
        requests=_inference_requests(case, extra, "output-0", folder),
        folder=folder,
        note=f"asks for pandas {environment.versions['pandas']}; the same model file",
        settings="1 worker, uvicorn on uvloop, latency and access log on (defaults); gRPC off",
    )


def mlserver(case: Case, environment: Environment, folder: Path) -> Contender:
    extra: dict[str, Any] = {"outputs": [{"name": "predict_proba"}]}
    if not case.is_matrix:
        extra["parameters"] = {"content_type": "pd"}
    model = {
        "name": case.name,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(_model_file(case, folder))},
    }
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")

    def command(port: int) -> list[str]:
        grpc_port, metrics_port = free_ports(2)
        ports = {"http_port": port, "grpc_port": grpc_port, "metrics_port": metrics_port}
        settings = {"debug": False, "parallel_workers": 0, "host": "127.0.0.1", **ports}
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        return [environment.program("mlserver"), "start", str(folder)]

    return Contender(
        name=MLSERVER,
        case=case.name,
        command=command,
        ready_path=f"/v2/models/{case.name}/ready",
        requests=_inference_requests(case, extra, "predict_proba", folder),
        folder=folder,
        settings="parallel_workers 0: inference in the one process (the default, 1, adds a process and "
        "was slower on one core); debug off; metrics and access log on (defaults)",
    )


def bentoml(case: Case, environment: Environment, folder: Path) -> Contender:
    rows = cases.records(case.rows)
    bodies = [json.dumps({"rows": [list(row.values()) if case.is_matrix else row]}) for row in rows]
    requests = folder / "requests.json"
    Requests("/predict", bodies, case.expected, None).save(requests)
    words = [
        *(environment.program("bentoml"), "serve"),
        f"bentoml_service:{'Trees' if case.is_matrix else 'Columns'}",
        *("--working-dir", str(_HERE), "--host", "127.0.0.1", "--port"),
    ]
    return Contender(
        name=BENTOML,
        case=case.name,
        command=lambda port: [*words, str(port)],
        ready_path="/readyz",
        requests=requests,
        folder=folder,
        env={"MODEL_FILE": str(_model_file(case, folder)), "BENTOML_DO_NOT_TRACK": "True"},
        note=f"its own protocol: {'a matrix' if case.is_matrix else 'records'} in JSON",
        settings="1 worker, 1 thread, metrics and access log on (defaults)",
    )


PEERS: dict[str, Callable[[Case, Environment, Path], Contender]] = {
    "kserve": kserve,
    "mlserver": mlserver,
    "bentoml": bentoml,
}


def _model_file(case: Case, folder: Path) -> Path:
    case.save_for_peers(folder)
    return folder / "model.joblib"


def _inference_requests(case: Case, extra: dict[str, Any], output: str, folder: Path) -> Path:
    file = folder / "requests.json"
    path = f"/v2/models/{case.name}/infer"
    Requests(path, cases.requests(case, extra), case.expected, output).save(file)
    return file
