/* What the module `_native` is made of. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyType_Spec aipc_ring_spec; /* _native_ring.c */
