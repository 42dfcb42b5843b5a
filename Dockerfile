# The registry as an image:  docker build -t packregistry .
# Started in place of the legacy server's, with the same arguments, variables and volumes:
#   docker run -p 5000:5000 -v packregistry-data:/data -v "$PWD/auth:/auth:ro" packregistry
# Only to read, without users:
#   docker run -p 5000:5000 -v "$PWD/packs:/packs:ro" -e REGISTRY_AUTH_ANONYMOUS=read packregistry
FROM python:3.13-slim AS build
# What uv.lock pins, checked against its hashes, as wheels alone: nothing but the registry itself is built here.
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_NO_PROGRESS=1 \
    UV_PROJECT_ENVIRONMENT=/opt/packregistry UV_PYTHON=3.13 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1
WORKDIR /src
RUN python3 -m pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --no-build --no-install-project
COPY README.md LICENSE ./
COPY packregistry ./packregistry
RUN uv sync --frozen --no-dev --no-editable

FROM python:3.13-slim
COPY --from=build /opt/packregistry /opt/packregistry
COPY deploy/config.yml /etc/spectro/config.yml
# Whatever user the container has, in group 0 it can write /data. /registry is where the legacy image has its program.
# Until users are mounted over it, /auth has one of whom nobody has seen the password: closed, and yet it serves.
# The last two commands leave Python's own modules compiled, which nobody can write later.
RUN mkdir -p /auth /certs /data /packs \
    && chown 65532:0 /data && chmod 0775 /data \
    && ln -s /opt/packregistry/bin/packregistry-entrypoint /opt/packregistry/bin/registry \
    && ln -s /opt/packregistry/bin/packregistry-entrypoint /registry \
    && /opt/packregistry/bin/packregistry user add nobody --file /auth/htpasswd-basic --generate >/dev/null \
    && chmod 0644 /auth/htpasswd-basic \
    && /opt/packregistry/bin/packregistry serve --help >/dev/null \
    && /opt/packregistry/bin/packregistry health --help >/dev/null
# The number of processes where the configuration does not say it: one for each CPU.
ENV PATH=/opt/packregistry/bin:$PATH PACKREGISTRY_WORKERS=auto PYTHONUNBUFFERED=1
USER 65532:0
EXPOSE 5000
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/opt/packregistry/bin/packregistry", "health"]
ENTRYPOINT ["/opt/packregistry/bin/packregistry-entrypoint"]
CMD ["serve", "/etc/spectro/config.yml"]
# Last, since they change with every build.
ARG SOURCE=unknown
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="packregistry" \
      org.opencontainers.image.description="A self-hosted registry server for Spectro Cloud packs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
