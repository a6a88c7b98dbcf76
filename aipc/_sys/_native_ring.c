/* The quick, simple cases of a ring in shared memory. Python has the rules: a method that meets anything else leaves it to the Python
   code beside it, which is the reference. See docs/explanation/native.md. */

#include "_native.h"

#include <structmember.h>

#include <stdint.h>

/* One end of a ring (aipc/wire/ring.py). The peer may write anything at any time: each number is read once, and checked.

   A provider's store of a record, and its look at the sleeper's flag behind it, need no barrier of the processor between them: the
   sleeper's membarrier(2) orders them, or the flag stands for ever. */

enum { LOADS = 32 }; /* take as long as one look of Python code at the memory */

typedef struct {
    PyObject_HEAD
    PyObject *words; /* a memoryview; before there is memory, and after it is closed, something that is not written to */
    long long position, base, mask, capacity, room_until, plain;
    Py_ssize_t published, consumed, reader_sleeps, writer_sleeps;
} RingEnd;

static PyMemberDef ring_members[] = {
    {"_words", T_OBJECT_EX, offsetof(RingEnd, words), 0, NULL},
    {"position", T_LONGLONG, offsetof(RingEnd, position), 0, NULL},
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
    Py_CLEAR(self->words);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static int is_word(Py_ssize_t index, const Py_buffer *memory)
{
    return index >= 0 && index < memory->len / 8;
}

/* The memory, which `PyBuffer_Release` gives back, if there is any and all numbers that Python code has written lie in it. Else 0. */
static int open_memory(RingEnd *self, Py_buffer *memory)
{
    if (self->words == NULL || !PyMemoryView_Check(self->words))
        return 0;
    if (PyObject_GetBuffer(self->words, memory, PyBUF_WRITABLE) < 0) {
        PyErr_Clear();
        return 0;
    }
    if (is_word(self->published, memory) && is_word(self->consumed, memory) && is_word(self->reader_sleeps, memory) &&
        is_word(self->writer_sleeps, memory) && self->capacity > 0 && self->capacity <= memory->len &&
        (self->capacity & self->mask) == 0 && self->mask == self->capacity - 1 && self->base >= 0 &&
        self->base <= memory->len - self->capacity && self->base % 8 == 0 && self->position % 8 == 0)
        return 1;
    PyBuffer_Release(memory);
    return 0;
}

static uint64_t load(const Py_buffer *memory, Py_ssize_t index)
{
    return __atomic_load_n((uint64_t *)memory->buf + index, __ATOMIC_ACQUIRE);
}

/* Tell the peer how far this end is: whether the peer has asked to be woken then. */
static int show(RingEnd *self, const Py_buffer *memory, Py_ssize_t index, long long position, Py_ssize_t flag)
{
    self->position = position;
    __atomic_store_n((uint64_t *)memory->buf + index, (uint64_t)position, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return load(memory, flag) != 0;
}

/* Whether there was room behind `position`, which moves on. */
static int copy_in(RingEnd *self, const Py_buffer *memory, long long *position, PyObject *item, long long longest)
{
    if (!PyBytes_CheckExact(item) || PyBytes_GET_SIZE(item) > longest || PyBytes_GET_SIZE(item) > self->capacity)
        return 0;
    long long size = PyBytes_GET_SIZE(item), room = (size + 15) & -8, offset = *position & self->mask;
    if (*position > self->room_until - room || offset + room > self->capacity)
        return 0;
    char *start = (char *)memory->buf + self->base + offset;
    __atomic_store_n((uint64_t *)start, (uint64_t)size, __ATOMIC_RELAXED);
    memcpy(start + 8, PyBytes_AS_STRING(item), (size_t)size);
    *position += room;
    return 1;
}

static PyObject *ring_put(RingEnd *self, PyObject *item)
{
    Py_buffer memory;
    int put = 0, asked = 0;
    if (open_memory(self, &memory)) {
        long long position = self->position;
        put = copy_in(self, &memory, &position, item, self->capacity);
        asked = put && show(self, &memory, self->published, position, self->reader_sleeps);
        PyBuffer_Release(&memory);
    }
    if (!put)
        return PyObject_CallMethod((PyObject *)self, "_put", "(O)", item);
    if (asked)
        return PyObject_CallMethod((PyObject *)self, "_tell", NULL);
    Py_RETURN_NONE;
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
    Py_buffer memory;
    Py_ssize_t count = 0;
    int asked = 0;
    if (open_memory(self, &memory)) {
        while (count < PyList_GET_SIZE(args[0]) && copy_in(self, &memory, &position, PyList_GET_ITEM(args[0], count), longest))
            count++;
        asked = count && show(self, &memory, self->published, position, self->reader_sleeps);
        PyBuffer_Release(&memory);
    }
    if (asked) {
        PyObject *none = PyObject_CallMethod((PyObject *)self, "_tell", NULL);
        if (none == NULL)
            return NULL;
        Py_DECREF(none);
    }
    return PyLong_FromSsize_t(count);
}

/* The record at `position`, which moves on, if it is a whole message, and within `there` bytes. NULL without an error: it is not. */
static PyObject *copy_out(RingEnd *self, const Py_buffer *memory, long long *position, int64_t there)
{
    long long offset = *position & self->mask;
    if (there < 8 || self->plain < 0)
        return NULL;
    char *start = (char *)memory->buf + self->base + offset;
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

static int64_t bytes_there(RingEnd *self, const Py_buffer *memory)
{
    uint64_t published = load(memory, self->published), position = (uint64_t)self->position;
    if (published < position)
        return -1;
    return published - position > INT64_MAX ? INT64_MAX : (int64_t)(published - position);
}

/* Wake the producer, if it has asked for that; -1: an error. */
static int wake(RingEnd *self, int asked)
{
    PyObject *none = asked ? PyObject_CallMethod((PyObject *)self, "_wake", "n", self->writer_sleeps) : Py_NewRef(Py_None);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

static PyObject *ring_take(RingEnd *self, PyObject *Py_UNUSED(none))
{
    Py_buffer memory;
    PyObject *message = NULL;
    int asked = 0;
    if (open_memory(self, &memory)) {
        long long position = self->position;
        message = copy_out(self, &memory, &position, bytes_there(self, &memory));
        asked = message != NULL && show(self, &memory, self->consumed, position, self->writer_sleeps);
        PyBuffer_Release(&memory);
    }
    if (message == NULL)
        return PyErr_Occurred() ? NULL : PyObject_CallMethod((PyObject *)self, "_take", NULL);
    if (wake(self, asked) < 0)
        Py_CLEAR(message);
    return message;
}

/* take_more(messages, most, most_bytes): append messages that are there, until there are `most`. */
static PyObject *ring_take_more(RingEnd *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3 || !PyList_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "take_more(messages: list, most, most_bytes)");
        return NULL;
    }
    Py_ssize_t most = PyLong_AsSsize_t(args[1]), most_bytes = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    Py_buffer memory;
    if (!open_memory(self, &memory))
        Py_RETURN_NONE; /* the next call meets it */
    long long position = self->position, from = position;
    int64_t there = bytes_there(self, &memory);
    if (there > self->capacity)
        there = self->capacity;
    if (there > most_bytes)
        there = most_bytes;
    while (PyList_GET_SIZE(args[0]) < most) {
        long long next = position;
        PyObject *message = copy_out(self, &memory, &next, there - (position - from));
        int failed = message == NULL || PyList_Append(args[0], message) < 0;
        Py_XDECREF(message);
        if (failed)
            break;
        position = next;
    }
    int asked = position != from && show(self, &memory, self->consumed, position, self->writer_sleeps);
    PyBuffer_Release(&memory);
    if (PyErr_Occurred() || wake(self, asked) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* watch(looks): whether the producer has published anything, or does so while this looks so many times. */
static PyObject *ring_watch(RingEnd *self, PyObject *looks)
{
    Py_buffer memory;
    long left = PyLong_AsLong(looks);
    if (left == -1 && PyErr_Occurred())
        return NULL;
    if (!open_memory(self, &memory))
        return PyObject_CallMethod((PyObject *)self, "_watch", "(O)", looks);
    int there = 0;
    for (left = left > 1 ? left * LOADS : left; left > 0 && !there; left--)
        there = bytes_there(self, &memory) != 0;
    PyBuffer_Release(&memory);
    return PyBool_FromLong(there);
}

static PyMethodDef ring_methods[] = {
    {"put", (PyCFunction)ring_put, METH_O, NULL},
    {"put_many", (PyCFunction)(void (*)(void))ring_put_many, METH_FASTCALL, NULL},
    {"take", (PyCFunction)ring_take, METH_NOARGS, NULL},
    {"take_more", (PyCFunction)(void (*)(void))ring_take_more, METH_FASTCALL, NULL},
    {"watch", (PyCFunction)ring_watch, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ring_slots[] = {
    {Py_tp_dealloc, ring_dealloc},
    {Py_tp_members, ring_members},
    {Py_tp_methods, ring_methods},
    {0, NULL},
};

PyType_Spec aipc_ring_spec = {
    "aipc._sys._native.RingEnd", sizeof(RingEnd), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, ring_slots,
};
