/* The quick, simple cases of framing and of a wait that spins; `_native_channel.c` and `_native_reception.c` have those of a channel,
   `_native_ring.c` those of a ring in shared memory. Python has the
   rules: a function that meets anything else leaves it to the Python code beside it, which is the reference. See
   docs/explanation/native.md. */

#include "_native.h"

#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Framing: a length, then so many bytes. `kind`: 4 and 8, big-endian; -4, little-endian. */

static uint64_t length_at(const unsigned char *at, int kind)
{
    uint64_t length = 0;
    int size = kind < 0 ? -kind : kind;
    for (int index = 0; index < size; index++)
        length = length << 8 | at[kind < 0 ? size - 1 - index : index];
    return length;
}

static void put_length(unsigned char *at, int kind, uint64_t length)
{
    int size = kind < 0 ? -kind : kind;
    for (int index = 0; index < size; index++, length >>= 8)
        at[kind < 0 ? index : size - 1 - index] = (unsigned char)length;
}

static int is_kind(long kind)
{
    if (kind == 4 || kind == -4 || kind == 8)
        return 1;
    PyErr_SetString(PyExc_ValueError, "kind must be 4, -4 or 8");
    return 0;
}

/* split(data, kind, limit) -> (messages, end, length): `end` is where the rest begins, `length` is its length, or -1.
   The length is there only if it is over the limit. */
static PyObject *split(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyBytes_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "split(data: bytes, kind, limit)");
        return NULL;
    }
    int kind = (int)PyLong_AsLong(args[1]);
    unsigned long long limit = PyLong_AsUnsignedLongLong(args[2]);
    if (PyErr_Occurred() || !is_kind(kind))
        return NULL;
    const unsigned char *data = (const unsigned char *)PyBytes_AS_STRING(args[0]);
    uint64_t size = (uint64_t)PyBytes_GET_SIZE(args[0]), header = (uint64_t)(kind < 0 ? -kind : kind), position = 0;
    PyObject *messages = PyList_New(0), *excess = NULL;
    if (messages == NULL)
        return NULL;
    while (size - position >= header) {
        uint64_t length = length_at(data + position, kind);
        if (length > limit) {
            excess = PyLong_FromUnsignedLongLong(length);
            if (excess == NULL)
                goto failed;
            break;
        }
        if (length > size - position - header)
            break;
        PyObject *message = PyBytes_FromStringAndSize((const char *)data + position + header, (Py_ssize_t)length);
        int failed = message == NULL || PyList_Append(messages, message) < 0;
        Py_XDECREF(message);
        if (failed)
            goto failed;
        position += header + length;
    }
    if (excess == NULL)
        excess = PyLong_FromLong(-1);
    return Py_BuildValue("NnN", messages, (Py_ssize_t)position, excess);
failed:
    Py_DECREF(messages);
    return NULL;
}

/* join(items, first, kind, longest, most) -> (frames, next): the frames of items[first:next], which are `bytes` of at most `longest`,
   and have `most` bytes together or a little more. */
static PyObject *join(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 5 || !PyList_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "join(items: list, first, kind, longest, most)");
        return NULL;
    }
    PyObject *items = args[0];
    Py_ssize_t first = PyLong_AsSsize_t(args[1]), longest = PyLong_AsSsize_t(args[3]), most = PyLong_AsSsize_t(args[4]);
    int kind = (int)PyLong_AsLong(args[2]);
    if (PyErr_Occurred() || !is_kind(kind))
        return NULL;
    Py_ssize_t header = kind < 0 ? -kind : kind, next = first < 0 ? 0 : first, total = 0;
    first = next;
    for (; next < PyList_GET_SIZE(items) && total < most; next++) {
        PyObject *item = PyList_GET_ITEM(items, next);
        if (!PyBytes_CheckExact(item) || PyBytes_GET_SIZE(item) > longest || PyBytes_GET_SIZE(item) > PY_SSIZE_T_MAX - total - header)
            break;
        total += header + PyBytes_GET_SIZE(item);
    }
    PyObject *frames = PyBytes_FromStringAndSize(NULL, total);
    if (frames == NULL)
        return NULL;
    unsigned char *at = (unsigned char *)PyBytes_AS_STRING(frames);
    for (Py_ssize_t index = first; index < next; index++) {
        PyObject *item = PyList_GET_ITEM(items, index);
        put_length(at, kind, (uint64_t)PyBytes_GET_SIZE(item));
        memcpy(at + header, PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item));
        at += header + PyBytes_GET_SIZE(item);
    }
    return Py_BuildValue("Nn", frames, next);
}

