# The image of a model server, and of the step that fetches its release: Python, the libraries of
# requirements-serving.lock, coalmine, and pipelines/, whose transformers the models need. One image
# for each code commit; models and data come by digest (`coalmine fetch`), never in the image.
#
# `coalmine image build` builds it from a commit. docs/operations.md: "Publishing the image".

# To pin it, write the digest here: python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS builder
WORKDIR /context
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PYTHON=/opt/coalmine/bin/python \
    PYTHONDONTWRITEBYTECODE=1
RUN python -m venv --without-pip /opt/coalmine
# The secret `pip` is a pip.conf for this build alone (another index, certificates): no layer keeps it.
COPY requirements-serving.lock .
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m pip install --no-compile --require-hashes -r requirements-serving.lock \
 && python -m pip freeze > /tmp/locked
# What is yours comes on top, and changes nothing that is locked.
COPY requirements-serving.txt .
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m pip install --no-compile --constraint /tmp/locked -r requirements-serving.txt
COPY . .
# What pip takes for coalmine: coalmine==1.2.0, or a wheel, such as wheels/coalmine-1.2.0-py3-none-any.whl.
ARG COALMINE=coalmine
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m pip install --no-compile --no-deps ${COALMINE}
# No server reads the libraries' tests and headers. Bytecode is made here, since a root that is read-only
# takes none later; by hash and with times of no meaning, so that the same files give the same image.
RUN cd /opt/coalmine/lib/python*/site-packages \
 && find pandas pyarrow scipy sklearn -type d \( -name tests -o -name include \) -prune -exec rm -r {} + \
 && /opt/coalmine/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash . \
 && find /opt/coalmine -exec touch --no-dereference --date=@0 {} +

FROM ${BASE}
COPY --from=builder /opt/coalmine /opt/coalmine
COPY pipelines /opt/coalmine/code/pipelines
# One thread per process: OpenMP's threads of several servers on one machine slow one another down.
# Nothing is sent home: onnxruntime tells its maker of every session unless it is forbidden.
ENV PATH=/opt/coalmine/bin:$PATH OMP_NUM_THREADS=1 ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="coalmine model server" \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.source=${SOURCE}
# Nobody in particular; Kubernetes proves `runAsNonRoot` by a number only.
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "coalmine.serving"]
