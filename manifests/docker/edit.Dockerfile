# An edit container: a workload with edit-agent as its first process.
#
#   docker build -f manifests/docker/edit.Dockerfile -t webordinary/edit-container .
#
# Or put the agent into an image of your own, which has git and Python 3.11 or newer:
#
#   COPY --from=webordinary/edit-container /opt/edit-agent /opt/edit-agent
#   ENTRYPOINT ["/opt/edit-agent/bin/edit-agent", "run", "--"]
#   CMD ["your-workload"]
ARG BUILD_IMAGE=python:3.13-slim
ARG RUN_IMAGE=python:3.13-slim

FROM ${BUILD_IMAGE} AS build
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
ARG PIP_DISABLE_PIP_VERSION_CHECK=1
ARG PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/build.txt requirements/
RUN python3 -m venv --without-pip /build \
    && python3 -m pip --python /build install --quiet --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY controller controller
# Without what the package depends on: the agent is the standard library alone, and users' images carry no boto3.
RUN python3 -m venv --without-pip /opt/edit-agent \
    && python3 -m pip --python /build wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && python3 -m pip --python /opt/edit-agent install --quiet --no-deps --no-index dist/*.whl

FROM ${RUN_IMAGE}
LABEL org.opencontainers.image.title="edit-container" \
      org.opencontainers.image.description="An edit container with its agent" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN command -v git >/dev/null \
    || (apt-get update \
        && apt-get install --yes --no-install-recommends ca-certificates git openssh-client \
        && rm -rf /var/lib/apt/lists/*)
# The workload is somebody else than the agent, who holds what can push.
RUN echo 'editor:x:1000:1000:the workload:/home/editor:/bin/sh' >>/etc/passwd \
    && echo 'editor:x:1000:' >>/etc/group \
    && mkdir -p /home/editor /workspace /var/lib/edit-agent \
    && chown 1000:1000 /home/editor /workspace
COPY --from=build /opt/edit-agent /opt/edit-agent
ENV PATH=/opt/edit-agent/bin:/usr/local/bin:/usr/bin:/bin \
    EDIT_WORKLOAD_USER=editor
# Only the agent's own environment, or a task of the workload's user could leave code for it there.
ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /workspace
ENTRYPOINT ["/opt/edit-agent/bin/edit-agent", "run", "--"]
# Stands in for a workload; the task definition or an image of your own names the real one.
CMD ["sleep", "infinity"]
