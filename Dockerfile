# Image for every process: `docker run eventpulse api | live | worker | scheduler | migrate`.
FROM python:3.13-slim AS build
WORKDIR /src
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY eventpulse eventpulse
COPY api api
COPY actors actors
COPY models models
COPY rules rules
COPY notifiers notifiers
COPY schedules schedules
# The extra `embedded` is not installed: in containers, Redis and PostgreSQL are separate services.
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin eventpulse
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels eventpulse
USER eventpulse
ENV EVENTPULSE_HOST=0.0.0.0 \
    LOG_FORMAT=json \
    PYTHONUNBUFFERED=1
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('EVENTPULSE_PORT', '8000') + '/livez', timeout=2)"]
ENTRYPOINT ["eventpulse"]
CMD ["api"]
