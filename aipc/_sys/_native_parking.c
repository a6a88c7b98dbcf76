/* Parking: what a task that is parked in a Reception waits for. It is a future by the protocol of asyncio's tasks (what has
   `_asyncio_future_blocking` is one), and may run that task at once, where asyncio's would tell the loop to run it in its next turn. Its
   `__class__` is asyncio.Future, because anyio asks for that before it cancels a task. See docs/explanation/native.md. */

#include "_native.h"

#include <stdbool.h>

PyTypeObject *aipc_parking_type;
static _Thread_local PyObject *running; /* the reactor whose tasks `run` runs in this thread; not counted */
static _Thread_local int logs_waits;    /* as it was when they began */

bool aipc_runs_in(PyObject *reactor)
{
    return running == reactor;
}

static int ask_whether_logs_waits(void)
{
    PyObject *logs = PyObject_CallNoArgs(aipc_used.logs_waits);
    Py_XDECREF(logs);
    return logs == NULL ? -1 : logs != Py_False;
}

int aipc_logs_waits(void)
{
    return running == NULL ? ask_whether_logs_waits() : logs_waits;
}

static int call_soon(Parking *self, PyObject *callback, PyObject *context)
{
    PyObject *method = PyObject_GetAttr(self->loop, aipc_name_call_soon), *args[] = {callback, (PyObject *)self, context};
    PyObject *handle = method == NULL ? NULL : PyObject_Vectorcall(method, args, 2, aipc_used.context_keyword);
    Py_XDECREF(method);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

/* Have the loop call what waits, in its next turn. */
static int schedule(Parking *self)
{
    PyObject *callback = self->callback, *context = self->context, *others = self->others;
    if (callback == NULL)
        return 0;
    self->callback = self->context = self->others = NULL;
    int failed = call_soon(self, callback, context);
    for (Py_ssize_t index = 0; !failed && others != NULL && index < PyList_GET_SIZE(others); index++) {
        PyObject *pair = PyList_GET_ITEM(others, index);
        failed = call_soon(self, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    }
    Py_DECREF(callback);
    Py_DECREF(context);
    Py_XDECREF(others);
    return failed;
}

int aipc_wake(Parking *self, PyObject *woken)
{
    if (PyList_CheckExact(woken) && PyList_Append(woken, (PyObject *)self) < 0)
        return -1;
    self->state = WOKEN;
    return PyList_CheckExact(woken) ? 0 : schedule(self);
}

/* Run the task now: no task runs here. A task of Python's own class might turn the loop, as with nest_asyncio, which would know nothing
   of those that wait for their turn here; those of C refuse to. */
static int run_now(Parking *self)
{
    PyObject *callback = self->callback, *context = self->context;
    if (callback == NULL || !PyCFunction_Check(callback) || self->others != NULL)
        return schedule(self);
    if (PyContext_Enter(context) < 0) {
        PyErr_Clear(); /* the context of a task that shares it with what runs here */
        return schedule(self);
    }
    self->callback = self->context = NULL;
    PyObject *done = PyObject_CallOneArg(callback, (PyObject *)self), *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyContext_Exit(context) < 0)
        PyErr_WriteUnraisable(context);
    PyErr_Restore(type, value, traceback);
    Py_XDECREF(done);
    Py_DECREF(callback);
    Py_DECREF(context);
    return done == NULL ? -1 : 0;
}

/* The loop runs those from `index` on later; the error that is set goes on. */
static void schedule_rest(PyObject *woken, Py_ssize_t index)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    for (; index < PyList_GET_SIZE(woken); index++) {
        PyObject *parking = Py_NewRef(PyList_GET_ITEM(woken, index));
        if (Py_IS_TYPE(parking, aipc_parking_type) && schedule((Parking *)parking) < 0)
            PyErr_WriteUnraisable(woken);
        Py_DECREF(parking);
    }
    PyErr_Restore(type, value, traceback);
}

/* run(woken, reactor): run the tasks that `read_ahead` has woken, one after the other. None of them spins while others wait for their
   turn. */
PyObject *aipc_run(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyList_CheckExact(args[0]) || aipc_used.reactor == NULL ||
        !PyObject_TypeCheck(args[1], (PyTypeObject *)aipc_used.reactor)) {
        PyErr_SetString(PyExc_TypeError, "run(woken: list, reactor)");
        return NULL;
    }
    PyObject *woken = args[0], *spin = AT(args[1], reactor_spin), *before = running;
    bool marked = false; /* `spin` as active: for those that wait for their turn here, and no task spins */
    int failed = (logs_waits = ask_whether_logs_waits()) < 0;
    running = args[1];
    Py_INCREF(spin);
    for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(woken); index++) {
        bool last = index == PyList_GET_SIZE(woken) - 1;
        if (last ? marked : AT(spin, spin_active) == Py_False) {
            marked = !last;
            aipc_set(spin, spin_active, Py_NewRef(marked ? Py_True : Py_False));
        }
        PyObject *parking = Py_NewRef(PyList_GET_ITEM(woken, index));
        failed = Py_IS_TYPE(parking, aipc_parking_type) ? run_now((Parking *)parking) : 0;
        Py_DECREF(parking);
        if (failed) { /* an interrupt: a task keeps its own exceptions */
            if (marked)
                aipc_set(spin, spin_active, Py_NewRef(Py_False));
            schedule_rest(woken, index + 1);
        }
    }
    running = before;
    Py_DECREF(spin);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

