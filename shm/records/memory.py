"""Shared memory itself: headers of segments, ingress rings, labels, hops, how workers are."""

from __future__ import annotations

from shm.records.layout import Field, record

SEGMENT_HEADER = record(
    "SEGMENT_HEADER",
    "first page of every shared-memory segment: whose it is and what lies in it",
    size_bytes=4096,
    fields=(
        Field("magic", "<i8", "shm.segment.MAGIC, written last; 0 while the segment is being made"),
        Field("layouts", "<i8", "digest of every record of the build that made it"),
        Field("parts", "<i8", "digest of the names, types and sizes of its parts"),
        Field("epoch", "<i8", "which start of the engine it belongs to"),
        Field("pid", "<i8", "process that made it"),
        Field("process_start", "<i8", "when that process started, clock ticks since boot"),
        Field("created_ns", "<i8", "when it was made, ns since the Unix epoch"),
        Field("size_bytes", "<i8", "of the whole segment, this page included"),
        Field("name", "96u1", "instance.name, zero padded"),
        Field("reserved", "492i8", "zero"),
    ),
)

INGRESS = record(
    "INGRESS",
    "head of an ingress ring: who may send what through it",
    size_bytes=64,
    fields=(
        Field("producer", "<i8", "id of the only producer, 1 to 63"),
        Field("kinds", "<i8", "bit k: codes.Kind k is allowed"),
        Field("privileged", "<i8", "1: privileged flags are allowed"),
        Field("capacity", "<i8", "slots, a power of two"),
        Field("reserved", "4i8", "zero"),
    ),
)

LABEL = record(
    "LABEL",
    "what a counter or histogram in shared memory is called",
    size_bytes=64,
    fields=(
        Field("name", "48u1", "text, zero padded; empty: the row is unused"),
        Field("unit", "16u1", "text, zero padded"),
    ),
)

ERROR = record(
    "ERROR",
    "one kind of error: how often, first, last",
    size_bytes=440,
    fields=(
        Field("count", "<i8", "how often; 0: the row is unused"),
        Field("first_ns", "<i8", "when first, ns since the Unix epoch"),
        Field("last_ns", "<i8", "when last"),
        Field("where", "32u1", "which process, text, zero padded"),
        Field("text", "192u1", "what, its numbers as #"),
        Field("latest", "192u1", "what, as it was the last time"),
    ),
)

HOPS = record(
    "HOPS",
    "a sampled command: when each stage was seen to be done with it, CLOCK_REALTIME; 0: not yet",
    size_bytes=256,
    fields=(
        Field("number", "<i8", "which sample this is, from 1; 0: the row was never used"),
        Field("seq", "<i8", "the command"),
        Field("request", "<i8", "producer << 48 | the producer's own number"),
        Field("account", "<u4", "of the command"),
        Field("symbol", "<u2", "of the command, or NO_SYMBOL"),
        Field("reserved", "<u2", "means nothing"),
        Field("kind", "u1", "codes.Kind"),
        Field("rest", "7u1", "the other codes of the command"),
        Field("trace_hi", "<i8", "trace id, first 8 bytes; 0 when it carries none"),
        Field("trace_lo", "<i8", "trace id, last 8 bytes"),
        Field("received_ns", "<i8", "its recv_ns; 0 when it has none"),
        Field("sequenced_ns", "<i8", "its ts_ns: when that turn of the sequencer began"),
        Field("risked_ns", "<i8", "risk had decided"),
        Field("settled_ns", "<i8", "its reports were written"),
        Field("durable_ns", "<i8", "the sync of its group commit had returned"),
        Field("published_ns", "<i8", "its reports had gone out over ZeroMQ"),
        Field("reserved2", "3i8", "zero"),
        Field("matched_ns", "16i8", "the matching shard of that number had passed it"),
    ),
)

REQUEST_HOPS = record(
    "REQUEST_HOPS",
    "a request as its gateway saw it, CLOCK_REALTIME",
    size_bytes=64,
    fields=(
        Field("request", "<i8", "producer << 48 | the producer's own number; 0: never used"),
        Field("seq", "<i8", "the command it became"),
        Field("trace_hi", "<i8", "trace id, first 8 bytes"),
        Field("trace_lo", "<i8", "trace id, last 8 bytes"),
        Field("received_ns", "<i8", "when the gateway had read it"),
        Field("handed_ns", "<i8", "before it was put into the ingress ring"),
        Field("heard_ns", "<i8", "when its answer had come back"),
        Field("answered_ns", "<i8", "when the reply was made of it"),
    ),
)

ENGINE_STATUS = record(
    "ENGINE_STATUS",
    "what a start of the engine says about itself; written by its supervisor",
    size_bytes=768,
    fields=(
        Field("phase", "<i8", "shm.control.Phase"),
        Field("epoch", "<i8", "which start this is"),
        Field("pid", "<i8", "of the supervisor"),
        Field("started_ns", "<i8", "when this start began, ns since the Unix epoch"),
        Field("running_ns", "<i8", "when it took its first command; 0 before"),
        Field("stop_asked", "<i8", "1: a worker was told to end, the supervisor shall stop all"),
        Field("restarts", "<i8", "how often the supervisor has started the group again"),
        Field("recovered_seq", "<i8", "last command that recovery found"),
        Field("recovered_us", "<i8", "how long recovery took"),
        Field("workers", "<i8", "rows of the worker table in use"),
        Field("sequencer", "<i8", "which of them reads the ingress rings: whose bell to ring"),
        Field("shards", "<i8", "matching shards"),
        Field("commands", "<i8", "slots of the commands ring"),
        Field("matches", "<i8", "slots of each matches ring"),
        Field("reports", "<i8", "slots of the reports ring"),
        Field("ingress", "<i8", "slots of each ingress ring"),
        Field("reserved", "16i8", "zero"),
        Field("data_dir", "512u1", "text, zero padded"),
    ),
)

WORKER_STATUS = record(
    "WORKER_STATUS",
    "one worker process: what it runs and how far its start has come",
    size_bytes=128,
    fields=(
        Field("order", "<i8", "by the supervisor: shm.control.Order"),
        Field("state", "<i8", "by the worker: shm.control.WorkerState"),
        Field("pid", "<i8", "of the worker"),
        Field("stages", "<i8", "bit k: stage k of shm.control.STAGES"),
        Field("shards", "<i8", "bit k: matching shard k"),
        Field("ready_us", "<i8", "from its spawning until it was ready"),
        Field("refused", "<i8", "bits of shm.control.Wish that the host refused"),
        Field("cpu", "<i8", "pinned to, or NIL"),
        Field("name", "32u1", "text, zero padded"),
        Field("reserved", "4i8", "zero"),
    ),
)
