# The controller: no shell is needed, nothing is written, nobody is root.
#
#   docker build -f manifests/docker/controller.Dockerfile -t webordinary/editctl .
#   docker run --rm --read-only webordinary/editctl --version
#
# Both images need Python 3.11 or newer, the same one at the same place.
ARG BUILD_IMAGE=python:3.13-slim
ARG RUN_IMAGE=python:3.13-slim

FROM ${BUILD_IMAGE} AS build
# For a mirror, or for a folder of wheels: pip reads them from its environment.
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
ARG PIP_DISABLE_PIP_VERSION_CHECK=1
ARG PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
# Two environments, none with a pip: what builds the package stays behind with this stage.
RUN python3 -m venv --without-pip /build \
    && python3 -m venv --without-pip /opt/editctl \
    && python3 -m pip --python /build install --quiet --require-hashes -r requirements/build.txt \
    && python3 -m pip --python /opt/editctl install --quiet --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY controller controller
RUN python3 -m pip --python /build wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && python3 -m pip --python /opt/editctl install --quiet --no-deps --no-index dist/*.whl

FROM ${RUN_IMAGE}
LABEL org.opencontainers.image.title="editctl" \
      org.opencontainers.image.description="Reconciliation controller for edit containers on Amazon ECS" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/editctl /opt/editctl
ENV PATH=/opt/editctl/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
# Metrics and probes, where EDITCTL_METRICS_ADDRESS says so.
EXPOSE 9464
ENTRYPOINT ["editctl"]
CMD ["run", "--log-format", "json"]
