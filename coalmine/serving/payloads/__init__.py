"""The payload log: a share of the requests with their answers, kept as CloudEvents 1.0.

Events have the types and attributes of KServe's logger, so that what reads its events reads these
(kserve/kserve, pkg/logger/worker.go and handler.go, at commit 0217bda): type
`org.kubeflow.serving.inference.request` or `.response`; id, the request's, the same on both sides;
source; time; datacontenttype; inferenceservicename, namespace, component, endpoint, and metadata, which
is some of the request's headers as JSON. KServe's injector sets component `predictor` and endpoint
`default`. Three more are ours: model, version, slot. A request in a trace has `traceparent`, after the
CloudEvents extension for distributed tracing. As with KServe, an answer that is an error leaves the
request alone. CloudEvents would have source and id name one event; KServe's pair shares both and
differs in type, and being readable where KServe's are was worth more.

    events      what is written: an exchange as two events, an event as a line or as headers
    file_sink   JSON lines in structured mode, bounded in size
    http_sink   POSTs in binary mode, as KServe sends them
    log         which requests are chosen, and the queue between them and the sink

Payloads may hold personal data: nothing is kept unless model.yaml names a sink.
"""

from coalmine.serving.payloads.events import Origin
from coalmine.serving.payloads.log import PayloadLog

__all__ = ["Origin", "PayloadLog"]
