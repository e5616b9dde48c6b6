# Webserver and daemon: Dagster without the pipeline. What it shows it asks of the code location, so this image changes only when Dagster does.
# docker build -f docker/webserver.Dockerfile -t definemed-webserver .
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir pip==26.3
COPY pyproject.toml constraints.txt ./
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt --group webserver

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --create-home definemed && install -d -o definemed -g definemed /opt/dagster
COPY --from=build /opt/venv /opt/venv
COPY docker/dagster.yaml docker/workspace.yaml /opt/dagster/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DAGSTER_HOME=/opt/dagster
WORKDIR /opt/dagster
USER 10001:10001
EXPOSE 3000
# The webserver's own; compose.yaml gives the daemon another.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/server_info', timeout=5)"]
CMD ["dagster-webserver", "-h", "0.0.0.0", "-p", "3000", "-w", "workspace.yaml"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="definemed webserver and daemon" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