/* One more than the task's. */
static int add_other(Parking *self, PyObject *callback, PyObject *context)
{
    if (self->others == NULL && (self->others = PyList_New(0)) == NULL)
        return -1;
    PyObject *pair = PyTuple_Pack(2, callback, context);
    int failed = pair == NULL || PyList_Append(self->others, pair) < 0;
    Py_XDECREF(pair);
    return failed ? -1 : 0;
}

/* add_done_callback(callback, *, context=None) */
static PyObject *add_done_callback(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Parking *self = (Parking *)object;
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (count != 1 || named > 1 || (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "context") != 0))
        return PyErr_Format(PyExc_TypeError, "add_done_callback(callback, *, context=None)");
    PyObject *context = named == 0 || args[1] == Py_None ? PyContext_CopyCurrent() : Py_NewRef(args[1]);
    if (context == NULL)
        return NULL;
    int failed = 0;
    if (self->state != PENDING)
        failed = call_soon(self, args[0], context);
    else if (self->callback != NULL)
        failed = add_other(self, args[0], context);
    else {
        self->callback = Py_NewRef(args[0]);
        self->context = Py_NewRef(context);
    }
    Py_DECREF(context);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *set_result(PyObject *object, PyObject *Py_UNUSED(result))
{
    Parking *self = (Parking *)object;
    if (self->state != PENDING)
        return PyErr_Format(PyExc_RuntimeError, "it was woken or cancelled already");
    return aipc_wake(self, Py_None) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *cancel(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"msg", NULL};
    Parking *self = (Parking *)object;
    PyObject *message = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O", names, &message))
        return NULL;
    if (self->state != PENDING)
        Py_RETURN_FALSE;
    self->state = CANCELLED;
    self->message = Py_NewRef(message);
    return schedule(self) < 0 ? NULL : Py_NewRef(Py_True);
}

/* None, CancelledError, or RuntimeError if it waits still. */
PyObject *aipc_result(PyObject *object, PyObject *Py_UNUSED(nothing))
{
    Parking *self = (Parking *)object;
    if (self->state == WOKEN)
        Py_RETURN_NONE;
    if (self->state == PENDING)
        return PyErr_Format(PyExc_RuntimeError, "it was neither woken nor cancelled");
    PyObject *error = self->message == Py_None ? PyObject_CallNoArgs(aipc_used.cancelled_error)
                                               : PyObject_CallOneArg(aipc_used.cancelled_error, self->message);
    if (error != NULL)
        PyErr_SetObject(aipc_used.cancelled_error, error);
    Py_XDECREF(error);
    return NULL;
}

/* None, or as `result`. */
static PyObject *exception(PyObject *object, PyObject *nothing)
{
    return aipc_result(object, nothing);
}

static PyObject *is_done(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    return PyBool_FromLong(((Parking *)self)->state != PENDING);
}

static PyObject *is_cancelled(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    return PyBool_FromLong(((Parking *)self)->state == CANCELLED);
}

static PyObject *get_loop(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    return Py_NewRef(((Parking *)self)->loop);
}

static PyObject *get_blocking(PyObject *self, void *Py_UNUSED(nothing))
{
    return PyBool_FromLong(((Parking *)self)->blocking);
}

static PyObject *get_class(PyObject *Py_UNUSED(self), void *Py_UNUSED(nothing))
{
    return Py_NewRef(aipc_used.future);
}

static int set_blocking(PyObject *self, PyObject *value, void *Py_UNUSED(nothing))
{
    int blocking = value == NULL ? 0 : PyObject_IsTrue(value);
    if (blocking < 0)
        return -1;
    ((Parking *)self)->blocking = blocking;
    return 0;
}

Parking *aipc_new_parking(PyObject *loop)
{
    Parking *self = (Parking *)aipc_parking_type->tp_alloc(aipc_parking_type, 0);
    if (self != NULL) {
        self->loop = Py_NewRef(loop);
        self->blocking = true; /* as a future that is awaited */
    }
    return self;
}

static int parking_traverse(Parking *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->others);
    Py_VISIT(self->message);
    return 0;
}

static int parking_clear(Parking *self)
{
    Py_CLEAR(self->loop);
    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
    Py_CLEAR(self->others);
    Py_CLEAR(self->message);
    return 0;
}

static void parking_dealloc(Parking *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    parking_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyGetSetDef parking_attributes[] = {
    {"__class__", get_class, NULL, NULL, NULL},
    {"_asyncio_future_blocking", get_blocking, set_blocking, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef parking_methods[] = {
    {"add_done_callback", (PyCFunction)(void (*)(void))add_done_callback, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"cancel", (PyCFunction)(void (*)(void))cancel, METH_VARARGS | METH_KEYWORDS, NULL},
    {"cancelled", is_cancelled, METH_NOARGS, NULL},
    {"done", is_done, METH_NOARGS, NULL},
    {"exception", exception, METH_NOARGS, NULL},
    {"get_loop", get_loop, METH_NOARGS, NULL},
    {"result", aipc_result, METH_NOARGS, NULL},
    {"set_result", set_result, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot parking_slots[] = {
    {Py_tp_dealloc, parking_dealloc}, {Py_tp_traverse, parking_traverse},   {Py_tp_clear, parking_clear},
    {Py_tp_methods, parking_methods}, {Py_tp_getset, parking_attributes}, {0, NULL},
};

PyType_Spec aipc_parking_spec = {
    "aipc._sys._native.Parking",
    sizeof(Parking),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    parking_slots,
};
