# The image has three variants (--target), which differ in the file capabilities of the node binary.
#   none     no capabilities: sees every socket, user and pod, but no processes of other users
#   search   CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH: sees all processes at half the cost; an attacker could read every file of the host
#   ptrace   CAP_SYS_PTRACE: sees all processes (default)
# The container must have the capabilities of the variant, or the kernel refuses to start it. See docs/security.md.

# The socket agent, /app/dist/peerscope-sockets, is the same in all of them. It may use CAP_NET_BROADCAST if the container has it, and
# starts without it: the capability is permitted, not effective.

# BUILD needs Node.js 24 with npm, and setcap and musl-gcc or apt-get to install them; BASE needs /nodejs/bin/node and nothing else.
ARG BUILD=docker.io/library/node:24-trixie-slim
ARG BASE=gcr.io/distroless/nodejs24-debian13:nonroot

FROM ${BASE} AS base

FROM ${BUILD} AS tools
RUN { command -v setcap && command -v musl-gcc; } \
  || { apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev libcap2-bin musl-tools; }

FROM tools AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --prefer-offline
COPY build.js bundle.ts tsconfig.json tsconfig.build.json LICENSE ./
COPY native native
COPY src src
RUN npm run build && npm prune --omit=dev --ignore-scripts \
  && find dist node_modules -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -path 'dist/*.1' -o -name .built \) -delete \
  && mkdir app && mv LICENSE package.json dist node_modules app \
  && setcap cap_net_broadcast+p app/dist/peerscope-sockets \
  && printf '%s\n' '#!/nodejs/bin/node --max-semi-space-size=2' "import('/app/dist/main.js');" > peerscope && chmod 755 peerscope \
  && mkdir state && mkdir --mode=0700 state/peerscope

# The root file system of each variant, with one copy of node: a layer that changed its capabilities would store 120 MB again. setcap
# comes last, because copying with --chown drops file capabilities.
FROM tools AS none-root
COPY --from=base / /image
COPY --from=build --chown=10043:10043 /build/state /image/var/lib
COPY --from=build /build/app /image/app
# For kubectl exec POD -- peerscope list.
COPY --from=build /build/peerscope /image/usr/local/bin/peerscope

FROM none-root AS ptrace-root
RUN setcap cap_sys_ptrace+ep /image/nodejs/bin/node

FROM none-root AS search-root
RUN setcap cap_sys_ptrace,cap_dac_read_search+ep /image/nodejs/bin/node

FROM scratch AS settings
# glibc ignores MALLOC_ARENA_MAX, which saves 6 MiB, in a program with file capabilities.
ENV PEERSCOPE_PATH_PROCFS=/host/proc PEERSCOPE_STORAGE_PATH=/var/lib/peerscope MALLOC_ARENA_MAX=1
# A UID that no other process on the host has. A process can write to the memory of other processes with the same UID.
USER 10043:10043
EXPOSE 10043
# No shell or init before node, because they would drop the capabilities. With capabilities, node ignores NODE_OPTIONS.
ENTRYPOINT ["/nodejs/bin/node", "--max-semi-space-size=2", "--v8-pool-size=1", "/app/dist/main.js"]
CMD []
ARG BASE
ARG VERSION=0.2.0
# The commit, and its time as in RFC 3339.
ARG REVISION=""
ARG CREATED=""
ARG SOURCE=https://github.com/peerscope/peerscope
LABEL org.opencontainers.image.title="peerscope" \
  org.opencontainers.image.description="Caller ID for every connection on your nodes" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.created="${CREATED}" \
  org.opencontainers.image.source="${SOURCE}" \
  org.opencontainers.image.url="${SOURCE}" \
  org.opencontainers.image.documentation="${SOURCE}/blob/main/README.md" \
  org.opencontainers.image.base.name="${BASE}"

FROM settings AS none
COPY --from=none-root /image /

FROM settings AS search
COPY --from=search-root /image /

FROM settings AS ptrace
COPY --from=ptrace-root /image /
