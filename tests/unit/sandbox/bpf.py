"""Run a seccomp program the way the kernel does (linux/filter.h, the instructions that seccomp permits)."""

from __future__ import annotations

import struct

_MASK_32 = 0xFFFFFFFF


def run(program: bytes, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Return the verdict on one call; unknown instructions, jumps out and endless runs are errors."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number & _MASK_32, arch, 0, *padded)
    code: list[tuple[int, int, int, int]] = list(struct.iter_unpack("<HBBI", program))
    accumulator = at = 0
    while True:
        operation, if_true, if_false, k = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x05:
            at += k
        elif operation == 0x15:
            at += if_true if accumulator == k else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= k else if_false
        elif operation == 0x06:
            return k
        else:
            raise ValueError(f"instruction {operation:#x} at {at - 1}")
