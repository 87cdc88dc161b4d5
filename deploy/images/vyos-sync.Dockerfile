# Context: target/images/vyos-sync, made by scripts/images.sh. One static program and nothing else.
FROM scratch
LABEL org.opencontainers.image.title="vyos-sync" org.opencontainers.image.licenses="Apache-2.0"
COPY vyos-sync /
USER 65532:65532
ENTRYPOINT ["/vyos-sync"]
