"""Emitting log records whose attributes are put together later (``emit/_late.py``).

It relies on internals of opentelemetry-sdk, therefore everything is looked at before it is used: another SDK or version
gets the public call.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

from opentelemetry._logs import LogRecord

from ._late import Make, late, late_attributes


class Record(LogRecord):
    """A log record of ours. Each batching processor copies it, which takes its time without a method for that."""

    def __copy__(self) -> Record:
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied


def emit(logger: Any, record: Record, attributes: Make) -> None:
    """``logger.emit(record)``, for a record without exception that has the attributes ``attributes()``."""
    known = _logs()
    limits = getattr(logger, "_log_record_limits", None)
    if known is None or limits is None or type(logger) is not known[0]:
        record.attributes = attributes()
        logger.emit(record)
        return
    record.attributes = late(
        attributes, limits.max_log_record_attributes, limits.max_log_record_attribute_length, extended=True
    )
    writable = object.__new__(known[1])  # its constructor would read them
    writable.log_record = record
    writable.resource = logger.resource
    writable.instrumentation_scope = logger.instrumentation_scope
    writable.limits = limits
    logger.emit(writable)


@cache
def _logs() -> tuple[Any, Any] | None:
    # Imported when it is needed: this import starts threads, which a process that ends cannot.
    try:
        from opentelemetry.sdk._logs import Logger, ReadWriteLogRecord
    except ImportError:
        return None
    has = [each.name for each in fields(ReadWriteLogRecord)]
    like_ours = has == ["log_record", "resource", "instrumentation_scope", "limits"]
    return (Logger, ReadWriteLogRecord) if like_ours and late_attributes() is not None else None
