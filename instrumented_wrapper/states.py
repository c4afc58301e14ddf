"""`SessionStateTransferHandlers` by the import path that users of comparable drivers know."""

from instrumented_wrapper.handlers import SessionStateTransferHandlers

__all__ = ["SessionStateTransferHandlers"]