enum { MOST_READ = 16 * 1024, MOST_WRITTEN = 4 * 1024, MOST_EVENTS = 64 }; /* on the stack, which may be a small one of a thread */

/* Write a message of at most MOST_WRITTEN bytes, its length before it, or, with kind 0, nothing: as write(2). */
Py_ssize_t aipc_write_frame(int fd, PyObject *item, int kind)
{
    unsigned char frame[8 + MOST_WRITTEN];
    size_t header = (size_t)(kind < 0 ? -kind : kind), size = (size_t)PyBytes_GET_SIZE(item);
    put_length(frame, kind, size);
    memcpy(frame + header, PyBytes_AS_STRING(item), size);
    return write(fd, frame, header + size);
}

/* A wait that spins. */

enum { LOOKS_A_POLL = 4 };

/* What one read(2) gave: (message,) if it is exactly one message; else its bytes; None if there was nothing to read. */
static PyObject *message_in(const unsigned char *data, ssize_t count, int kind, unsigned long long limit)
{
    ssize_t header = kind < 0 ? -kind : kind;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        Py_RETURN_NONE;
    if (count < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (kind != 0 && count >= header && count < MOST_READ) {
        uint64_t length = length_at(data, kind);
        if (length == (uint64_t)(count - header) && length <= limit)
            return Py_BuildValue("(y#)", (char *)data + header, (Py_ssize_t)length);
    }
    return PyBytes_FromStringAndSize((const char *)data, count);
}

/* spin(epoll, fd, looks, kind, limit): look for something to read from `fd`, so many times at most: as `message_in`; with kind 0, which is
   no length, the bytes that came. One look in LOOKS_A_POLL, the first of them, is for the events of an epoll set, which has `fd`; the
   others are read(2), which is quicker. If anything else happened, a list of (descriptor, event); None if nothing did. */
static PyObject *spin(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "spin(epoll, fd, looks, kind, limit)");
        return NULL;
    }
    int epoll = (int)PyLong_AsLong(args[0]), fd = (int)PyLong_AsLong(args[1]), there = 0;
    long looks = PyLong_AsLong(args[2]), kind = PyLong_AsLong(args[3]);
    unsigned long long limit = PyLong_AsUnsignedLongLong(args[4]);
    if (PyErr_Occurred() || (kind != 0 && !is_kind(kind)))
        return NULL;
    struct epoll_event events[MOST_EVENTS];
    unsigned char data[MOST_READ];
    ssize_t read_count = -1;
    int reads = 0;
    Py_BEGIN_ALLOW_THREADS
    for (long look = 0; look < looks && there == 0; look++) {
        if (look % LOOKS_A_POLL == 0) {
            there = epoll_wait(epoll, events, MOST_EVENTS, 0);
            reads = there == 1 && events[0].data.fd == fd && events[0].events == EPOLLIN;
            if (!reads)
                continue;
        }
        read_count = read(fd, data, MOST_READ);
        if (read_count >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            reads = there = 1;
    }
    Py_END_ALLOW_THREADS
    if (there < 0 && errno != EINTR)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (there <= 0)
        Py_RETURN_NONE;
    if (reads)
        return message_in(data, read_count, (int)kind, limit);
    PyObject *list = PyList_New(there);
    for (int index = 0; list != NULL && index < there; index++) {
        PyObject *pair = Py_BuildValue("iI", events[index].data.fd, (unsigned int)events[index].events);
        if (pair == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, index, pair);
    }
    return list;
}

