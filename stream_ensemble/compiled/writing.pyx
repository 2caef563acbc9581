# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Many records from one template and the columns of what differs between them.

Numbers are written as orjson writes them: the shortest digits that read back as the same double, found by
Schubfach (Giulietti, "The Schubfach way to render doubles", 2020). A property test says that they are the same.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

import orjson

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* 10^-k as a fraction of 126 bits, rounded up, in two halves of 63, for the k that numbers written without an
       exponent need. Filled when the module is imported. */
    #define SE_FIRST (-24)
    #define SE_LAST 4
    static uint64_t se_g1[SE_LAST - SE_FIRST + 1], se_g0[SE_LAST - SE_FIRST + 1];

    static const char SE_PAIRS[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
        "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";

    static void se_power(int k, uint64_t high, uint64_t low) {
        se_g1[k - SE_FIRST] = high;
        se_g0[k - SE_FIRST] = low;
    }

    static inline uint64_t se_high(uint64_t a, uint64_t b) {
        return (uint64_t)(((unsigned __int128)a * b) >> 64);
    }

    /* The product of both halves and cp, rounded to odd (section 9.10 of the paper). */
    static inline uint64_t se_rop(uint64_t g1, uint64_t g0, uint64_t cp) {
        const uint64_t mask = (1ULL << 63) - 1;
        uint64_t x1 = se_high(g0, cp), y0 = g1 * cp, y1 = se_high(g1, cp);
        uint64_t z = (y0 >> 1) + x1, w = y1 + (z >> 63);
        return w | (((z & mask) + mask) >> 63);
    }

    /* The shortest decimal *digits * 10^*exponent in the interval that rounds to c * 2^q, the nearest of several. */
    static void se_shortest(uint64_t c, int q, uint64_t *digits, int *exponent) {
        int even = (int)(c & 1);
        int wide = c != (1ULL << 52);
        uint64_t cb = c << 2, cbr = cb + 2, cbl = wide ? cb - 2 : cb - 1;
        int k = (int)(((int64_t)q * 661971961083LL - (wide ? 0 : 274743187321LL)) >> 41);
        int h = q + (int)(((int64_t)-k * 913124641741LL) >> 38) + 2;
        uint64_t g1 = se_g1[k - SE_FIRST], g0 = se_g0[k - SE_FIRST];
        uint64_t vb = se_rop(g1, g0, cb << h), vbl = se_rop(g1, g0, cbl << h), vbr = se_rop(g1, g0, cbr << h);
        uint64_t s = vb >> 2, t = s + 1, shorter = s / 10 * 10, longer = shorter + 10;
        int under, over;
        *exponent = k;
        under = vbl + even <= shorter << 2;
        over = (longer << 2) + even <= vbr;
        if (under != over) {
            *digits = under ? shorter : longer;
            return;
        }
        under = vbl + even <= s << 2;
        over = (t << 2) + even <= vbr;
        if (under != over)
            *digits = under ? s : t;
        else {
            int64_t nearer = (int64_t)(vb - ((s + t) << 1));
            *digits = nearer < 0 || (nearer == 0 && !(s & 1)) ? s : t;
        }
    }

    /* A double as JSON into ``to``, which has room for 32 bytes; returns how many it took, 0 where it would have an
       exponent or is no number. */
    static int se_write(double x, char *to) {
        uint64_t bits, digits;
        uint32_t part;
        char text[24];
        const char *first;
        int exponent, count, point, n = 0;
        memcpy(&bits, &x, 8);
        if (bits >> 63)
            to[n++] = '-', x = -x;
        if (x == 0.0) {
            memcpy(to + n, "0.0", 3);
            return n + 3;
        }
        /* NaN fails this too. */
        if (!(x >= 1.1e-5 && x < 1e15))
            return 0;
        se_shortest((bits & ((1ULL << 52) - 1)) | (1ULL << 52), (int)((bits >> 52) & 0x7ff) - 1075, &digits, &exponent);
        if (digits % 100000000 == 0) digits /= 100000000, exponent += 8;
        if (digits % 10000 == 0) digits /= 10000, exponent += 4;
        if (digits % 100 == 0) digits /= 100, exponent += 2;
        while (digits % 10 == 0) digits /= 10, exponent += 1;
        count = 24;
        while (digits >= 100000000) {
            part = (uint32_t)(digits % 100000000);
            digits /= 100000000;
            memcpy(text + (count -= 2), SE_PAIRS + part % 100 * 2, 2), part /= 100;
            memcpy(text + (count -= 2), SE_PAIRS + part % 100 * 2, 2), part /= 100;
            memcpy(text + (count -= 2), SE_PAIRS + part % 100 * 2, 2), part /= 100;
            memcpy(text + (count -= 2), SE_PAIRS + part * 2, 2);
        }
        for (part = (uint32_t)digits; part >= 10; part /= 100)
            memcpy(text + (count -= 2), SE_PAIRS + part % 100 * 2, 2);
        if (part)
            text[--count] = (char)('0' + part);
        first = text + count;
        count = 24 - count;
        point = count + exponent;
        if (point <= 0) {
            memcpy(to + n, "0.0000", 6);
            n += 2 - point;
            memcpy(to + n, first, count);
            return n + count;
        }
        if (point < count) {
            memcpy(to + n, first, point);
            to[n + point] = '.';
            memcpy(to + n + point + 1, first + point, count - point);
            return n + count + 1;
        }
        memcpy(to + n, first, count);
        memset(to + n + count, '0', point - count);
        memcpy(to + n + point, ".0", 2);
        return n + point + 2;
    }
    """
    void se_power(int k, uint64_t high, uint64_t low)
    int se_write(double x, char *to)
    int SE_FIRST, SE_LAST


cdef _fill_powers():
    for k in range(SE_FIRST, SE_LAST + 1):
        power = 10 ** abs(k)
        if k <= 0:
            bits = power.bit_length() - 126
            g = power >> bits if bits > 0 else power << -bits
        else:
            g = (1 << (125 + power.bit_length())) // power
            if g >= 1 << 126:
                g >>= 1
        g += 1
        se_power(k, g >> 63, g & ((1 << 63) - 1))


_fill_powers()

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
    cdef const double[:, :] vectors


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


def vectors(const double[:, :] each):
    """A gap for the numbers ``each[r]``, with commas between them."""
    cdef Column column = Column()
    column.kind, column.vectors = VECTORS, each
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


cdef int _put_number(Buffer *b, double number) except -1:
    cdef int size
    cdef bytes text
    _need(b, 32)
    size = se_write(number, b.start + b.size)
    if size:
        b.size += size
        return 0
    text = orjson.dumps(number)
    return _put(b, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef int _put_field(Buffer *b, Column column, Py_ssize_t r) except -1:
    """What stands in a gap of record ``r``."""
    cdef Py_ssize_t v
    cdef int64_t which = r
    cdef bytes text
    if column.kind == VECTORS:
        for v in range(column.vectors.shape[1]):
            if v:
                _put(b, ",", 1)
            _put_number(b, column.vectors[r, v])
        return 0
    if column.kind == INTEGERS:
        return _put_integer(b, column.numbers[r])
    if column.kind == CHOSEN:
        which = column.numbers[r]
        if not 0 <= which < len(column.texts):
            raise IndexError("no such text")
    text = <bytes?>column.texts[which]
    return _put(b, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef Py_ssize_t _length(Column column):
    if column.kind == BYTES:
        return len(column.texts)
    return column.vectors.shape[0] if column.kind == VECTORS else column.numbers.shape[0]


def fill(list pieces not None, list columns not None, Py_ssize_t n):
    """N records: the pieces of the template with the columns' values between them.

    Args:
        pieces: G + 1 for G gaps.
        columns: G of them.

    Raises:
        ValueError: numbers of pieces and columns do not match.
        IndexError: a column is too short.
    """
    cdef Py_ssize_t gaps = len(columns), g, r
    cdef Buffer b
    cdef bytes text
    cdef list records = []
    if len(pieces) != gaps + 1:
        raise ValueError("as many gaps as columns are needed")
    for g in range(gaps):
        if _length(<Column?>columns[g]) < n:
            raise IndexError("a column is too short")
    b.size, b.room = 0, 4096
    b.start = <char *>malloc(b.room)
    if b.start is NULL:
        raise MemoryError()
    try:
        for r in range(n):
            b.size = 0
            for g in range(gaps):
                text = <bytes?>pieces[g]
                _put(&b, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
                _put_field(&b, <Column>columns[g], r)
            text = <bytes?>pieces[gaps]
            _put(&b, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
            records.append(PyBytes_FromStringAndSize(b.start, b.size))
    finally:
        free(b.start)
    return records
