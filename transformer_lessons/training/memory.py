"""Large tensors that come and go, without asking the system for new memory each time. Lesson 12."""

import ctypes


def keep_memory() -> bool:
    """Have the C library keep the memory of tensors that are gone for the next ones.

    By default glibc asks the system for each large block and gives it back when it is free. The
    system fills every new page with zeros, which takes longer than most operations on the block.
    False where the C library has no such setting; nothing is changed then. The process keeps what
    it took at its peak.
    Source: the manual page mallopt(3).

    >>> isinstance(keep_memory(), bool)
    True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # not glibc: macOS, Windows, musl
        return False
    M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # numbers of malloc.h
    no_block_apart, never_give_back = mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    return bool(no_block_apart and never_give_back)
