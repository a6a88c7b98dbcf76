"""System calls that the kernel itself refuses, with any errno: for a child process, which can't take it back (seccomp(2))."""

REFUSE = """
import ctypes, errno, platform, struct

NUMBERS = {
    "x86_64": {"fcntl": 72, "flock": 73, "fchmod": 91, "fstat": 5, "newfstatat": 262, "unlink": 87},
    "aarch64": {"fcntl": 25, "flock": 32, "fchmod": 52, "fstat": 80, "newfstatat": 79, "unlink": 35},
}[platform.machine()]

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

def refuse(call, error, position=None, value=0):
    # From now on `call` fails with that errno; with `position`, only where the argument there is `value`.
    load, equal, ret = 0x20, 0x15, 0x06
    steps = [(load, 0, 0, 0), (equal, 0, 1 if position is None else 3, NUMBERS[call])]
    if position is not None:
        steps += [(load, 0, 0, 16 + 8 * position), (equal, 0, 1, value)]
    steps += [(ret, 0, 0, 0x00050000 | error), (ret, 0, 0, 0x7FFF0000)]
    data = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)
    assert libc.prctl(22, 2, ctypes.byref(Program(len(steps), ctypes.addressof(data)))) == 0, ctypes.get_errno()
"""
"""Code to begin such a child with: `refuse(call, errno)`."""
