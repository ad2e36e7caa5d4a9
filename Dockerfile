# One image for all programs of Orbit Grid: orbit-coordinator, orbit-star and orbit.
#
#   docker build --tag orbit-grid .     compiles what stands here; needs nothing but Docker
#   scripts/image                       the same image from programs that cargo has built on this machine
#
# Both bases have the same C library, so that programs of the one run on the other.
ARG TOOLCHAIN=rust:1-slim-bookworm
ARG BASE=debian:bookworm-slim

FROM ${TOOLCHAIN} AS programs
# By this scripts/image finds what an old engine leaves of this stage.
LABEL orbit-grid.stage=programs
WORKDIR /source
COPY . .
# A context that brings programs needs no toolchain: that is how scripts/image works.
RUN if [ ! -d programs ]; then \
      cargo build --release --locked && \
      mkdir programs && \
      for program in orbit-coordinator orbit-star orbit; do \
        strip -o "programs/$program" "target/release/$program" || exit 1; \
      done; \
    fi

FROM ${BASE}
# A number of its own, so that no person of the machine owns what the volumes hold.
RUN groupadd --gid 7100 orbit && \
    useradd --uid 7100 --gid orbit --home-dir /var/lib/orbit --no-create-home --shell /usr/sbin/nologin orbit && \
    install -d -o orbit -g orbit -m 0750 /var/lib/orbit && \
    install -d -o orbit -g orbit -m 0755 /data
COPY --from=programs /source/programs/ /usr/bin/
COPY packaging/third-party/ /usr/share/doc/orbit-grid/
USER orbit
# State of a coordinator, or the vault of a Star; and what a Star exports. New volumes take owner and mode from here.
VOLUME ["/var/lib/orbit", "/data"]
EXPOSE 7100 7180 7200
CMD ["orbit", "--help"]
