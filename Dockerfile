# The image holds Node, the C library that Node needs, and the bundle: no shell, no package manager, no node_modules.
# What is started is /app/mcp-sidecar.mjs; `mcp-sidecar` on the PATH is the same file.

# A Debian image with Node 24 and npm. The full image rather than the slim one, for its `strip`.
ARG NODE_IMAGE=node:24-bookworm
# What the result is laid upon. Nothing by default; a base with a glibc of its own must not be older than NODE_IMAGE's.
ARG RUNTIME_IMAGE=scratch

FROM ${NODE_IMAGE} AS build
# A malloc that gives back what it has freed; glibc's keeps twice as much after many connections have come and gone.
RUN test -e /usr/lib/$(uname -m)-linux-gnu/libjemalloc.so.2 || \
    { apt-get update -q && apt-get install -yq --no-install-recommends libjemalloc2; }
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# No package runs code of its own here.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json ./
COPY scripts/build.ts scripts/image-root.sh scripts/
COPY src/ src/
RUN node scripts/build.ts --out dist --no-sourcemap && sh scripts/image-root.sh /root-of-image dist

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mcp-sidecar" \
      org.opencontainers.image.description="The last hop in front of an MCP server: mTLS in, identity, policy, quota and audit, over loopback out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/mcp-sidecar/mcp-sidecar" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /root-of-image/ /
# The heap is sized from the container's memory limit, below it: by itself Node allows 259 MiB under a limit of 128 MiB.
# One thread beside the main one compiles and marks; four would compete with it for a core or two.
# The compile cache was filled in the build, so that a start parses nothing anew.
# docs/decisions/0009-malloc.md
ENV PATH=/usr/local/bin \
    NODE_ENV=production \
    NODE_OPTIONS="--max-old-space-size-percentage=50 --max-semi-space-size=4 --v8-pool-size=1" \
    NODE_COMPILE_CACHE=/app/compile-cache \
    LD_PRELOAD=/usr/local/lib/libjemalloc.so.2 \
    MALLOC_CONF=narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0 \
    MCP_SIDECAR_CONFIG=/etc/mcp-sidecar/config.yaml
USER 1001:1001
EXPOSE 8443 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["mcp-sidecar", "health"]
ENTRYPOINT ["mcp-sidecar"]
CMD ["run"]
