# Context: target/images/weir-agent, made by scripts/images.sh. Two static programs and nothing else.
FROM scratch
LABEL org.opencontainers.image.title="weir-agent" org.opencontainers.image.licenses="Apache-2.0"
COPY weir-agent weirctl /
# Capabilities go to root alone; the agent gives up all others at its start (deploy/chart).
USER 0:0
ENTRYPOINT ["/weir-agent"]
CMD ["run"]
