"""What Metal lets a process keep resident, asked of the framework itself without pyobjc."""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["read_metal"]

_METAL = "/System/Library/Frameworks/Metal.framework/Metal"
_OBJC = "/usr/lib/libobjc.A.dylib"


def read_metal() -> dict[str, Any] | None:
    """``recommendedMaxWorkingSetSize`` [bytes] of the default Metal device, or None where there is none.

    References
    ----------
    https://developer.apple.com/documentation/metal/mtldevice/recommendedmaxworkingsetsize
    """
    try:
        metal = ctypes.CDLL(_METAL)
        objc = ctypes.CDLL(_OBJC)
    except OSError:
        return None
    create = metal.MTLCreateSystemDefaultDevice
    create.restype = ctypes.c_void_p
    create.argtypes = []
    device = create()
    if not device:
        return None
    objc.sel_registerName.restype = ctypes.c_void_p
    objc.sel_registerName.argtypes = [ctypes.c_char_p]
    # objc_msgSend must be called with the method's own prototype: (id, SEL) -> uint64.
    send = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p)(("objc_msgSend", objc))
    size = send(device, objc.sel_registerName(b"recommendedMaxWorkingSetSize"))
    return {"recommended_max_working_set_bytes": int(size)} if size else None
