/* What the module `_native` is made of. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

/* Attributes of Python's objects, all of them in `__slots__`. */
#define SLOTS(SLOT) \
    SLOT(channel, _bytes_received) SLOT(channel, _bytes_sent) SLOT(channel, _framing) SLOT(channel, _incoming) \
    SLOT(channel, _input_error) SLOT(channel, _native_kind) SLOT(channel, _outgoing) SLOT(channel, _output_ended) SLOT(channel, _reader) SLOT(channel, _received) \
    SLOT(channel, _rest) SLOT(channel, _sent) SLOT(channel, _sent_before) SLOT(channel, _short) SLOT(channel, _unfinished) \
    SLOT(channel, _writer) SLOT(crowd, until) SLOT(handle, fd) SLOT(reactor, _epoll) SLOT(reactor, crowd) SLOT(reactor, loop) \
    SLOT(reactor, others_ready) SLOT(reactor, spin) SLOT(readiness, _fd) SLOT(readiness, _fired) \
    SLOT(readiness, _first) SLOT(readiness, _generation) SLOT(readiness, _others) SLOT(readiness, _paused) SLOT(readiness, _reactor) \
    SLOT(readiness, _watched) SLOT(readiness, budget) SLOT(readiness, buffered) SLOT(readiness, empty) SLOT(readiness, exhausted) \
    SLOT(readiness, reception) SLOT(readiness, spins) SLOT(readiness, trusts_edges) SLOT(spin, _penalty) SLOT(spin, _shared) SLOT(spin, _skip) SLOT(spin, active) \
    SLOT(spin, expected) SLOT(spin, in_a_row)

#define SLOT_NUMBER(owner, name) owner##_##name,
enum { SLOTS(SLOT_NUMBER) SLOT_COUNT };
extern Py_ssize_t aipc_offsets[SLOT_COUNT];
#define AT(object, slot) (*(PyObject **)((char *)(object) + aipc_offsets[slot]))
void aipc_set(PyObject *object, int slot, PyObject *value);    /* takes the value over */
int aipc_add(PyObject *object, int slot, Py_ssize_t count);    /* -1: an error */
bool aipc_holds_nothing(PyObject *channel);                    /* all that was read was received, and it was no error */
int aipc_is_free(PyObject *readiness);                         /* no task waits there, and it has some of its budget left */
PyObject *aipc_take_buffered(PyObject *channel, PyObject *readable); /* NULL without an error: nothing was read ahead */

/* What `use` was given: see `transports/channel_in_c.py`. `context_keyword` is the names of the keywords (context,). */
extern struct aipc_used {
    PyObject *channel, *reactor, *readiness, *future, *cancelled_error, *running_loop, *in_trio_task, *logs_waits, *full_budget, *context_keyword;
    double longest_spin, longest_wait, weight;
} aipc_used;

/* The names of what is called, as strings. */
#define NAMES(NAME) \
    NAME(_keep) NAME(_keep_error) NAME(_keep_failure) NAME(_receive_again) NAME(_receive_in_python) NAME(_wait_cancelled) NAME(call_soon) NAME(close) NAME(context) \
    NAME(deadly) NAME(generation) NAME(hand_out) NAME(kind) NAME(limit) NAME(poll) NAME(throw) NAME(wake)
#define DECLARE_NAME(name) extern PyObject *aipc_name_##name;
NAMES(DECLARE_NAME)

typedef struct {
    PyObject_HEAD
    PyObject *loop, *callback, *context; /* no callback: the task has not come yet, or was told */
    PyObject *others;                    /* callbacks and contexts besides, usually NULL */
    PyObject *message;                   /* of its cancellation */
    bool blocking;                       /* as asyncio's futures say that they are awaited */
    enum { PENDING, WOKEN, CANCELLED } state;
} Parking; /* _native_parking.c */
extern PyTypeObject *aipc_parking_type, *aipc_reception_type;
Parking *aipc_new_parking(PyObject *loop);
int aipc_wake(Parking *, PyObject *woken);  /* the task runs later; at once with the others in `woken`, if that is a list */
bool aipc_runs_in(PyObject *reactor);       /* whether `run` runs tasks of that reactor's loop here */
int aipc_logs_waits(void);                  /* whether waits are logged; -1: an error */
PyObject *aipc_result(PyObject *, PyObject *);
PyObject *aipc_run(PyObject *, PyObject *const *, Py_ssize_t);

typedef struct {
    PyObject_HEAD
    PyObject *channel; /* NULL once it has ended */
    PyObject *inner;   /* a coroutine of Python's that it waits in */
    Parking *parking;  /* while it is parked */
    PyObject *spin;    /* while other tasks have a turn: the Spin of their loop */
    double began;
} Reception; /* _native_reception.c */
double aipc_now(void);

int aipc_turns_first(PyObject *channel, PyObject *reactor); /* whether others run before its task looks, as `Waiter.turns_first`; -1 */
void aipc_turn_begins(Reception *, PyObject *readable);     /* others run, and then it is to look */
void aipc_turn_ends(Reception *);                           /* if it takes one */
PyObject *aipc_look(Reception *);                           /* its message; NULL without an error: Python waits on */
int aipc_learn(PyObject *spin, double lasted);              /* as `Spin.wait_ends` */

extern PyType_Spec aipc_ring_spec; /* _native_ring.c */
extern PyType_Spec aipc_reception_spec, aipc_parking_spec;
PyObject *aipc_send(PyObject *, PyObject *const *, Py_ssize_t); /* _native_channel.c */
PyObject *aipc_read_ahead(PyObject *, PyObject *const *, Py_ssize_t);
int aipc_read_and_keep(PyObject *channel, PyObject *readable); /* for its task. 0: nothing came; 1; -1: an error that is no Exception */
PyObject *aipc_use(PyObject *, PyObject *, PyObject *);
PyObject *aipc_reception(PyObject *, PyObject *);
Py_ssize_t aipc_write_frame(int fd, PyObject *item, int kind); /* _native.c */
PyObject *aipc_receive(int fd, int kind, unsigned long long limit, int *whole, int *all);
