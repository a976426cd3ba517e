# syntax=docker/dockerfile:1
# docker buildx build --platform linux/amd64,linux/arm64 -t registry.example.com/portcullis:0.1.0 --push .
#
# The builder runs on the machine at hand and compiles for the platform that is asked for: nothing is emulated. Builder and image are
# Debian 12 both, so that the C library is the same one. Tags, not digests: pin yours with @sha256:… of what you have looked at.

FROM --platform=$BUILDPLATFORM rust:1.95-bookworm AS build
ARG TARGETARCH
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN case "$TARGETARCH" in \
        amd64) echo x86_64 ;; \
        arm64) echo aarch64 ;; \
        *) echo "there is no build for $TARGETARCH" >&2; exit 1 ;; \
    esac > /machine
# hadolint ignore=DL3008
RUN if [ "$(uname -m)" != "$(cat /machine)" ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends "crossbuild-essential-$TARGETARCH" \
        && rm -rf /var/lib/apt/lists/*; \
    fi \
    && rustup target add "$(cat /machine)-unknown-linux-gnu"
WORKDIR /src
COPY . .
# Debian's compilers are named by what they compile for, the machine's own included.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=target-$TARGETARCH,target=/src/target \
    machine=$(cat /machine); target=$machine-unknown-linux-gnu; \
    export "CC_${target//-/_}=$machine-linux-gnu-gcc" \
        "CARGO_TARGET_$(tr a-z- A-Z_ <<< "$target")_LINKER=$machine-linux-gnu-gcc"; \
    cargo build --profile dist --locked --bin portcullis --target "$target" \
    && "$machine-linux-gnu-objcopy" --strip-debug "target/$target/dist/portcullis" /portcullis

# The C library, libgcc_s and certificates of CAs; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="portcullis" \
      org.opencontainers.image.description="External authorization for any gateway: may this request pass, and as whom?" \
      org.opencontainers.image.source="https://github.com/portcullis-authz/portcullis" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chmod=0555 /portcullis /usr/local/bin/portcullis
# `nonroot` of the base, as a number: Kubernetes' runAsNonRoot does not know names.
USER 65532:65532
# gRPC, health and metrics, HTTP, what the world may ask.
EXPOSE 9000 9001 9002 9003
STOPSIGNAL SIGTERM
# Whoever runs it probes the gRPC port's health service, or /livez and /readyz of the admin port.
HEALTHCHECK NONE
ENTRYPOINT ["/usr/local/bin/portcullis"]
CMD ["serve", "--config", "/etc/portcullis/portcullis.yaml"]
