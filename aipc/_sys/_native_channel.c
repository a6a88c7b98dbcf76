/* A short message is sent in one call; a message for a task that is parked is read as soon as it has come, with those for other tasks.
   Python has the rules: what is not the simple case is left to the Python code, which is the reference. See
   docs/explanation/native.md. */

#include "_native.h"

#include <structmember.h>

#include <errno.h>
#include <sys/epoll.h>

Py_ssize_t aipc_offsets[SLOT_COUNT];
struct aipc_used aipc_used;
static PyObject *fork_names, *sigpipe_names; /* of these modules */
#define DEFINE_NAME(name) PyObject *aipc_name_##name;
NAMES(DEFINE_NAME)

void aipc_set(PyObject *object, int slot, PyObject *value)
{
    PyObject *before = AT(object, slot);
    AT(object, slot) = value;
    Py_XDECREF(before);
}

int aipc_add(PyObject *object, int slot, Py_ssize_t count)
{
    PyObject *change = PyLong_FromSsize_t(count), *sum = change == NULL ? NULL : PyNumber_Add(AT(object, slot), change);
    Py_XDECREF(change);
    if (sum == NULL)
        return -1;
    aipc_set(object, slot, sum);
    return 0;
}

int aipc_is_free(PyObject *readiness)
{
    return AT(readiness, readiness__first) == Py_None && PyLong_AsLong(AT(readiness, readiness_budget)) > 0 &&
           AT(readiness, readiness__generation) == PyDict_GetItem(fork_names, aipc_name_generation);
}

bool aipc_holds_nothing(PyObject *channel)
{
    PyObject *rest = AT(channel, channel__rest), *buffered = AT(AT(channel, channel__incoming), readiness_buffered);
    return PyBytes_CheckExact(rest) && PyBytes_GET_SIZE(rest) == 0 && PyList_CheckExact(buffered) && PyList_GET_SIZE(buffered) == 0 &&
           AT(channel, channel__input_error) == Py_None;
}

PyObject *aipc_take_buffered(PyObject *channel, PyObject *readable)
{
    PyObject *buffered = AT(readable, readiness_buffered);
    if (!PyList_CheckExact(buffered) || PyList_GET_SIZE(buffered) == 0)
        return NULL;
    Py_ssize_t last = PyList_GET_SIZE(buffered) - 1;
    PyObject *message = Py_NewRef(PyList_GET_ITEM(buffered, last));
    if (PyList_SetSlice(buffered, last, last + 1, NULL) < 0 || aipc_add(channel, channel__received, 1) < 0)
        Py_CLEAR(message);
    else
        aipc_set(channel, channel__sent_before, Py_NewRef(AT(channel, channel__sent)));
    return message;
}

static int kind_of(PyObject *channel)
{
    PyObject *kind = PyObject_GetAttr(AT(channel, channel__framing), aipc_name_kind);
    int number = kind == NULL ? -1 : (int)PyLong_AsLong(kind);
    Py_XDECREF(kind);
    return number;
}

/* Whether nothing stands in the way of a message of that length. */
static int may_send(PyObject *channel, Py_ssize_t size)
{
    PyObject *waiting = AT(channel, channel__outgoing);
    return size <= PyLong_AsSsize_t(AT(channel, channel__short)) && waiting != Py_None && aipc_is_free(waiting) &&
           AT(channel, channel__unfinished) == Py_None && AT(channel, channel__output_ended) == Py_False &&
           PyDict_GetItem(sigpipe_names, aipc_name_deadly) == Py_False;
}

/* send(channel, item): encode and write a short message. 0: all of it is sent; or so many bytes of its frame; -1: nothing is, for whatever
   reason: the Python code tries, waits, and words the error. */
PyObject *aipc_send(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || aipc_used.channel == NULL || !PyObject_TypeCheck(args[0], (PyTypeObject *)aipc_used.channel)) {
        PyErr_SetString(PyExc_TypeError, "send(channel, item)");
        return NULL;
    }
    PyObject *channel = args[0], *item = args[1];
    if (!PyBytes_CheckExact(item) || !may_send(channel, PyBytes_GET_SIZE(item)))
        return PyErr_Occurred() ? NULL : PyLong_FromLong(-1);
    PyObject *waiting = AT(channel, channel__outgoing);
    int kind = kind_of(channel), fd = (int)PyLong_AsLong(AT(AT(channel, channel__writer), handle_fd)); /* -1 if it is closed */
    if (PyErr_Occurred())
        return NULL;
    Py_ssize_t written = aipc_write_frame(fd, item, kind);
    if (written < 0)
        return PyLong_FromLong(-1);
    if (aipc_add(waiting, readiness_budget, -1) < 0 || aipc_add(channel, channel__sent, 1) < 0 ||
        aipc_add(channel, channel__bytes_sent, written) < 0)
        return NULL;
    return PyLong_FromSsize_t(written == PyBytes_GET_SIZE(item) + (kind < 0 ? -kind : kind) ? 0 : written);
}

