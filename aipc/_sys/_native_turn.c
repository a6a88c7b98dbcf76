/* A turn: a task that must wait lets the others of its loop run once, and then looks a few times for its message. `Waiter._spin` does
   the same, and more. See docs/explanation/native.md. */

#include "_native.h"

#include <sys/epoll.h>

enum { LOOKS = 32 }; /* as `Readiness._LOOKS` */

int aipc_turns_first(PyObject *channel, PyObject *reactor)
{
    PyObject *others_ready = AT(reactor, reactor_others_ready);
    if (others_ready == Py_None)
        return PyObject_RichCompareBool(AT(channel, channel__sent), AT(channel, channel__sent_before), Py_EQ);
    PyObject *count = PyObject_CallNoArgs(others_ready);
    int ready = count == NULL ? -1 : PyObject_IsTrue(count);
    Py_XDECREF(count);
    return ready;
}

void aipc_turn_begins(Reception *self, PyObject *readable)
{
    self->spin = Py_NewRef(AT(AT(readable, readiness__reactor), reactor_spin));
    self->began = aipc_now();
    aipc_set(self->spin, spin_active, Py_NewRef(Py_True));
    aipc_set(self->spin, spin_in_a_row, PyLong_FromLong(0)); /* a small number, which exists */
    aipc_set(readable, readiness_budget, Py_NewRef(aipc_used.full_budget));
    aipc_set(readable, readiness__fired, Py_NewRef(Py_False));
}

void aipc_turn_ends(Reception *self)
{
    if (self->spin == NULL)
        return;
    aipc_set(self->spin, spin_active, Py_NewRef(Py_False));
    aipc_set(AT(self->channel, channel__incoming), readiness__fired, Py_NewRef(Py_None));
    Py_CLEAR(self->spin);
}

int aipc_learn(PyObject *spin, double lasted)
{
    double expected = PyFloat_AsDouble(AT(spin, spin_expected));
    lasted = lasted < aipc_used.longest_wait ? lasted : aipc_used.longest_wait;
    PyObject *learnt = PyFloat_FromDouble(expected + (lasted - expected) * aipc_used.weight);
    if (learnt == NULL)
        return -1;
    aipc_set(spin, spin_expected, learnt);
    return 0;
}

/* As `Spin.was_useful`; `looked`: how often. */
static int was_useful(PyObject *spin, int looked, double began)
{
    long penalty = PyLong_AsLong(AT(spin, spin__penalty));
    if (penalty > 1 && aipc_add(spin, spin__penalty, penalty / 2 - penalty) < 0)
        return -1;
    return aipc_learn(spin, looked == 1 ? 0 : aipc_now() - began);
}

/* Whether the task of that channel may read here. */
static bool may_read(PyObject *channel, PyObject *readable)
{
    return aipc_is_free(readable) && AT(readable, readiness__watched) == Py_True && aipc_holds_nothing(channel) &&
           PyLong_AsLong(AT(channel, channel__native_kind)) != 0;
}

/* Whether that descriptor became readable, and nothing else happened. */
static bool is_all(PyObject *events, PyObject *readable)
{
    PyObject *event = PyList_GET_ITEM(events, 0);
    return PyList_GET_SIZE(events) == 1 && PyLong_AsLong(PyTuple_GET_ITEM(event, 1)) == EPOLLIN &&
           PyLong_AsLong(PyTuple_GET_ITEM(event, 0)) == PyLong_AsLong(AT(readable, readiness__fd));
}

enum found { ERROR = -1, NOTHING, MINE, OTHERS };

static enum found look_once(PyObject *channel, PyObject *readable)
{
    PyObject *reactor = AT(readable, readiness__reactor), *epoll = reactor == Py_None ? Py_None : AT(reactor, reactor__epoll);
    if (AT(readable, readiness__fired) == Py_True)
        return MINE;
    if (epoll == Py_None)
        return OTHERS;
    PyObject *zero = PyLong_FromLong(0), *events = PyObject_CallMethodOneArg(epoll, aipc_name_poll, zero), *done;
    Py_DECREF(zero);
    enum found found = events == NULL ? ERROR : PyList_GET_SIZE(events) > 0 ? MINE : NOTHING;
    if (found == MINE && !(is_all(events, readable) && may_read(channel, readable))) { /* an edge comes once: nobody else would tell */
        done = PyObject_CallMethodOneArg(reactor, aipc_name_hand_out, events);
        found = done == NULL ? ERROR : AT(readable, readiness__fired) == Py_True ? MINE : OTHERS;
        Py_XDECREF(done);
    }
    Py_XDECREF(events);
    return found;
}

PyObject *aipc_look(Reception *self)
{
    PyObject *channel = Py_NewRef(self->channel), *readable = Py_NewRef(AT(channel, channel__incoming)), *message = NULL;
    PyObject *spin = Py_NewRef(self->spin);
    int looks = AT(spin, spin__shared) == Py_True ? 1 : LOOKS, looked = 0;
    enum found found = NOTHING;
    while (found == NOTHING && self->spin != NULL && looked++ < looks)
        found = look_once(channel, readable);
    aipc_turn_ends(self);
    if (found == MINE && self->channel != NULL && may_read(channel, readable)) {
        aipc_set(readable, readiness_exhausted, Py_NewRef(AT(readable, readiness_trusts_edges))); /* unless the read tells more */
        message = aipc_read_and_keep(channel, readable) > 0 ? aipc_take_buffered(channel, readable) : NULL;
        if (message != NULL && was_useful(spin, looked, self->began) < 0)
            Py_CLEAR(message);
    }
    Py_DECREF(spin);
    Py_DECREF(readable);
    Py_DECREF(channel);
    return message;
}
