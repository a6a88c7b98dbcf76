/* Reception: what a `receive` awaits on a Unix socket. The task parks, and the loop reads for it (`read_ahead`), if it must wait for
   certain, and to spin would not pay; otherwise it goes on in Python. See docs/explanation/native.md. */

#include "_native.h"

#include <time.h>

double aipc_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* By the channel's method of that name. */
static PySendResult go_on_in_python(Reception *self, PyObject *name, PyObject **result)
{
    Py_XSETREF(self->inner, PyObject_CallMethodNoArgs(self->channel, name));
    PySendResult outcome = self->inner == NULL ? PYGEN_ERROR : PyIter_Send(self->inner, Py_None, result);
    if (outcome != PYGEN_NEXT)
        Py_CLEAR(self->channel);
    return outcome;
}

static PySendResult end_with(Reception *self, PyObject *message, PyObject **result)
{
    Py_CLEAR(self->channel);
    *result = message;
    return message == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* Whether a task of that reactor's loop, one of asyncio's, runs this code. */
static int runs_here(PyObject *reactor)
{
    if (!aipc_runs_in(reactor)) { /* to ask takes a getpid(2) on Python 3.11 */
        PyObject *here = PyObject_CallNoArgs(aipc_used.running_loop);
        Py_XDECREF(here);
        if (here == NULL || here != AT(reactor, reactor_loop))
            return 0;
    }
    PyObject *in_trio = PyObject_CallNoArgs(aipc_used.in_trio_task);
    Py_XDECREF(in_trio);
    return in_trio == Py_False;
}

/* As `Spin.pays`, and no crowd is known of: then Python spins. */
static int pays(PyObject *reactor)
{
    PyObject *spin = AT(reactor, reactor_spin);
    double until = PyFloat_AsDouble(AT(AT(reactor, reactor_crowd), crowd_until));
    return AT(spin, spin_active) == Py_False && PyLong_AsLong(AT(spin, spin__skip)) == 0 &&
           PyFloat_AsDouble(AT(spin, spin_expected)) <= aipc_used.longest_spin && (until == 0 || aipc_now() >= until);
}

enum step { IN_PYTHON, TURN, PARK };

/* How to wait, if there is nothing to read for certain. */
static enum step next_step(PyObject *channel, PyObject *readable)
{
    PyObject *reactor = AT(readable, readiness__reactor);
    if (AT(readable, readiness_exhausted) != Py_True || AT(readable, readiness_empty) != Py_True || reactor == Py_None ||
        AT(readable, readiness__paused) != Py_False || AT(readable, readiness__watched) != Py_True || !aipc_holds_nothing(channel))
        return IN_PYTHON;
    bool spins = AT(readable, readiness_spins) == Py_True && pays(reactor);
    if ((spins && !aipc_turns_first(channel, reactor)) || PyErr_Occurred() || !runs_here(reactor) || aipc_logs_waits() != 0)
        return IN_PYTHON;
    return spins ? TURN : PARK;
}

/* 1; 0: the channel was closed meanwhile; -1: an error. */
static int park(Reception *self, PyObject *readable)
{
    Parking *parking = aipc_new_parking(AT(AT(readable, readiness__reactor), reactor_loop)); /* may collect garbage */
    if (parking == NULL || AT(readable, readiness__watched) != Py_True || !aipc_is_free(readable)) {
        Py_XDECREF(parking);
        return parking == NULL ? -1 : 0;
    }
    self->parking = parking;
    PyObject *spin = AT(AT(readable, readiness__reactor), reactor_spin);
    if (PyLong_AsLong(AT(spin, spin__skip)) > 0 && aipc_add(spin, spin__skip, -1) < 0) /* as `Spin.wait_begins` */
        return -1;
    self->began = aipc_now();
    aipc_set(readable, readiness__first, Py_NewRef((PyObject *)self->parking));
    aipc_set(readable, readiness_reception, Py_NewRef((PyObject *)self));
    aipc_set(readable, readiness_budget, Py_NewRef(aipc_used.full_budget));
    return 1;
}

static void unpark(Reception *self)
{
    PyObject *readable = AT(self->channel, channel__incoming);
    if (AT(readable, readiness_reception) == (PyObject *)self)
        aipc_set(readable, readiness_reception, Py_NewRef(Py_None));
    Py_CLEAR(self->parking);
}

static PySendResult begin(Reception *self, PyObject **result)
{
    PyObject *readable = AT(self->channel, channel__incoming);
    if (!aipc_is_free(readable))
        return go_on_in_python(self, aipc_name__receive_in_python, result);
    PyObject *message = aipc_take_buffered(self->channel, readable);
    if (message != NULL && aipc_add(readable, readiness_budget, -1) < 0)
        Py_CLEAR(message);
    if (message != NULL || PyErr_Occurred())
        return end_with(self, message, result);
    enum step step = next_step(self->channel, readable);
    if (step == TURN) {
        aipc_turn_begins(self, readable);
        *result = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    }
    if (step != PARK || park(self, readable) <= 0)
        return PyErr_Occurred() ? end_with(self, NULL, result) : go_on_in_python(self, aipc_name__receive_in_python, result);
    *result = Py_NewRef((PyObject *)self->parking);
    return PYGEN_NEXT;
}

/* The task was woken: usually its message was read for it. */
static PySendResult end(Reception *self, PyObject **result)
{
    PyObject *readable = AT(self->channel, channel__incoming);
    unpark(self);
    PyObject *reactor = AT(readable, readiness__reactor);
    if (reactor != Py_None && aipc_learn(AT(reactor, reactor_spin), aipc_now() - self->began) < 0)
        return end_with(self, NULL, result);
    PyObject *message = AT(readable, readiness__first) == Py_None ? aipc_take_buffered(self->channel, readable) : NULL;
    if (message != NULL || PyErr_Occurred())
        return end_with(self, message, result);
    return go_on_in_python(self, aipc_name__receive_again, result); /* it keeps its place */
}

/* A task that was parked is so no more, perhaps after it was woken: what was read for it is the next one's. */
static void leave(Reception *self)
{
    if (self->channel == NULL || self->parking == NULL)
        return;
    PyObject *type, *value, *traceback, *parking = Py_NewRef((PyObject *)self->parking);
    PyObject *readable = Py_NewRef(AT(self->channel, channel__incoming));
    PyErr_Fetch(&type, &value, &traceback);
    unpark(self);
    PyObject *done = PyObject_CallMethodOneArg(readable, aipc_name__wait_cancelled, parking);
    Py_XSETREF(done, done == NULL ? NULL : PyObject_CallMethodNoArgs(readable, aipc_name_wake));
    if (done == NULL)
        PyErr_WriteUnraisable(readable);
    Py_XDECREF(done);
    Py_DECREF(parking);
    Py_DECREF(readable);
    PyErr_Restore(type, value, traceback);
}

/* The task runs again. */
static PySendResult resume(Reception *self, PyObject **result)
{
    PyObject *woken = aipc_result((PyObject *)self->parking, NULL);
    Py_XDECREF(woken);
    if (woken != NULL)
        return end(self, result);
    leave(self);
    return end_with(self, NULL, result);
}

static PySendResult reception_send(PyObject *object, PyObject *value, PyObject **result)
{
    Reception *self = (Reception *)object;
    *result = NULL;
    if (self->channel == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "it was awaited already");
        return PYGEN_ERROR;
    }
    if (self->parking != NULL)
        return resume(self, result);
    if (self->spin != NULL) {
        PyObject *message = aipc_look(self);
        if (message == NULL && !PyErr_Occurred() && self->channel == NULL)
            PyErr_SetString(PyExc_RuntimeError, "it was closed while it ran");
        return message != NULL || PyErr_Occurred() ? end_with(self, message, result)
                                                   : go_on_in_python(self, aipc_name__receive_in_python, result);
    }
    if (self->inner == NULL)
        return begin(self, result);
    PySendResult outcome = PyIter_Send(self->inner, value, result);
    if (outcome != PYGEN_NEXT)
        Py_CLEAR(self->channel);
    return outcome;
}

