# Two stages: the first builds a virtual environment, the second carries it and nothing else.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY broker broker
COPY workers workers
COPY api api
COPY lua lua
RUN python -m venv /opt/zoompool \
 && /opt/zoompool/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home zoompool
COPY --from=build /opt/zoompool /opt/zoompool
ENV PATH=/opt/zoompool/bin:$PATH PYTHONUNBUFFERED=1
USER zoompool
EXPOSE 8000
ENTRYPOINT ["zoompool"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
