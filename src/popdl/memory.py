"""Keeping freed memory in the process, where work takes and frees large blocks again and again."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]


def keep_freed_memory() -> None:
    """Tell the C library not to give freed memory back to the kernel, for as long as the process lives.

    By default a freed block of some megabytes goes back, and its pages are faulted in again when the next is taken. That
    takes longer than a simulation of a short window, and longer than writing the numbers of a network's layer. What is
    computed stays the same.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # The numbers are those of glibc's malloc.h; other C libraries do nothing here.
        mallopt(-4, 0)  # M_MMAP_MAX: take large blocks from the heap
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never shrink the heap
        mallopt(-2, 64 * 2**20)  # M_TOP_PAD: grow it in large steps
