# User code: the whole package. It serves the code location, runs the assets, and is the image of every payload but training.
# docker build -f docker/user_code.Dockerfile --build-arg REVISION=$(git rev-parse HEAD) -t definemed-user-code .
#
# Torch is the CPU build. For payloads on GPUs (classifier, scores, answers) build a second tag with TORCH_INDEX=https://pypi.org/simple, whose
# torch brings CUDA along; the node needs the driver and NVIDIA's container toolkit only.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir pip==26.3
# The dependencies first, for a package that is still empty: a change of the code leaves this layer as it is.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir definemed_pipeline && touch definemed_pipeline/__init__.py \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt --extra-index-url "${TORCH_INDEX}" ".[production,s3]"
COPY definemed_pipeline ./definemed_pipeline
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --create-home definemed \
    && install -d -o definemed -g definemed /opt/dagster /scratch
COPY --from=build /opt/venv /opt/venv
COPY docker/dagster.yaml /opt/dagster/
# XDG_CACHE_HOME is where scratch and copies of a remote lake lie; mount a volume there.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DAGSTER_HOME=/opt/dagster \
    XDG_CACHE_HOME=/scratch
WORKDIR /opt/dagster
USER 10001:10001
EXPOSE 4000
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=4 CMD ["dagster", "api", "grpc-health-check", "-p", "4000"]
CMD ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", "4000", "-m", "definemed_pipeline.definitions", "--location-name", "definemed_pipeline"]
ARG VERSION=0.1.0
ARG REVISION=unknown
# What a manifest names as the code it was made with.
ENV DEFINEMED_COMMIT=${REVISION}
LABEL org.opencontainers.image.title="definemed user code" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
