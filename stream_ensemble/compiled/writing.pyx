# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Many records from one template and the columns of what differs between them."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcpy

cdef enum Kind:
    BYTES = 0
    INTEGERS = 1
    CHOSEN = 2
    VECTORS = 3


cdef class Column:
    """What stands in one gap of the template, record by record."""

    cdef Kind kind
    cdef list texts
    cdef const int64_t[:] numbers


def given(list texts not None):
    """A gap for ``texts[r]``, bytes."""
    cdef Column column = Column()
    column.kind, column.texts = BYTES, texts
    return column


def integers(const int64_t[:] numbers):
    """A gap for ``numbers[r]`` in decimal digits."""
    cdef Column column = Column()
    column.kind, column.numbers = INTEGERS, numbers
    return column


def chosen(list texts not None, const int64_t[:] which):
    """A gap for ``texts[which[r]]``."""
    cdef Column column = Column()
    column.kind, column.texts, column.numbers = CHOSEN, texts, which
    return column


def vector():
    """A gap for what stands in the next brackets of ``written``, see :func:`fill`."""
    cdef Column column = Column()
    column.kind = VECTORS
    return column


cdef struct Buffer:
    char *start
    Py_ssize_t size
    Py_ssize_t room


cdef inline int _need(Buffer *b, Py_ssize_t more) except -1:
    cdef char *larger
    if b.size + more > b.room:
        b.room = 2 * (b.size + more)
        larger = <char *>realloc(b.start, b.room)
        if larger is NULL:
            raise MemoryError()
        b.start = larger
    return 0


cdef inline int _put(Buffer *b, const char *text, Py_ssize_t size) except -1:
    _need(b, size)
    memcpy(b.start + b.size, text, size)
    b.size += size
    return 0


cdef inline int _put_integer(Buffer *b, int64_t number) except -1:
    cdef char digits[20]
    cdef int place = 20
    cdef uint64_t left = <uint64_t>number if number >= 0 else -<uint64_t>number
    while True:
        place -= 1
        digits[place] = c'0' + <char>(left % 10)
        left //= 10
        if not left:
            break
    if number < 0:
        _put(b, "-", 1)
    return _put(b, digits + place, 20 - place)


def fill(list pieces not None, list columns not None, Py_ssize_t n, bytes written=b""):
    """N records: the pieces of the template with the columns' values between them.

    Args:
        pieces: G + 1 for G gaps.
        columns: G of them.
        written: vectors of numbers as JSON, ``[[..],[..],..]``, in the order in which the gaps ask for them.

    Raises:
        ValueError: numbers of pieces, columns or vectors do not match.
        IndexError: a column is too short.
    """
    cdef Py_ssize_t gaps = len(columns), g, r
    cdef Buffer b
    cdef Column column
    cdef bytes text
    cdef int64_t which
    cdef const char *at = PyBytes_AS_STRING(written)
    cdef const char *end = at + PyBytes_GET_SIZE(written)
    cdef const char *close
    cdef list records = []
    if len(pieces) != gaps + 1:
        raise ValueError("as many gaps as columns are needed")
    for column in columns:
        if column.kind == INTEGERS or column.kind == CHOSEN:
            if column.numbers.shape[0] < n:
                raise IndexError("a column is too short")
        if column.kind == BYTES and len(column.texts) < n:
            raise IndexError("a column is too short")
    b.size, b.room = 0, 4096
    b.start = <char *>malloc(b.room)
    if b.start is NULL:
        raise MemoryError()
    # Before the first vector stand two brackets.
    at += 2
    try:
        for r in range(n):
            b.size = 0
            for g in range(gaps):
                text = <bytes?>pieces[g]
                _put(&b, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
                column = <Column>columns[g]
                if column.kind == VECTORS:
                    close = <const char *>memchr(at, c']', end - at) if at < end else NULL
                    if close is NULL:
                        raise ValueError("more gaps than vectors")
                    _put(&b, at, close - at)
                    # ``],[``
                    at = close + 3
                elif column.kind == INTEGERS:
                    _put_integer(&b, column.numbers[r])
                else:
                    which = r
                    if column.kind == CHOSEN:
                        which = column.numbers[r]
                        if not 0 <= which < len(column.texts):
                            raise IndexError("no such text")
                    text = <bytes?>column.texts[which]
                    _put(&b, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
            text = <bytes?>pieces[gaps]
            _put(&b, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
            records.append(PyBytes_FromStringAndSize(b.start, b.size))
    finally:
        free(b.start)
    return records