/* One message, of which Python need know nothing yet. */
static int keep_message(PyObject *channel, PyObject *readable, PyObject *message, int kind)
{
    PyObject *list = PyList_New(1);
    if (list == NULL || aipc_add(channel, channel__bytes_received, PyBytes_GET_SIZE(message) + (kind < 0 ? -kind : kind)) < 0) {
        Py_XDECREF(list);
        return -1;
    }
    PyList_SET_ITEM(list, 0, Py_NewRef(message));
    aipc_set(readable, readiness_buffered, list);
    return 0;
}

static int call(PyObject *object, PyObject *name, PyObject *argument)
{
    PyObject *done = PyObject_CallMethodOneArg(object, name, argument);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* 0: nothing came; 1; -1: an error. */
static int read_and_keep(PyObject *channel, PyObject *readable)
{
    PyObject *limit = PyObject_GetAttr(AT(channel, channel__framing), aipc_name_limit);
    if (limit == NULL)
        return -1;
    int kind = (int)PyLong_AsLong(AT(channel, channel__native_kind));
    int fd = (int)PyLong_AsLong(AT(AT(channel, channel__reader), handle_fd));
    unsigned long long most = PyLong_AsUnsignedLongLong(limit);
    Py_DECREF(limit);
    if (PyErr_Occurred())
        return -1;
    int whole, all = 0, failed;
    PyObject *data = aipc_receive(fd, kind, most, &whole, &all);
    if (data == NULL && PyErr_Occurred())
        return -1;
    if (data == NULL && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0; /* another process took it; the next byte brings the next event */
    if (data == NULL) {
        PyObject *number = PyLong_FromLong(errno);
        failed = number == NULL ? -1 : call(channel, aipc_name__keep_error, number);
        Py_XDECREF(number);
    } else
        failed = whole ? keep_message(channel, readable, data, kind) : call(channel, aipc_name__keep, data);
    Py_XDECREF(data);
    aipc_set(readable, readiness_empty, Py_NewRef(all ? Py_True : Py_False));
    if (!all)
        aipc_set(readable, readiness_exhausted, Py_NewRef(Py_False));
    return failed < 0 ? -1 : 1;
}

/* What else failed while it was read: `receive` tells. What is no Exception, as an interrupt, goes on. */
static void keep_failure(PyObject *channel)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (call(channel, aipc_name__keep_failure, value) < 0)
        PyErr_WriteUnraisable(channel);
    if (!PyErr_GivenExceptionMatches(type, PyExc_Exception)) {
        PyErr_Restore(type, value, traceback);
        return;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

int aipc_read_and_keep(PyObject *channel, PyObject *readable)
{
    int came = read_and_keep(channel, readable);
    if (came >= 0)
        return came;
    keep_failure(channel);
    return PyErr_Occurred() ? -1 : 1;
}

/* Whether that task, which was neither woken nor cancelled, is all that waits. */
static int waits_alone(PyObject *readable, Parking *parking)
{
    PyObject *others = AT(readable, readiness__others);
    return parking != NULL && AT(readable, readiness__first) == (PyObject *)parking && parking->state == PENDING &&
           (others == Py_None || PyObject_IsTrue(others) == 0);
}

/* Wake the task, as `Readiness.fired` does. 0: that must do it. */
static int wake(PyObject *readable, Parking *parking, PyObject *woken)
{
    if (!waits_alone(readable, parking))
        return PyErr_Occurred() ? -1 : 0; /* it left meanwhile, or was cancelled */
    PyObject *reactor = Py_NewRef(AT(readable, readiness__reactor));
    int failed = aipc_wake(parking, woken);
    if (!failed && AT(readable, readiness__first) == (PyObject *)parking)
        aipc_set(readable, readiness__first, Py_NewRef(Py_None));
    if (!failed && reactor != Py_None && PyLong_AsLong(AT(AT(reactor, reactor_spin), spin_in_a_row)) == 0)
        failed = aipc_add(AT(reactor, reactor_spin), spin_in_a_row, 1);
    Py_DECREF(reactor);
    if (failed && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear(); /* such as a loop that is closed */
        return 0;
    }
    return failed ? -1 : 1;
}

/* Read for the task that is parked alone, and wake it. 0: Python must do it; -1: an error that is no Exception. */
static int read_for(Reception *reception, PyObject *woken)
{
    PyObject *channel = reception->channel;
    Parking *parking = reception->parking;
    PyObject *readable = channel == NULL ? NULL : AT(channel, channel__incoming);
    if (channel == NULL || !aipc_holds_nothing(channel) || PyLong_AsLong(AT(channel, channel__native_kind)) == 0 || !waits_alone(readable, parking))
        return PyErr_Occurred() ? -1 : 0;
    Py_INCREF(channel); /* what is called may collect garbage, and this with it */
    Py_INCREF(parking);
    int done = aipc_read_and_keep(channel, readable);
    done = done > 0 ? wake(readable, parking, woken) : done == 0 ? 1 : -1;
    Py_DECREF(parking);
    Py_DECREF(channel);
    return done;
}

/* read_ahead(events, readers, woken): read for those tasks that are parked in a Reception; the events that are left. The tasks that can
   go on are added to `woken`, for `run`; or, if that is None, the loop runs them later. */
PyObject *aipc_read_ahead(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "read_ahead(events: list, readers: dict, woken: list or None)");
        return NULL;
    }
    PyObject *left = PyList_New(0);
    for (Py_ssize_t index = 0; left != NULL && index < PyList_GET_SIZE(args[0]); index++) {
        PyObject *pair = PyList_GET_ITEM(args[0], index), *reader = NULL;
        int done = 0;
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2) {
            PyErr_SetString(PyExc_TypeError, "an event is a tuple of a descriptor and its bits");
            Py_CLEAR(left);
            break;
        }
        if (PyLong_AsLong(PyTuple_GET_ITEM(pair, 1)) == EPOLLIN && aipc_used.readiness != NULL)
            reader = PyDict_GetItem(args[1], PyTuple_GET_ITEM(pair, 0));
        if (reader != NULL && PyObject_TypeCheck(reader, (PyTypeObject *)aipc_used.readiness) &&
            AT(reader, readiness_reception) != Py_None) {
            PyObject *reception = Py_NewRef(AT(reader, readiness_reception));
            done = read_for((Reception *)reception, args[2]);
            Py_DECREF(reception);
        }
        if (done < 0 || (done == 0 && PyList_Append(left, pair) < 0))
            Py_CLEAR(left);
    }
    return left;
}

