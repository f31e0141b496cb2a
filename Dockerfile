# A machine with everything built:  docker build -t bmx . && docker run --rm bmx            (make demo)
#                                   docker run --rm bmx make test
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /bmx
COPY . .
RUN make build
CMD ["make", "demo"]
