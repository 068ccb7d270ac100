# eofm in a container. docs/installing.md says how it is built, run and what was checked.
# The first stage installs into /opt/eofm; the second holds that folder and nothing to build with.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS installed
# cpu or cuda: which build of torch must be inside; any other is refused
ARG TORCH=cpu
# one more index for pip, where that build of torch is not on the usual one
ARG TORCH_INDEX=
# of pyproject.toml, with commas
ARG EXTRAS=cube,geo,onnx,video
ENV DS_BUILD_OPS=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_EXTRA_INDEX_URL=${TORCH_INDEX}
WORKDIR /source
RUN if [ "$TORCH" = cpu ] && [ -z "$TORCH_INDEX" ] && [ "$(uname -m)" = x86_64 ]; then \
      echo "for x86_64 the usual index has torch with CUDA alone: name PyTorch's index of CPU builds by --build-arg TORCH_INDEX=URL, or give --build-arg TORCH=cuda" >&2; exit 1; \
    fi
# what changes rarely first: the layer is kept while the pins are
COPY constraints.txt ./
RUN python3 -m venv /opt/eofm \
    && /opt/eofm/bin/pip install -c constraints.txt torch torchvision \
    && /opt/eofm/bin/python -c "import sys, torch; has = 'cuda' if torch.version.cuda else 'cpu'; sys.exit(None if has == '$TORCH' else f'torch {torch.__version__} is the build for {has}, asked was $TORCH')"
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY fm fm
COPY shards shards
COPY pretrain pretrain
COPY probes probes
RUN /opt/eofm/bin/pip install -c constraints.txt ".[${EXTRAS}]" \
    && find /opt/eofm -name __pycache__ -prune -exec rm -rf {} +

FROM ${BASE}
# rasterio's wheel takes expat from the system, of whatever version the base has
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 eofm \
    && install -d -o eofm -g eofm /work
COPY --from=installed /opt/eofm /opt/eofm
ENV PATH=/opt/eofm/bin:$PATH DS_BUILD_OPS=0 PYTHONUNBUFFERED=1
USER 1000
WORKDIR /work
ENTRYPOINT ["fm"]
CMD ["--help"]