/* send(value), for trio, which answers what its tasks yield. */
static PyObject *reception_send_method(PyObject *self, PyObject *value)
{
    PyObject *result, *stop;
    if (reception_send(self, value, &result) != PYGEN_RETURN)
        return result;
    stop = PyObject_CallOneArg(PyExc_StopIteration, result);
    if (stop != NULL)
        PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
    Py_DECREF(result);
    return NULL;
}

static PyObject *reception_next(PyObject *self)
{
    return reception_send_method(self, Py_None);
}

/* Raise what `throw` was given: an exception, or a class, a value and a traceback. */
static void raise_given(PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || !(PyExceptionInstance_Check(args[0]) || PyExceptionClass_Check(args[0]))) {
        PyErr_SetString(PyExc_TypeError, "throw(exception)");
        return;
    }
    PyObject *type = args[0], *value = count > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *traceback = count > 2 && args[2] != Py_None ? Py_NewRef(args[2]) : NULL;
    if (PyExceptionInstance_Check(type)) {
        value = type;
        type = (PyObject *)Py_TYPE(value);
        traceback = traceback == NULL ? PyException_GetTraceback(value) : traceback;
    }
    PyErr_Restore(Py_NewRef(type), Py_XNewRef(value), traceback);
}

/* throw(type[, value[, traceback]]): into what it waits in; a coroutine's own `throw` calls it so. */
static PyObject *reception_throw(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Reception *self = (Reception *)object;
    if (self->channel == NULL || (self->inner == NULL && self->parking == NULL && self->spin == NULL)) {
        PyErr_SetString(PyExc_RuntimeError, "it is not awaited");
        return NULL;
    }
    if (self->inner == NULL) {
        leave(self);
        aipc_turn_ends(self);
        Py_CLEAR(self->channel);
        raise_given(args, count);
        return NULL;
    }
    PyObject *method = PyObject_GetAttr(self->inner, aipc_name_throw);
    PyObject *yielded = method == NULL ? NULL : PyObject_Vectorcall(method, args, (size_t)count, NULL);
    Py_XDECREF(method);
    if (yielded == NULL)
        Py_CLEAR(self->channel);
    return yielded;
}

