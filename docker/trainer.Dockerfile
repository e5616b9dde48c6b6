# Trainer: the payloads of training/ and what they import, for nodes with GPUs. No Dagster in it but dagster-pipes.
# docker build -f docker/trainer.Dockerfile --build-arg REVISION=$(git rev-parse HEAD) -t definemed-trainer .
#
# The `base` flavour of NVIDIA's image does: torch's wheels bring their own CUDA libraries, and `runtime` would only hold them a second time.
# Torch is PyPI's own build, for CUDA 13; for an older driver give another index, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cu126.
ARG CUDA_IMAGE=docker.io/nvidia/cuda:13.0.1-base-ubuntu24.04

FROM ${CUDA_IMAGE} AS build
ARG TORCH_INDEX=https://pypi.org/simple
# `trainer` leaves liger-kernel out, for torch without CUDA
ARG DEPENDENCIES=trainer-cuda
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /build
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir pip==26.3
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt --extra-index-url "${TORCH_INDEX}" --group "${DEPENDENCIES}"
COPY definemed_pipeline ./definemed_pipeline
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps .

FROM ${CUDA_IMAGE}
# a C compiler and Python's headers: triton compiles the launchers of its kernels on the node (fused loss, flex attention, torch.compile)
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev python3 python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home definemed && install -d -o definemed -g definemed /scratch
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/scratch
WORKDIR /scratch
USER 10001:10001
# A payload ends by itself and says by its exit status how it went; there is nothing to ask it meanwhile.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m"]
CMD ["definemed_pipeline.training.cpt", "--help"]
ARG VERSION=0.1.0
ARG REVISION=unknown
# What a manifest names as the code it was made with.
ENV DEFINEMED_COMMIT=${REVISION}
LABEL org.opencontainers.image.title="definemed trainer" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
