/* The quick, simple cases of framing, of a ring in shared memory, and of a wait that spins. Python has the rules: a function that
   meets anything else leaves it to the Python code beside it, which is the reference. See docs/explanation/native.md. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
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

static int is_kind(int kind)
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

/* One end of a ring (aipc/wire/ring.py). The peer may write anything at any time: each number is read once, and checked. */

typedef struct {
    PyObject_HEAD
    Py_buffer memory; /* .buf is NULL before there is memory, and after it was given back */
    long long position, base, mask, capacity, room_until, plain;
    Py_ssize_t published, consumed, reader_sleeps, writer_sleeps;
} RingEnd;

static PyMemberDef ring_members[] = {
    {"position", T_LONGLONG, offsetof(RingEnd, position), 0, "Bytes written or read since the beginning."},
    {"_base", T_LONGLONG, offsetof(RingEnd, base), 0, NULL},
    {"_mask", T_LONGLONG, offsetof(RingEnd, mask), 0, NULL},
    {"_capacity", T_LONGLONG, offsetof(RingEnd, capacity), 0, NULL},
    {"_room_until", T_LONGLONG, offsetof(RingEnd, room_until), 0, NULL},
    {"_plain", T_LONGLONG, offsetof(RingEnd, plain), 0, NULL},
    {"_published", T_PYSSIZET, offsetof(RingEnd, published), 0, NULL},
    {"_consumed", T_PYSSIZET, offsetof(RingEnd, consumed), 0, NULL},
    {"_reader_sleeps", T_PYSSIZET, offsetof(RingEnd, reader_sleeps), 0, NULL},
    {"_writer_sleeps", T_PYSSIZET, offsetof(RingEnd, writer_sleeps), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static void ring_dealloc(RingEnd *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyBuffer_Release(&self->memory);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* _map(memory | None) */
static PyObject *ring_map(RingEnd *self, PyObject *memory)
{
    PyBuffer_Release(&self->memory);
    if (memory != Py_None && PyObject_GetBuffer(memory, &self->memory, PyBUF_WRITABLE) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static uint64_t *word(RingEnd *self, Py_ssize_t index)
{
    return (uint64_t *)self->memory.buf + index;
}

/* Whether the numbers, which Python code has written, lie in the memory: the payload's place does as well, then. */
static int is_mapped(RingEnd *self)
{
    Py_ssize_t words = self->memory.buf == NULL ? 0 : self->memory.len / 8;
    return self->published >= 0 && self->published < words && self->consumed >= 0 && self->consumed < words &&
           self->reader_sleeps >= 0 && self->reader_sleeps < words && self->writer_sleeps >= 0 && self->writer_sleeps < words &&
           self->base >= 0 && self->capacity >= 0 && self->mask == self->capacity - 1 && self->position % 8 == 0 &&
           self->capacity <= self->memory.len && self->base <= self->memory.len - self->capacity;
}

static int asked_to_wake(RingEnd *self, Py_ssize_t flag)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the peer's membarrier(2) orders the processors */
    return __atomic_load_n(word(self, flag), __ATOMIC_RELAXED) != 0;
}

static int copy_in(RingEnd *self, long long *position, PyObject *item, long long longest)
{
    if (!PyBytes_CheckExact(item) || PyBytes_GET_SIZE(item) > longest)
        return 0;
    long long size = PyBytes_GET_SIZE(item), room = (size + 15) & -8, offset = *position & self->mask;
    if (*position + room > self->room_until || offset + room > self->capacity)
        return 0;
    char *start = (char *)self->memory.buf + self->base + offset;
    __atomic_store_n((uint64_t *)start, (uint64_t)size, __ATOMIC_RELAXED);
    memcpy(start + 8, PyBytes_AS_STRING(item), (size_t)size);
    *position += room;
    return 1;
}

static PyObject *publish(RingEnd *self, long long position)
{
    self->position = position;
    __atomic_store_n(word(self, self->published), (uint64_t)position, __ATOMIC_RELEASE);
    if (asked_to_wake(self, self->reader_sleeps))
        return PyObject_CallMethod((PyObject *)self, "_tell", NULL);
    Py_RETURN_NONE;
}

static PyObject *ring_put(RingEnd *self, PyObject *item)
{
    long long position = self->position;
    if (!is_mapped(self) || !copy_in(self, &position, item, self->capacity))
        return PyObject_CallMethod((PyObject *)self, "_put", "O", item);
    return publish(self, position);
}

static PyObject *ring_put_many(RingEnd *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyList_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "put_many(items: list, longest)");
        return NULL;
    }
    long long longest = PyLong_AsLongLong(args[1]), position = self->position;
    if (longest == -1 && PyErr_Occurred())
        return NULL;
    Py_ssize_t count = 0;
    if (is_mapped(self))
        while (count < PyList_GET_SIZE(args[0]) && copy_in(self, &position, PyList_GET_ITEM(args[0], count), longest))
            count++;
    if (count) {
        PyObject *none = publish(self, position);
        if (none == NULL)
            return NULL;
        Py_DECREF(none);
    }
    return PyLong_FromSsize_t(count);
}

/* The next record, if it is a whole message within `there` bytes. NULL without an error: it is something else. */
static PyObject *copy_out(RingEnd *self, long long *position, int64_t there)
{
    long long offset = *position & self->mask;
    if (there < 8 || offset + 8 > self->capacity || self->plain < 0)
        return NULL;
    char *start = (char *)self->memory.buf + self->base + offset;
    uint64_t size = __atomic_load_n((uint64_t *)start, __ATOMIC_RELAXED);
    if (size > (uint64_t)self->plain || size > (uint64_t)self->capacity)
        return NULL;
    long long room = (long long)((size + 15) & ~(uint64_t)7);
    if (room > there || offset + room > self->capacity)
        return NULL;
    PyObject *message = PyBytes_FromStringAndSize(start + 8, (Py_ssize_t)size);
    if (message != NULL)
        *position += room;
    return message;
}

static int consume(RingEnd *self, long long position)
{
    self->position = position;
    __atomic_store_n(word(self, self->consumed), (uint64_t)position, __ATOMIC_RELEASE);
    if (!asked_to_wake(self, self->writer_sleeps))
        return 0;
    PyObject *none = PyObject_CallMethod((PyObject *)self, "_wake", "n", self->writer_sleeps);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

static int64_t bytes_there(RingEnd *self)
{
    return (int64_t)(__atomic_load_n(word(self, self->published), __ATOMIC_ACQUIRE) - (uint64_t)self->position);
}

static PyObject *ring_take(RingEnd *self, PyObject *Py_UNUSED(none))
{
    long long position = self->position;
    PyObject *message = is_mapped(self) ? copy_out(self, &position, bytes_there(self)) : NULL;
    if (message == NULL)
        return PyErr_Occurred() ? NULL : PyObject_CallMethod((PyObject *)self, "_take", NULL);
    if (consume(self, position) < 0)
        Py_CLEAR(message);
    return message;
}

/* _take_more(messages, most): append messages that are there, until there are `most`. */
static PyObject *ring_take_more(RingEnd *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyList_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "_take_more(messages: list, most)");
        return NULL;
    }
    Py_ssize_t most = PyLong_AsSsize_t(args[1]);
    if (PyErr_Occurred())
        return NULL;
    long long position = self->position, from = position;
    int64_t there = is_mapped(self) ? bytes_there(self) : 0;
    if (there > self->capacity)
        there = self->capacity;
    while (PyList_GET_SIZE(args[0]) < most) {
        PyObject *message = copy_out(self, &position, there - (position - from));
        int failed = message == NULL || PyList_Append(args[0], message) < 0;
        Py_XDECREF(message);
        if (failed)
            break;
    }
    if (PyErr_Occurred() || (position != from && consume(self, position) < 0))
        return NULL;
    Py_RETURN_NONE;
}

/* watch_published(looks): whether the producer has published anything, or does so while this looks so many times. */
static PyObject *ring_watch(RingEnd *self, PyObject *looks)
{
    long left = PyLong_AsLong(looks);
    if (left == -1 && PyErr_Occurred())
        return NULL;
    if (!is_mapped(self))
        return PyObject_CallMethod((PyObject *)self, "_watch", "O", looks);
    for (left = left > 1 ? left * 64 : left; left > 0; left--)
        if (bytes_there(self) != 0)
            Py_RETURN_TRUE;
    Py_RETURN_FALSE;
}

static PyMethodDef ring_methods[] = {
    {"_map", (PyCFunction)ring_map, METH_O, NULL},
    {"put", (PyCFunction)ring_put, METH_O, NULL},
    {"put_many", (PyCFunction)(void (*)(void))ring_put_many, METH_FASTCALL, NULL},
    {"take", (PyCFunction)ring_take, METH_NOARGS, NULL},
    {"_take_more", (PyCFunction)(void (*)(void))ring_take_more, METH_FASTCALL, NULL},
    {"watch_published", (PyCFunction)ring_watch, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ring_slots[] = {
    {Py_tp_dealloc, ring_dealloc},
    {Py_tp_members, ring_members},
    {Py_tp_methods, ring_methods},
    {0, NULL},
};

static PyType_Spec ring_spec = {
    "aipc._sys._native.RingEnd", sizeof(RingEnd), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, ring_slots,
};

static PyMethodDef functions[] = {
    {"split", (PyCFunction)(void (*)(void))split, METH_FASTCALL, NULL},
    {"join", (PyCFunction)(void (*)(void))join, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static int fill_module(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &ring_spec, NULL);
    int failed = type == NULL || PyModule_AddObjectRef(module, "RingEnd", type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, fill_module}, {0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", NULL, 0, functions, module_slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
