# One image for all nodes of a cluster, jobs and endpoint:
#   docker build -t lstmfcn:cpu .
#   docker build -t lstmfcn:cuda --build-arg DEVICE=cuda .
# With CUDA it runs on CPUs too, but is several times as large.
FROM python:3.11-slim-bookworm

ARG DEVICE=cpu

# wget is what KubeRay asks the nodes for their health with.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home ray

COPY . /source
RUN pip install --no-cache-dir -c /source/constraints.txt \
        $([ "$DEVICE" = cuda ] || echo --extra-index-url https://download.pytorch.org/whl/cpu) \
        /source \
    && rm -rf /source

# What `ray start` is to have on every node: the endpoint's variables, as of `python -m serve_app.ingress`;
# `ray job stop` as a Ctrl-C, with a minute to act on it; a minute without network before a connection is given up
# by one side, of which the other might hear nothing for seven.
ENV RAY_SERVE_ENABLE_HA_PROXY=1 \
    RAY_SERVE_THROUGHPUT_OPTIMIZED=1 \
    RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S=5 \
    RAY_SERVE_HAPROXY_RETRY_ON="conn-failure empty-response" \
    RAY_SERVE_HAPROXY_RETRIES=1 \
    RAY_SERVE_HAPROXY_METRICS_ENABLED=0 \
    RAY_SERVE_HAPROXY_TCP_NODELAY=0 \
    RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE=1 \
    RAY_SERVE_HAPROXY_METRICS_PORT=9101 \
    RAY_SERVE_HAPROXY_STATS_PORT=8404 \
    RAY_SERVE_HAPROXY_BINARY_PATH=/usr/local/bin/lstmfcn-haproxy \
    RAY_JOB_STOP_SIGNAL=SIGINT \
    RAY_JOB_STOP_WAIT_TIME_S=60 \
    RAY_grpc_keepalive_timeout_ms=60000 \
    RAY_USAGE_STATS_ENABLED=0

USER 1000
WORKDIR /home/ray
CMD ["lstmfcn", "--help"]
