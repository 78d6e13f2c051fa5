# The gateway and nothing else: no shell, no package manager, a user that is not root.
#
#   docker build -t portcullis .
#   docker run -p 8080:8080 -v portcullis:/data -v ./portcullis.toml:/etc/portcullis/portcullis.toml:ro portcullis
#
# In the configuration, listen on 0.0.0.0 and keep the store and the master key below /data; examples/compose has one.

FROM rust:1.95-slim-bookworm AS build
# aws-lc-sys and libsqlite3-sys compile C.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY migrations migrations
RUN cargo build --release --locked --bin portcullis
RUN mkdir /data

# Has glibc and libgcc, of the same Debian as the build, and a user "nonroot".
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/portcullis /usr/local/bin/portcullis
COPY --from=build --chown=65532:65532 /data /data
WORKDIR /data
VOLUME /data
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/local/bin/portcullis", "health"]
ENTRYPOINT ["/usr/local/bin/portcullis"]
CMD ["serve", "--config", "/etc/portcullis/portcullis.toml"]