/* Read what a Unix socket has. `whole`: it is exactly one message, without its length. `all`: the kernel has no more, because nothing but
   an empty queue ended the read (unix(7)). NULL: errno, or an error of Python's. */
PyObject *aipc_receive(int fd, int kind, unsigned long long limit, int *whole, int *all)
{
    unsigned char data[MOST_READ];
    struct iovec piece = {data, MOST_READ};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    ssize_t size, header = kind < 0 ? -kind : kind;
    *whole = *all = 0;
    size = recvmsg(fd, &message, MSG_DONTWAIT);
    if (size < 0)
        return NULL;
    *all = size > 0 && size < MOST_READ && !(message.msg_flags & MSG_CTRUNC);
    if (size >= header && size < MOST_READ) {
        uint64_t length = length_at(data, kind);
        *whole = length == (uint64_t)(size - header) && length <= limit;
    }
    Py_ssize_t first = *whole ? header : 0;
    return PyBytes_FromStringAndSize((char *)data + first, (Py_ssize_t)(size - first));
}

/* receive(fd, kind, limit): (data, whole, all) of one message at a time. */
static PyObject *receive(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "receive(fd, kind, limit)");
        return NULL;
    }
    int fd = (int)PyLong_AsLong(args[0]), kind = (int)PyLong_AsLong(args[1]), whole, all;
    unsigned long long limit = PyLong_AsUnsignedLongLong(args[2]);
    if (PyErr_Occurred() || !is_kind(kind))
        return NULL;
    PyObject *data = aipc_receive(fd, kind, limit, &whole, &all);
    if (data == NULL)
        return PyErr_Occurred() ? NULL : PyErr_SetFromErrno(PyExc_OSError);
    return Py_BuildValue("(NOO)", data, whole ? Py_True : Py_False, all ? Py_True : Py_False);
}

static PyMethodDef functions[] = {
    {"receive", (PyCFunction)(void (*)(void))receive, METH_FASTCALL, NULL},
    {"split", (PyCFunction)(void (*)(void))split, METH_FASTCALL, NULL},
    {"send", (PyCFunction)(void (*)(void))aipc_send, METH_FASTCALL, NULL},
    {"read_ahead", (PyCFunction)(void (*)(void))aipc_read_ahead, METH_FASTCALL, NULL},
    {"reception", aipc_reception, METH_O, NULL},
    {"run", (PyCFunction)(void (*)(void))aipc_run, METH_FASTCALL, NULL},
    {"use", (PyCFunction)(void (*)(void))aipc_use, METH_VARARGS | METH_KEYWORDS, NULL},
    {"spin", (PyCFunction)(void (*)(void))spin, METH_FASTCALL, NULL},
    {"join", (PyCFunction)(void (*)(void))join, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int failed = type == NULL || PyModule_AddObjectRef(module, name, type) < 0;
    if (failed)
        Py_CLEAR(type);
    return (PyTypeObject *)type; /* for ever */
}

static int fill_module(PyObject *module)
{
    aipc_parking_type = add_type(module, &aipc_parking_spec, "Parking");
    aipc_reception_type = aipc_parking_type == NULL ? NULL : add_type(module, &aipc_reception_spec, "Reception");
    int failed = aipc_reception_type == NULL || add_type(module, &aipc_ring_spec, "RingEnd") == NULL ||
                 PyModule_AddIntConstant(module, "MOST_READ", MOST_READ) < 0 ||
                 PyModule_AddIntConstant(module, "MOST_WRITTEN", MOST_WRITTEN) < 0;
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, fill_module}, {0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", NULL, 0, functions, module_slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
