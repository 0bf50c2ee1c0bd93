# An image of the server; the stage `trainer` is an image of the programs that train and promote. See docs/deployment.md.
ARG BASE_IMAGE=python:3.11-slim-bookworm
# A folder in the build context, written by `python -m wineexp.promote export=FOLDER`. Without it, the build trains a model.
ARG EXPORT=

# pip's settings and a CA bundle are given as secrets, which no layer contains: --secret id=pip_conf,src=FILE.
FROM ${BASE_IMAGE} AS python
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONPATH=/srv/wineexp \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=1 \
    PATH=/srv/python/bin:$PATH
RUN python3 -m venv /srv/python
WORKDIR /srv/wineexp

# The server's libraries, which the programs that train and promote need as well.
FROM python AS libraries
COPY requirements-serve.txt .
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --quiet --no-compile --no-deps --require-hashes -r requirements-serve.txt

FROM libraries AS compact
# A C compiler builds the kernel that makes compiled models fast, and its binutils strip symbols. Without a compiler,
# models are computed by numpy, with the same bits.
RUN command -v cc strip > /dev/null || { apt-get -qq update && apt-get -qq install --no-install-recommends gcc libc6-dev; } \
    > /dev/null || echo "no compiler is available: models will be computed by numpy"
# A third of the installed files are tests, symbols, and packages that the server never imports.
RUN pip uninstall --quiet --yes \
        cffi cryptography faker polyfactory prettytable pyasn1-modules pycparser wcwidth pip setuptools && \
    find /srv/python -type d -name tests -prune -exec rm -r {} + && \
    find /srv/python \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.a' \) -delete && \
    { ! command -v strip || find /srv/python -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +; } && \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash /srv && \
    rm requirements-serve.txt

FROM libraries AS programs
COPY requirements.txt .
# XGBoost takes the place of xgboost-cpu. NVIDIA's library is only needed for several GPUs, and is a third of the size.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/pip \
    awk '/^[^ ]/ {wanted = !/^nvidia-/} wanted' requirements.txt > /tmp/requirements.txt && \
    pip uninstall --quiet --yes xgboost-cpu && \
    pip install --quiet --no-compile --no-deps --require-hashes -r /tmp/requirements.txt
COPY conf conf
COPY hydra_plugins hydra_plugins
COPY data data
COPY wineexp wineexp
# Write scikit-learn's data to a file, for containers with a read-only file system.
RUN python -m wineexp.fetch data=cultivar hydra.run.dir=/tmp/fetched

FROM programs AS trained
WORKDIR /tmp/trained
RUN python -m wineexp.train model=logreg tracking.uri=sqlite:////tmp/trained/mlflow.db && \
    python -m wineexp.promote best_of=cultivar-cultivar allow=[dirty] tracking.uri=sqlite:////tmp/trained/mlflow.db && \
    python -m wineexp.promote export=/tmp/trained/export tracking.uri=sqlite:////tmp/trained/mlflow.db \
        "note='It was trained when this image was built, on the wines that scikit-learn carries.'"

# Python has compiled there what training and promoting import: containers with a read-only file system would do it anew
# at each start.
FROM python AS trainer
COPY --from=trained /srv /srv
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/wineexp
# Snapshots of feedback and their pins are written there. MLflow records the name of the user, who has none otherwise.
RUN chmod -R a+rX /srv/wineexp && mkdir -p /srv/wineexp/data/feedback && chown 65532:65532 . /srv/wineexp/data/feedback && \
    echo 'wineexp:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd && \
    echo 'wineexp:x:65532:' >> /etc/group
USER 65532:65532
VOLUME /var/lib/wineexp
ENTRYPOINT ["python", "-m"]
CMD ["wineexp.train"]

# The programs and Dask's scheduler and workers, for hydra/launcher=dask.
FROM trainer AS dask
USER root
COPY requirements-dask.txt /tmp/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --quiet --compile --no-deps --require-hashes -r /tmp/requirements-dask.txt
USER 65532:65532

FROM scratch AS model
COPY --from=trained /tmp/trained/export /

FROM scratch AS model-exported
ARG EXPORT
COPY ${EXPORT} /

FROM model${EXPORT:+-exported} AS chosen

FROM compact AS server
COPY conf conf
COPY wineexp wineexp
COPY --from=chosen / model
RUN chmod -R a+rX . && \
    { python -m wineexp.models.compiled.kernel || true; } && \
    python -c "from pathlib import Path; from wineexp.serving.model import export; export.read(Path('model'))" && \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash /srv/wineexp

# The base image without what a server does not need: package managers, Perl, caches, manuals.
FROM python AS system
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"; \
    find /usr/lib/python3* /usr/local/lib/python3* -type d \
        \( -name site-packages -o -name ensurepip -o -name lib2to3 -o -name idlelib -o -name test \) -prune -exec rm -r {} +; \
    dpkg --purge --force-all apt e2fsprogs gpgv libapt-pkg6.0 logsave perl-base > /dev/null 2>&1; \
    rm -rf /srv/* /root/.cache /tmp/* /usr/local/bin/pip* /usr/share/python-wheels /usr/share/doc /usr/share/man /usr/share/info \
        /usr/share/locale /var/cache/* /var/lib/apt/lists/* /var/log/*; \
    echo 'wineexp:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd; \
    echo 'wineexp:x:65532:' >> /etc/group; \
    install -d -o 65532 -g 65532 /var/cache/wineexp

# The final image starts from nothing, so that its layers do not contain the removed files.
FROM scratch
ARG BASE_IMAGE
ARG REVISION=unknown
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="wineexp" \
      org.opencontainers.image.description="Serves a registered model over HTTP" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
COPY --from=system / /
COPY --from=server /srv /srv
ENV PATH=/srv/python/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/srv/wineexp \
    PYTHONDONTWRITEBYTECODE=1 \
    LANG=C.UTF-8 \
    TMPDIR=/var/cache/wineexp \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=1
WORKDIR /srv/wineexp
USER 65532:65532
EXPOSE 8000
# The only writable folder: versions from a registry are cached here.
VOLUME /var/cache/wineexp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=2 \
    CMD ["python", "-S", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=3)"]
ENTRYPOINT ["python", "-m", "wineexp.serve", "serve.host=0.0.0.0", "serve.port=8000", "serve.cache_folder=/var/cache/wineexp", "serve.export_folder=/srv/wineexp/model"]