static PyObject *reception_close(PyObject *object, PyObject *Py_UNUSED(nothing))
{
    Reception *self = (Reception *)object;
    PyObject *done = NULL;
    if (self->channel != NULL && self->inner != NULL)
        done = PyObject_CallMethodNoArgs(self->inner, aipc_name_close);
    else
        done = Py_NewRef(Py_None);
    leave(self);
    aipc_turn_ends(self);
    Py_CLEAR(self->channel);
    return done;
}

static int reception_traverse(Reception *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->channel);
    Py_VISIT(self->inner);
    Py_VISIT(self->parking);
    Py_VISIT(self->spin);
    return 0;
}

static int reception_clear(Reception *self)
{
    Py_CLEAR(self->channel);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->parking);
    Py_CLEAR(self->spin);
    return 0;
}

static void reception_dealloc(Reception *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    reception_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

PyTypeObject *aipc_reception_type;

/* reception(channel) */
PyObject *aipc_reception(PyObject *Py_UNUSED(module), PyObject *channel)
{
    if (aipc_used.channel == NULL || !PyObject_TypeCheck(channel, (PyTypeObject *)aipc_used.channel)) {
        PyErr_SetString(PyExc_TypeError, "reception(channel)");
        return NULL;
    }
    Reception *self = (Reception *)aipc_reception_type->tp_alloc(aipc_reception_type, 0);
    if (self != NULL)
        self->channel = Py_NewRef(channel);
    return (PyObject *)self;
}

/* What the task waits for, or None. */
static PyObject *reception_waiter(PyObject *self, void *Py_UNUSED(nothing))
{
    PyObject *channel = ((Reception *)self)->channel;
    return Py_NewRef(channel == NULL ? Py_None : AT(channel, channel__incoming));
}

static PyGetSetDef reception_attributes[] = {{"waiter", reception_waiter, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef reception_methods[] = {
    {"send", reception_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))reception_throw, METH_FASTCALL, NULL},
    {"close", reception_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reception_slots[] = {
    {Py_tp_dealloc, reception_dealloc},
    {Py_tp_traverse, reception_traverse},
    {Py_tp_clear, reception_clear},
    {Py_tp_getset, reception_attributes},
    {Py_tp_methods, reception_methods},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, reception_send},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, reception_next},
    {0, NULL},
};

PyType_Spec aipc_reception_spec = {
    "aipc._sys._native.Reception", sizeof(Reception), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, reception_slots,
};
