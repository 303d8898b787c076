# Murmuration as an image: exact dependencies, kernels compiled beforehand, no root. See docs/operations.md.
# Needs BuildKit (Docker's default builder), which sets TARGETARCH.

FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/murmuration
WORKDIR /src
# The dependencies have a layer of their own: a change in the source leaves it as it is.
COPY requirements.lock ./
RUN /opt/murmuration/bin/python -m pip install --only-binary :all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY engine ./engine
COPY streams ./streams
COPY config ./config
COPY loadtest ./loadtest
RUN /opt/murmuration/bin/python -m pip install --no-deps --no-build-isolation .

FROM python:3.11.13-slim-bookworm AS runtime
RUN groupadd --gid 10001 murmuration \
    && useradd --uid 10001 --gid murmuration --home-dir /var/lib/murmuration --no-create-home --shell /usr/sbin/nologin murmuration \
    && install --directory --owner=murmuration --group=murmuration /var/lib/murmuration /opt/numba-cache
ENV PATH=/opt/murmuration/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/opt/numba-cache \
    MURMURATION__SERVING__HOST=0.0.0.0 \
    MURMURATION__SERVING__AUTH=token

# The kernel cache is keyed by processor and features: naming a common one lets the image's cache fit every host
# of that kind. x86-64-v3 asks for AVX2 (Intel from 2013, AMD from 2015).
FROM runtime AS runtime-amd64
ENV NUMBA_CPU_NAME=x86-64-v3 NUMBA_CPU_FEATURES=""

FROM runtime AS runtime-arm64
ENV NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES=""

FROM runtime-${TARGETARCH} AS image
COPY --from=build /opt/murmuration /opt/murmuration
WORKDIR /var/lib/murmuration
USER 10001:10001
# After the last COPY: a start finds every kernel compiled. As the user, because numba must be able to write there.
RUN python -c "from streams.live.compilation import compile_kernels; compile_kernels()"
VOLUME /var/lib/murmuration
EXPOSE 8400
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('MURMURATION__SERVING__PORT', '8400') + '/healthz', timeout=2)"]
ENTRYPOINT ["murmuration"]
CMD ["serve"]
