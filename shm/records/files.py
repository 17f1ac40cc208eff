"""What lies in a data directory: WAL, report log, followers' positions, snapshots."""

from __future__ import annotations

from shm.records.layout import Field, record

WAL_BLOCK = record(
    "WAL_BLOCK",
    "one group commit: this header, then packed command lines, zeros up to a multiple of 4096",
    size_bytes=128,
    fields=(
        Field("magic", "<i8", "PERPWAL1"),
        Field("header_hash", "<i8", "of the words after it; the chain goes through it"),
        Field("body_hash", "<i8", "of everything after this header, the padding too"),
        Field("previous_hash", "<i8", "header_hash of the block before; 0 in the very first"),
        Field("wal_hi", "<i8", "which WAL, first 8 bytes"),
        Field("wal_lo", "<i8", "which WAL, last 8 bytes"),
        Field("epoch", "<i8", "start of the engine that wrote it, from 1"),
        Field("segment", "<i8", "number of the segment file, from 0"),
        Field("offset", "<i8", "where in that file it begins, bytes"),
        Field("block", "<i8", "its number, from 0 without gaps over all segments"),
        Field("first_seq", "<i8", "of its first command; of the next one when it has none"),
        Field("durable_seq", "<i8", "highest command whose sync had returned when it was built"),
        Field("layout", "<i8", "digest of COMMAND, the layout of the lines"),
        Field("record_count", "<u4", "commands in it"),
        Field("body_bytes", "<u4", "of their lines"),
        Field("kind", "u1", "engine.wal: DATA, HEARTBEAT or SEAL"),
        Field("reserved", "u1", "zero"),
        Field("format", "<u2", "version of this format"),
        Field("release", "<u4", "release of the program that wrote it"),
        Field("reserved2", "<i8", "zero"),
    ),
)

WAL_MANIFEST = record(
    "WAL_MANIFEST",
    "which WAL a data directory holds, and where the newest start of the engine appends",
    size_bytes=128,
    fields=(
        Field("magic", "<i8", "PERPMAN1"),
        Field("hash", "<i8", "of the words after it"),
        Field("wal_hi", "<i8", "which WAL, first 8 bytes"),
        Field("wal_lo", "<i8", "which WAL, last 8 bytes"),
        Field("epoch", "<i8", "counts starts, from 1"),
        Field("segment_bytes", "<i8", "size of a segment file"),
        Field("segment", "<i8", "where this epoch's first block goes: the file"),
        Field("offset", "<i8", "and the byte in it"),
        Field("block", "<i8", "number of that block"),
        Field("seq", "<i8", "last command before it"),
        Field("previous_hash", "<i8", "header_hash of the block before it"),
        Field("created_ns", "<i8", "when this epoch began, ns since the Unix epoch"),
        Field("release", "<i8", "release of the program that began it"),
        Field("reserved", "3i8", "zero"),
    ),
)

WATERMARK = record(
    "WATERMARK",
    "how far the WAL is durable, kept outside it in two slots written in turn",
    size_bytes=64,
    fields=(
        Field("magic", "<i8", "PERPMRK1"),
        Field("hash", "<i8", "of the words after it"),
        Field("wal_hi", "<i8", "which WAL, first 8 bytes"),
        Field("wal_lo", "<i8", "which WAL, last 8 bytes"),
        Field("epoch", "<i8", "start of the engine that wrote it"),
        Field("durable_seq", "<i8", "highest command whose sync has returned"),
        Field("block", "<i8", "the block it ends"),
        Field("count", "<i8", "which write this is: even ones go to slot 0, odd ones to slot 1"),
    ),
)

REPORT_SEGMENT = record(
    "REPORT_SEGMENT",
    "first 4096 bytes of a report log file, zero padded; raw reports follow",
    size_bytes=64,
    fields=(
        Field("magic", "<i8", "PERPREP1"),
        Field("hash", "<i8", "of the words after it"),
        Field("wal_hi", "<i8", "which WAL the reports come from, first 8 bytes"),
        Field("wal_lo", "<i8", "which WAL, last 8 bytes"),
        Field("epoch", "<i8", "start of the engine that made the file"),
        Field("first_index", "<i8", "index of its first report"),
        Field("record_count", "<i8", "how many reports it has room for"),
        Field("layout", "<i8", "digest of the report records"),
    ),
)

REPORT_GROUP = record(
    "REPORT_GROUP",
    "integrity of a group of reports, one row each in the file beside the segment",
    size_bytes=32,
    fields=(
        Field("hash", "<i8", "of the reports; 0: the group is not complete"),
        Field("first_seq", "<i8", "of its first report"),
        Field("last_seq", "<i8", "of its last report"),
        Field("record_count", "<i8", "reports in it"),
    ),
)

FOLLOWER = record(
    "FOLLOWER",
    "how far a registered follower has got; the report log is kept for it",
    size_bytes=64,
    fields=(
        Field("magic", "<i8", "PERPFOL1"),
        Field("index", "<i8", "reports it has done with"),
        Field("updated_ns", "<i8", "when it said so"),
        Field("name", "32u1", "text, zero padded"),
        Field("reserved", "<i8", "zero"),
    ),
)

SNAPSHOT_HEADER = record(
    "SNAPSHOT_HEADER",
    "head of a snapshot file; a JSON text and the sections follow",
    size_bytes=64,
    fields=(
        Field("magic", "<i8", "PERPSNP1"),
        Field("hash", "<i8", "of the words after it"),
        Field("file_bytes", "<i8", "size of the whole file"),
        Field(
            "file_hash", "<i8", "of text and section table, which holds the hash of each section"
        ),
        Field("meta_bytes", "<i8", "of the JSON text with the zeros after it"),
        Field("section_count", "<i8", "rows of the section table"),
        Field("format", "<i8", "version of this format"),
        Field("reserved", "<i8", "zero"),
    ),
)

SNAPSHOT_SECTION = record(
    "SNAPSHOT_SECTION",
    "one table in a snapshot file",
    size_bytes=128,
    fields=(
        Field("name", "32u1", "text, zero padded"),
        Field("type", "48u1", "numpy type as text, or the name of a record; zero padded"),
        Field("layout", "<i8", "digest of that record, 0 for a plain type"),
        Field("rows", "<i8", "how many"),
        Field("row_bytes", "<i8", "of one"),
        Field("offset", "<i8", "where they begin in the file, a multiple of 64"),
        Field("bytes", "<i8", "rows * row_bytes; zeros up to a multiple of 64 follow"),
        Field("hash", "<i8", "of them"),
    ),
)
