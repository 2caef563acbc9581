# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Which slot a request id has: a hash table from bytes to numbers that makes no object a look-up.

Open addressing with linear probing; what is taken out leaves no gap (Knuth, The Art of Computer Programming
volume 3, section 6.4, algorithm R). Hashes are Python's own, keyed per process, so nobody can aim for a
collision, and kept in the bytes object.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject, PyObject_Hash
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define se_prefetch(place) __builtin_prefetch(place)
    #else
    #define se_prefetch(place) ((void)(place))
    #endif
    """
    void se_prefetch(const void *place) nogil

cdef extern from "Python.h":
    # As a pointer that is only borrowed.
    PyObject *item_of "PyList_GET_ITEM" (object list, Py_ssize_t place)

DEF FIRST_CAPACITY = 1024
#: So many ids are hashed, and their entries asked for, before the first of them is looked up.
DEF AHEAD = 32

cdef struct Entry:
    PyObject *id  # NULL: free
    Py_hash_t hash
    int64_t slot


cdef class SlotTable:
    """Slots of request ids; an unknown id gets the next number, counted from 0 and never given twice.

    Raises:
        TypeError: an id is no bytes object.
    """

    cdef Entry *_entries
    cdef Py_ssize_t _mask
    cdef Py_ssize_t _used
    cdef int64_t _next

    def __cinit__(self):
        self._entries = <Entry *> calloc(FIRST_CAPACITY, sizeof(Entry))
        if self._entries is NULL:
            raise MemoryError()
        self._mask = FIRST_CAPACITY - 1

    def __dealloc__(self):
        cdef Py_ssize_t at
        if self._entries is NULL:
            return
        for at in range(self._mask + 1):
            if self._entries[at].id is not NULL:
                Py_DECREF(<object> self._entries[at].id)
        free(self._entries)

    def __len__(self):
        return self._used

    def __getitem__(self, bytes request_id not None):
        """Its slot; the next number where it has none."""
        return self._number(<PyObject *> request_id, PyObject_Hash(request_id))

    def get(self, bytes request_id not None):
        """Its slot, or None."""
        cdef Py_ssize_t at = self._place(<PyObject *> request_id, PyObject_Hash(request_id))
        return None if self._entries[at].id is NULL else self._entries[at].slot

    def items(self):
        """All ids with their slots, in no order."""
        cdef Py_ssize_t at
        return [
            (<object> self._entries[at].id, self._entries[at].slot)
            for at in range(self._mask + 1)
            if self._entries[at].id is not NULL
        ]

    def fill(self, list ids not None, int64_t[::1] slots not None):
        """The slots of N ids into ``slots`` (shape N); the unknown ones get the next numbers, in order."""
        cdef Py_ssize_t n = PyList_GET_SIZE(ids), begin, end, i
        cdef Py_hash_t hashes[AHEAD]
        cdef PyObject *request_id
        if slots.shape[0] != n:
            raise ValueError(f"{n} ids, room for {slots.shape[0]} slots")
        for begin in range(0, n, AHEAD):
            end = min(begin + AHEAD, n)
            for i in range(begin, end):
                request_id = item_of(ids, i)
                if not PyBytes_CheckExact(<object> request_id):
                    raise TypeError("a request id is bytes here")
                hashes[i - begin] = PyObject_Hash(<object> request_id)
                se_prefetch(&self._entries[hashes[i - begin] & self._mask])
            for i in range(begin, end):
                slots[i] = self._number(item_of(ids, i), hashes[i - begin])

    def forget(self, list ids not None):
        """Take ids out; unknown ones are passed over."""
        cdef Py_ssize_t at
        cdef bytes request_id
        for request_id in ids:
            at = self._place(<PyObject *> request_id, PyObject_Hash(request_id))
            if self._entries[at].id is not NULL:
                self._take_out(at)

    cdef Py_ssize_t _place(self, PyObject *request_id, Py_hash_t hashed) noexcept:
        """Where an id stands, or the free place where it would."""
        cdef Py_ssize_t at = hashed & self._mask
        cdef Entry *entry
        while True:
            entry = &self._entries[at]
            if entry.id is NULL or (entry.hash == hashed and _same(entry.id, request_id)):
                return at
            at = (at + 1) & self._mask

    cdef int64_t _number(self, PyObject *request_id, Py_hash_t hashed) except -1:
        cdef Py_ssize_t at = self._place(request_id, hashed)
        cdef Entry *entry = &self._entries[at]
        if entry.id is not NULL:
            return entry.slot
        # At most five eighths are in use, so that a search stays within a cache line or two.
        if (self._used + 1) * 8 > (self._mask + 1) * 5:
            self._grow()
            entry = &self._entries[self._place(request_id, hashed)]
        Py_INCREF(<object> request_id)
        entry.id, entry.hash, entry.slot = request_id, hashed, self._next
        self._used += 1
        self._next += 1
        return entry.slot

    cdef int _grow(self) except -1:
        cdef Py_ssize_t capacity = self._mask + 1, at, old
        cdef Entry *before = self._entries
        cdef Entry *after = <Entry *> calloc(2 * capacity, sizeof(Entry))
        if after is NULL:
            raise MemoryError()
        self._mask = 2 * capacity - 1
        for old in range(capacity):
            if before[old].id is NULL:
                continue
            at = before[old].hash & self._mask
            while after[at].id is not NULL:
                at = (at + 1) & self._mask
            after[at] = before[old]
        self._entries = after
        free(before)
        return 0

    cdef void _take_out(self, Py_ssize_t hole):
        """Free a place and move up what stood behind it only because it was taken."""
        cdef PyObject *gone = self._entries[hole].id
        cdef Py_ssize_t at = hole, home
        while True:
            at = (at + 1) & self._mask
            if self._entries[at].id is NULL:
                break
            home = self._entries[at].hash & self._mask
            if ((at - home) & self._mask) >= ((at - hole) & self._mask):
                self._entries[hole] = self._entries[at]
                hole = at
        self._entries[hole].id = NULL
        self._used -= 1
        Py_DECREF(<object> gone)


cdef inline bint _same(PyObject *one, PyObject *other) noexcept:
    cdef Py_ssize_t size
    if one == other:
        return True
    size = PyBytes_GET_SIZE(<object> one)
    return size == PyBytes_GET_SIZE(<object> other) and not memcmp(
        PyBytes_AS_STRING(<object> one), PyBytes_AS_STRING(<object> other), size
    )
