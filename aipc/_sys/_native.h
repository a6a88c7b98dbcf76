/* What the module `_native` is made of. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Attributes of Python's objects, all of them in `__slots__`. */
#define SLOTS(SLOT) \
    SLOT(channel, _bytes_received) SLOT(channel, _bytes_sent) SLOT(channel, _framing) SLOT(channel, _incoming) \
    SLOT(channel, _input_error) SLOT(channel, _native_kind) SLOT(channel, _outgoing) SLOT(channel, _output_ended) SLOT(channel, _reader) SLOT(channel, _received) \
    SLOT(channel, _rest) SLOT(channel, _sent) SLOT(channel, _sent_before) SLOT(channel, _short) SLOT(channel, _unfinished) \
    SLOT(channel, _writer) SLOT(crowd, until) SLOT(handle, fd) SLOT(reactor, crowd) SLOT(reactor, loop) SLOT(reactor, spin) \
    SLOT(readiness, _first) SLOT(readiness, _generation) SLOT(readiness, _others) SLOT(readiness, _paused) SLOT(readiness, _reactor) \
    SLOT(readiness, _watched) SLOT(readiness, budget) SLOT(readiness, buffered) SLOT(readiness, empty) SLOT(readiness, exhausted) \
    SLOT(readiness, reception) SLOT(readiness, spins) SLOT(spin, _skip) SLOT(spin, active) \
    SLOT(spin, expected) SLOT(spin, in_a_row)

#define SLOT_NUMBER(owner, name) owner##_##name,
enum { SLOTS(SLOT_NUMBER) SLOT_COUNT };
extern Py_ssize_t aipc_offsets[SLOT_COUNT];
#define AT(object, slot) (*(PyObject **)((char *)(object) + aipc_offsets[slot]))
void aipc_set(PyObject *object, int slot, PyObject *value);    /* takes the value over */
int aipc_add(PyObject *object, int slot, Py_ssize_t count);    /* -1: an error */
int aipc_is_free(PyObject *readiness);                         /* no task waits there, and it has some of its budget left */
PyObject *aipc_take_buffered(PyObject *channel, PyObject *readable); /* NULL without an error: nothing was read ahead */

/* What `use` was given: see `transports/channel_in_c.py`. `loop_keyword` is the names of the keywords (loop,). */
extern struct aipc_used {
    PyObject *channel, *readiness, *future, *running_loop, *in_trio_task, *logs_waits, *full_budget, *loop_keyword;
    double longest_spin, longest_wait, weight;
} aipc_used;

/* The names of what is called, as strings. */
#define NAMES(NAME) \
    NAME(__await__) NAME(_keep) NAME(_keep_error) NAME(_receive_again) NAME(_receive_in_python) NAME(_wait_cancelled) NAME(close) \
    NAME(deadly) NAME(done) NAME(generation) NAME(kind) NAME(limit) NAME(loop) NAME(set_result) NAME(throw) NAME(wake)
#define DECLARE_NAME(name) extern PyObject *aipc_name_##name;
NAMES(DECLARE_NAME)

typedef struct {
    PyObject_HEAD
    PyObject *channel; /* NULL once it has ended */
    PyObject *inner;   /* what the task waits in: the future's iterator while it is parked, or a coroutine of Python's */
    PyObject *future;  /* while it is parked */
    double began;
} Reception; /* _native_reception.c */

extern PyType_Spec aipc_ring_spec; /* _native_ring.c */
extern PyType_Spec aipc_reception_spec;
PyObject *aipc_send(PyObject *, PyObject *const *, Py_ssize_t); /* _native_channel.c */
PyObject *aipc_read_ahead(PyObject *, PyObject *const *, Py_ssize_t);
PyObject *aipc_use(PyObject *, PyObject *, PyObject *);
Py_ssize_t aipc_write_frame(int fd, PyObject *item, int kind); /* _native.c */
PyObject *aipc_receive(int fd, int kind, unsigned long long limit, int *whole, int *all);
