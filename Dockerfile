# The registry as an image: docker build -t packregistry . && docker run -p 5000:5000 -v "$PWD/packs:/packs:ro" packregistry
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY packregistry ./packregistry
RUN python3 -m venv /opt/packregistry \
    && /opt/packregistry/bin/pip install --no-cache-dir .

FROM python:3.13-slim
COPY --from=build /opt/packregistry /opt/packregistry
COPY deploy/config.yml /etc/spectro/config.yml
# /packs is what is watched, /data where blobs and records are kept.
RUN mkdir -p /packs /data && chown 65532:0 /data && chmod g=u /data
ENV PATH=/opt/packregistry/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:0
EXPOSE 5000
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["/opt/packregistry/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=2)"]
ENTRYPOINT ["packregistry"]
CMD ["serve", "/etc/spectro/config.yml"]
