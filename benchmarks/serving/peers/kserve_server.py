"""KServe's server with a model of the user's own, as its documentation asks for one.

KServe does not publish its scikit-learn server as a package; this one reads a request and writes
an answer with the same functions of the SDK, in the server's event loop as that one does.

kserve_server.py --model_file FILE, then the server's own options.
"""

import joblib
from kserve import Model, ModelServer, model_server  # type: ignore[import-not-found]
from kserve.utils.utils import get_predict_input, get_predict_response  # type: ignore[import-not-found]


class Probabilities(Model):  # type: ignore[misc]
    def __init__(self, name, file):  # type: ignore[no-untyped-def]
        super().__init__(name)
        self._model = joblib.load(file)
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        rows = get_predict_input(payload)
        return get_predict_response(payload, self._model.predict_proba(rows), self.name)


if __name__ == "__main__":
    model_server.parser.add_argument("--model_file", required=True)
    options = model_server.parser.parse_args()
    model = Probabilities(options.model_name, options.model_file)  # type: ignore[no-untyped-call]
    ModelServer().start([model])