/* Where the slots are, in classes by the names of SLOTS. */
static int find_slots(PyObject *classes)
{
#define SLOT_ROW(owner, name) {#owner, #name},
    static const struct {
        const char *owner, *name;
    } slots[] = {SLOTS(SLOT_ROW)};
    for (int slot = 0; slot < SLOT_COUNT; slot++) {
        PyObject *owner = PyDict_GetItemString(classes, slots[slot].owner);
        PyObject *descriptor = owner == NULL ? NULL : PyObject_GetAttrString(owner, slots[slot].name);
        if (descriptor != NULL && Py_IS_TYPE(descriptor, &PyMemberDescr_Type))
            aipc_offsets[slot] = ((PyMemberDescrObject *)descriptor)->d_member->offset;
        else if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "%s.%s is no slot", slots[slot].owner, slots[slot].name);
        Py_XDECREF(descriptor);
        if (PyErr_Occurred())
            return -1;
    }
    return 0;
}

/* use(...): the classes, functions and numbers of Python's that are needed here, for ever. */
PyObject *aipc_use(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "classes", "future", "cancelled_error", "running_loop", "in_trio_task", "logs_waits", "fork_names", "sigpipe_names", "full_budget", "longest_spin",
        "longest_wait", "weight", NULL,
    };
    struct aipc_used given = {0};
    PyObject *classes, *fork, *sigpipe;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OOOOOO!O!Oddd", names, &PyDict_Type, &classes, &given.future, &given.cancelled_error,
                                     &given.running_loop, &given.in_trio_task, &given.logs_waits, &PyDict_Type, &fork, &PyDict_Type,
                                     &sigpipe, &given.full_budget, &given.longest_spin, &given.longest_wait, &given.weight))
        return NULL;
    if (find_slots(classes) < 0)
        return NULL;
#define INTERN_NAME(name) \
    if ((aipc_name_##name = PyUnicode_InternFromString(#name)) == NULL) \
        return NULL;
    NAMES(INTERN_NAME)
    given.channel = PyDict_GetItemString(classes, "channel");
    given.reactor = PyDict_GetItemString(classes, "reactor");
    given.readiness = PyDict_GetItemString(classes, "readiness");
    given.context_keyword = PyTuple_Pack(1, aipc_name_context);
    if (given.context_keyword == NULL)
        return NULL;
    fork_names = Py_NewRef(fork);
    sigpipe_names = Py_NewRef(sigpipe);
    PyObject *kept[] = {classes, given.future, given.cancelled_error, given.running_loop, given.in_trio_task, given.logs_waits,
                        given.full_budget};
    for (size_t index = 0; index < sizeof kept / sizeof *kept; index++)
        Py_INCREF(kept[index]);
    aipc_used = given;
    Py_RETURN_NONE;
}
