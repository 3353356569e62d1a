# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches stay with the builder, hence the copy out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package millwork-api --package millwork-worker --package millwork-scheduler \
    && mkdir /out \
    && cp target/release/millwork-api target/release/millwork-worker target/release/millwork-scheduler /out/

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home millwork
COPY --from=build /out/ /usr/local/bin/
COPY --chmod=755 dev/docker/ready /usr/local/bin/ready
USER millwork
ENV API_ADDR=0.0.0.0:8080 WORKER_ADDR=0.0.0.0:8081 SCHEDULER_ADDR=0.0.0.0:8082 LOG_FORMAT=json
EXPOSE 8080 8081 8082
CMD ["millwork-api"]
