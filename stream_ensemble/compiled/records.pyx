# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Record batches written many records a call, and checksums by the processor's own instruction.

Format of a batch: https://kafka.apache.org/documentation/#recordbatch (version 2).
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    #if defined(__GNUC__) && defined(__x86_64__)
    #include <nmmintrin.h>
    static int se_crc_there(void) { return __builtin_cpu_supports("sse4.2"); }
    __attribute__((target("sse4.2")))
    static uint32_t se_crc32c(const unsigned char *p, Py_ssize_t n) {
        uint64_t crc = 0xffffffff, eight;
        for (; n >= 8; n -= 8, p += 8) {
            memcpy(&eight, p, 8);
            crc = _mm_crc32_u64(crc, eight);
        }
        for (; n > 0; n--, p++)
            crc = _mm_crc32_u8((uint32_t)crc, *p);
        return (uint32_t)crc ^ 0xffffffff;
    }
    #elif defined(__ARM_FEATURE_CRC32)
    #include <arm_acle.h>
    static int se_crc_there(void) { return 1; }
    static uint32_t se_crc32c(const unsigned char *p, Py_ssize_t n) {
        uint32_t crc = 0xffffffff;
        uint64_t eight;
        for (; n >= 8; n -= 8, p += 8) {
            memcpy(&eight, p, 8);
            crc = __crc32cd(crc, eight);
        }
        for (; n > 0; n--, p++)
            crc = __crc32cb(crc, *p);
        return crc ^ 0xffffffff;
    }
    #else
    static int se_crc_there(void) { return 0; }
    static uint32_t se_crc32c(const unsigned char *p, Py_ssize_t n) { (void)p; (void)n; return 0; }
    #endif
    """
    int se_crc_there() nogil
    uint32_t se_crc32c(const unsigned char *p, Py_ssize_t n) nogil

#: Whether this processor has an instruction for CRC-32C that we know of.
HARDWARE = bool(se_crc_there())


def crc32c(const unsigned char[::1] data):
    """The CRC-32C (Castagnoli) of ``data``. Only where :data:`HARDWARE` says so."""
    cdef uint32_t found
    with nogil:
        found = se_crc32c(&data[0], data.shape[0]) if data.shape[0] else 0
    return found


cdef inline uint64_t _zigzag(int64_t number):
    return (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)


cdef inline Py_ssize_t _varint_size(int64_t number):
    cdef uint64_t left = _zigzag(number)
    cdef Py_ssize_t size = 1
    while left >= 0x80:
        left >>= 7
        size += 1
    return size


cdef inline char *_varint(char *to, int64_t number):
    cdef uint64_t left = _zigzag(number)
    while left >= 0x80:
        to[0] = <char>(left | 0x80)
        to += 1
        left >>= 7
    to[0] = <char>left
    return to + 1


cdef inline Py_ssize_t _text_size(object text) except -1:
    """Of bytes or None with their length before them."""
    if text is None:
        return 1
    return _varint_size(PyBytes_GET_SIZE(<bytes?>text)) + PyBytes_GET_SIZE(text)


cdef inline char *_text(char *to, object text):
    cdef Py_ssize_t size
    if text is None:
        return _varint(to, -1)
    size = PyBytes_GET_SIZE(text)
    to = _varint(to, size)
    memcpy(to, PyBytes_AS_STRING(text), size)
    return to + size


cdef Py_ssize_t _headers_size(list headers) except -1:
    cdef Py_ssize_t size, found = _varint_size(len(headers))
    for name, value in headers:
        PyUnicode_AsUTF8AndSize(name, &size)
        found += _varint_size(size) + size + _text_size(value)
    return found


cdef char *_headers(char *to, list headers) except NULL:
    cdef Py_ssize_t size
    cdef const char *text
    to = _varint(to, len(headers))
    for name, value in headers:
        text = PyUnicode_AsUTF8AndSize(name, &size)
        to = _varint(to, size)
        memcpy(to, text, size)
        to = _text(to + size, value)
    return to


cdef class Records:
    """The records of one batch behind room for its header.

    Args:
        header: bytes to leave free in front.
        limit: no record is taken that would reach this size (bytes), unless it is the first.
    """

    cdef bytearray buffer
    cdef Py_ssize_t end, limit
    cdef readonly Py_ssize_t count

    def __init__(self, Py_ssize_t header, Py_ssize_t limit):
        self.buffer = bytearray(header + 1024)
        self.end, self.limit, self.count = header, limit, 0

    @property
    def size(self):
        """Bytes so far, the header's room included."""
        return self.end

    def append(self, keys not None, values not None, headers, Py_ssize_t begin, int64_t later):
        """Take records until one does not fit.

        Args:
            keys, values: lists of bytes or None.
            headers: a list of (name, bytes or None) per record; None: no record has any.
            begin: the first to take.
            later: their time (ms) less the batch's first.

        Returns:
            The place of the first record that was not taken.
        """
        cdef list k = <list?>keys, v = <list?>values, h = None if headers is None else <list?>headers
        cdef Py_ssize_t place, n = min(len(k), len(v)), size, needed, time_size = _varint_size(later)
        cdef char *to
        if h is not None:
            n = min(n, len(h))
        for place in range(begin, n):
            size = 1 + time_size + _varint_size(self.count) + _text_size(k[place]) + _text_size(v[place])
            size += 1 if h is None else _headers_size(<list?>h[place])
            needed = _varint_size(size) + size
            if self.end + needed >= self.limit and self.count:
                return place
            self._make_room(needed)
            to = _varint(PyByteArray_AS_STRING(self.buffer) + self.end, size)
            to[0] = 0
            to = _varint(to + 1, later)
            to = _text(_text(_varint(to, self.count), k[place]), v[place])
            if h is None:
                to[0] = 0
            else:
                _headers(to, <list>h[place])
            self.end += needed
            self.count += 1
        return max(begin, n)

    cdef int _make_room(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t room = PyByteArray_GET_SIZE(self.buffer)
        if self.end + more > room:
            PyByteArray_Resize(self.buffer, min(max(2 * room, self.end + more), max(self.limit, self.end + more)))
        return 0

    def taken(self):
        """The buffer itself, cut to size. Nothing may be appended any more."""
        cdef bytearray buffer = self.buffer
        PyByteArray_Resize(buffer, self.end)
        self.buffer, self.limit = None, 0
        return buffer
