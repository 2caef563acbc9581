# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Single predictions from a record batch's bytes to columns, without a Python object but the id's.

Takes what most records are, in a strict subset of JSON; any other record is marked odd and left to
``kafka.decode_singles``, which says what is wrong with it or reads it the plain way. What is taken here has the
values the plain way gives, bit by bit; a property test says so.

Format of a batch: https://kafka.apache.org/documentation/#recordbatch (version 2).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    double PyOS_string_to_double(const char *s, char **endptr, PyObject *overflow) except? -1.0

cdef extern from *:
    """
    #include <float.h>
    #include <stdint.h>
    #include <string.h>

    static const double SE_TEN[23] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
        1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

    #if LDBL_MANT_DIG == 64
    static const long double SE_TENL[28] = {1e0L, 1e1L, 1e2L, 1e3L, 1e4L, 1e5L, 1e6L, 1e7L, 1e8L, 1e9L, 1e10L,
        1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L, 1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L,
        1e26L, 1e27L};
    #endif

    /* digits * 10^-places as the nearest double, if that can be said at once; 0 if not.

       Up to 2^53 and 10^22 both are exact doubles and one division rounds once (Clinger 1990). Beyond, x87's
       64-bit mantissa holds both exactly up to 2^64 and 10^27; its quotient, rounded once more to 53 bits, is
       right unless it stands just between two doubles. */
    static int se_quotient(uint64_t digits, int places, double *found) {
        if (places >= 0 && places <= 22 && digits <= (1ULL << 53)) {
            *found = (double)digits / SE_TEN[places];
            return 1;
        }
    #if LDBL_MANT_DIG == 64
        if (places >= 0 && places <= 27 && digits) {
            long double q = (long double)digits / SE_TENL[places];
            uint64_t mantissa;
            memcpy(&mantissa, &q, 8);
            if ((mantissa & 0x7ff) != 0x400) {
                *found = (double)q;
                return 1;
            }
        }
    #endif
        return 0;
    }
    """
    bint se_quotient(uint64_t digits, int places, double *found) nogil

#: What ``read`` answers instead of a row.
COLUMNAR = -1

cdef enum:
    LONGEST_ID = 256
    LONGEST_NAME = 128
    MOST_RECORDS = 0x7FFFFFFF

cdef int64_t LATEST = 253402300799999
cdef int64_t NO_TIME = -1

cdef struct Text:
    const uint8_t *begin
    Py_ssize_t size
    bint high

cdef struct Cursor:
    const uint8_t *at
    const uint8_t *end

cdef struct Message:
    Text request_id
    Text member
    Text segment
    int64_t time
    unsigned int seen

cdef enum Field:
    VERSION = 1
    KIND = 2
    REQUEST_ID = 4
    MEMBER = 8
    AT = 16
    OUTPUT = 32
    ABSTAIN = 64
    ERROR = 128
    SEGMENT = 256
    NEEDED = 47


cdef inline bint _equals(Text *text, const char *wanted, Py_ssize_t size) noexcept nogil:
    return text.size == size and memcmp(text.begin, wanted, size) == 0


# --- the batch: lengths as Kafka writes them ----------------------------------------------------------------

cdef inline bint _varint(Cursor *c, int64_t *number) noexcept nogil:
    cdef uint64_t raw = 0
    cdef int shift = 0
    cdef uint8_t byte
    while c.at < c.end and shift < 64:
        byte = c.at[0]
        c.at += 1
        raw |= <uint64_t>(byte & 0x7F) << shift
        if not byte & 0x80:
            number[0] = <int64_t>(raw >> 1) ^ -<int64_t>(raw & 1)
            return True
        shift += 7
    return False


cdef inline bint _sized(Cursor *c, Text *text) noexcept nogil:
    """Bytes behind their length; a null has size -1."""
    cdef int64_t size
    if not _varint(c, &size) or size < -1 or size > c.end - c.at:
        return False
    text.begin = c.at
    text.size = size
    if size > 0:
        c.at += size
    return True


# --- JSON -----------------------------------------------------------------------------------------------------

cdef inline void _space(Cursor *c) noexcept nogil:
    while c.at < c.end and (c.at[0] == c' ' or c.at[0] == c'\n' or c.at[0] == c'\t' or c.at[0] == c'\r'):
        c.at += 1


cdef inline bint _next(Cursor *c, uint8_t wanted) noexcept nogil:
    _space(c)
    if c.at < c.end and c.at[0] == wanted:
        c.at += 1
        return True
    return False


cdef inline bint _string(Cursor *c, Text *text) noexcept nogil:
    """A string in which nothing is escaped."""
    cdef uint8_t byte, every = 0
    if not _next(c, c'"'):
        return False
    text.begin = c.at
    while c.at < c.end:
        byte = c.at[0]
        if byte == c'"':
            text.size = c.at - text.begin
            text.high = every & 0x80 != 0
            c.at += 1
            return True
        if byte < 0x20 or byte == c'\\':
            return False
        every |= byte
        c.at += 1
    return False


cdef inline bint _word(Cursor *c, const char *word, Py_ssize_t size) noexcept nogil:
    _space(c)
    if c.end - c.at >= size and memcmp(c.at, word, size) == 0:
        c.at += size
        return True
    return False


cdef inline bint _integer(Cursor *c, int64_t *number) noexcept nogil:
    """An integer from 0 to LATEST without sign, point or exponent."""
    cdef int64_t found = 0
    cdef const uint8_t *begin
    _space(c)
    begin = c.at
    while c.at < c.end and c'0' <= c.at[0] <= c'9' and c.at - begin < 16:
        found = found * 10 + (c.at[0] - c'0')
        c.at += 1
    if c.at == begin or (begin[0] == c'0' and c.at - begin > 1) or found > LATEST:
        return False
    if c.at < c.end and (c.at[0] == c'.' or c.at[0] == c'e' or c.at[0] == c'E' or c'0' <= c.at[0] <= c'9'):
        return False
    number[0] = found
    return True


cdef inline bint _digit(Cursor *c) noexcept nogil:
    return c.at < c.end and c'0' <= c.at[0] <= c'9'


cdef int _number(Cursor *c, double *number) except -1:
    """A number as JSON writes it; 0 where there is none, or none that a finite double is near."""
    cdef const uint8_t *begin
    cdef const uint8_t *first
    cdef uint64_t digits = 0
    cdef int places = 0, exponent = 0, count = 0
    cdef bint negative = False, lower = False
    _space(c)
    begin = c.at
    if c.at < c.end and c.at[0] == c'-':
        negative = True
        c.at += 1
    first = c.at
    while _digit(c):
        digits = digits * 10 + (c.at[0] - c'0')
        if digits or count:
            count += 1
        c.at += 1
    if c.at == first or (first[0] == c'0' and c.at - first > 1):
        return 0
    if c.at < c.end and c.at[0] == c'.':
        c.at += 1
        first = c.at
        while _digit(c):
            digits = digits * 10 + (c.at[0] - c'0')
            if digits or count:
                count += 1
            c.at += 1
        places = <int>min(c.at - first, 1000)
        if not places:
            return 0
    if c.at < c.end and (c.at[0] == c'e' or c.at[0] == c'E'):
        c.at += 1
        if c.at < c.end and (c.at[0] == c'+' or c.at[0] == c'-'):
            lower = c.at[0] == c'-'
            c.at += 1
        first = c.at
        while _digit(c):
            if exponent < 10000:
                exponent = exponent * 10 + (c.at[0] - c'0')
            c.at += 1
        if c.at == first:
            return 0
        places += exponent if lower else -exponent
    if negative and not digits and c.at - begin == 2:
        # ``-0`` is an integer, and integers have one zero.
        number[0] = 0.0
        return 1
    # 19 digits fit 64 bits whatever they are.
    if count <= 19 and se_quotient(digits, places, number):
        if negative:
            number[0] = -number[0]
        return 1
    return _number_slowly(begin, c.at - begin, number)


cdef int _number_slowly(const uint8_t *begin, Py_ssize_t size, double *number) except -1:
    """The same by the interpreter's own conversion, which rounds right whatever the digits."""
    cdef bytes text = PyBytes_FromStringAndSize(<const char *>begin, size)
    number[0] = PyOS_string_to_double(text, NULL, NULL)
    return 1 if isfinite(number[0]) else 0


cdef int _scalar(Cursor *c) except -1:
    """A value that nobody asks for: a plain string, a number, true, false or null; 0 for any other."""
    cdef Text text
    cdef double number
    _space(c)
    if c.at == c.end:
        return 0
    if c.at[0] == c'"':
        return 1 if _string(c, &text) and not text.high else 0
    if c.at[0] == c't':
        return _word(c, b"true", 4)
    if c.at[0] == c'f':
        return _word(c, b"false", 5)
    if c.at[0] == c'n':
        return _word(c, b"null", 4)
    return _number(c, &number)


cdef inline unsigned int _field(Text *name) noexcept nogil:
    """Which field has this name; 0 for one that means nothing here."""
    if _equals(name, b"request_id", 10):
        return REQUEST_ID
    if _equals(name, b"output", 6):
        return OUTPUT
    if _equals(name, b"member", 6):
        return MEMBER
    if _equals(name, b"at", 2):
        return AT
    if _equals(name, b"version", 7):
        return VERSION
    if _equals(name, b"kind", 4):
        return KIND
    if _equals(name, b"segment", 7):
        return SEGMENT
    if _equals(name, b"abstain", 7):
        return ABSTAIN
    if _equals(name, b"error", 5):
        return ERROR
    return 0


cdef int _output(Cursor *c, double *output, Py_ssize_t values) except -1:
    """An array of ``values`` numbers."""
    cdef Py_ssize_t v
    if not _next(c, c'['):
        return 0
    for v in range(values):
        if v and not _next(c, c','):
            return 0
        if not _number(c, &output[v]):
            return 0
    return _next(c, c']')


cdef int _value(Cursor *c, unsigned int field, Message *message, double *output, Py_ssize_t values) except -1:
    """One field's value; 0 where it is not as most are."""
    cdef Text text
    if field == OUTPUT:
        return _output(c, output, values)
    if field == REQUEST_ID:
        return _string(c, &message.request_id)
    if field == MEMBER:
        return _string(c, &message.member)
    if field == SEGMENT:
        return 1 if _string(c, &message.segment) else 0
    if field == AT:
        return _integer(c, &message.time)
    if field == VERSION:
        return _word(c, b"1", 1)
    if field == KIND:
        return _string(c, &text) and _equals(&text, b"prediction", 10)
    if field == ABSTAIN:
        return _word(c, b"false", 5)
    if field == ERROR:
        return _word(c, b"null", 4)
    return _scalar(c)


cdef int _message(Cursor *c, Message *message, double *output, Py_ssize_t values) except -1:
    """A message of which every field is as most are, each given once; 0 for any other."""
    cdef Text name
    cdef unsigned int field
    message.seen = 0
    message.time = NO_TIME
    if not _next(c, c'{'):
        return 0
    while True:
        if not _string(c, &name) or name.high or not _next(c, c':'):
            return 0
        field = _field(&name)
        if message.seen & field:
            return 0
        message.seen |= field
        if not _value(c, field, message, output, values):
            return 0
        if not _next(c, c','):
            break
    if not _next(c, c'}'):
        return 0
    _space(c)
    return c.at == c.end and message.seen & NEEDED == NEEDED


cdef int _fits(Text *text, Py_ssize_t longest) except -1:
    """Is this a string of 1 to ``longest`` characters?"""
    cdef Py_ssize_t size = text.size
    if text.high:
        try:
            size = len(PyUnicode_DecodeUTF8(<char *>text.begin, size, NULL))
        except UnicodeDecodeError:
            return 0
    return 0 < size <= longest


# --- records as such ----------------------------------------------------------------------------------------

cdef inline bint _next_record(Cursor *c, Cursor *record) noexcept nogil:
    """``record`` becomes what is behind the attributes of the one at ``c``; False where it does not fit."""
    cdef int64_t size
    if not _varint(c, &size) or size < 1 or size > c.end - c.at:
        return False
    record.at = c.at + 1
    c.at += size
    record.end = c.at
    return True


cdef inline bint _begins(
    Cursor *record, int64_t *time_delta, int64_t *offset_delta, Text *key, Text *value
) noexcept nogil:
    """All of a record before its headers; False where it is longer than it says."""
    return (
        _varint(record, time_delta)
        and _varint(record, offset_delta)
        and _sized(record, key)
        and _sized(record, value)
    )


def whole(const uint8_t[::1] records, Py_ssize_t count):
    """Are these bytes ``count`` records, each as long as it says and with all its parts inside?"""
    cdef Cursor c, record
    cdef Text text
    cdef int64_t number, headers
    cdef Py_ssize_t i
    if not records.shape[0]:
        return count == 0
    c.at = &records[0]
    c.end = c.at + records.shape[0]
    for i in range(count):
        if not _next_record(&c, &record):
            return False
        if not _begins(&record, &number, &number, &text, &text) or not _varint(&record, &headers):
            return False
        while headers > 0:
            headers -= 1
            if not _sized(&record, &text) or text.size < 0 or not _sized(&record, &text):
                return False
        if headers < 0 or record.at != record.end:
            return False
    return c.at == c.end


# --- records ------------------------------------------------------------------------------------------------

cdef class SingleKernel:
    """Reads single predictions of the members that publish to one topic.

    Args:
        members: their names and numbers.
        values: numbers per output.
        format_header, trace_header, moved_header: names of the headers that say the form of a record, carry its trace
            context, and say that it was forwarded. Other headers mean nothing.
    """

    cdef list _names
    cdef int64_t[::1] _numbers
    cdef Py_ssize_t _hint
    cdef readonly Py_ssize_t values
    cdef bytes _format, _trace, _moved

    def __init__(self, members, numbers, Py_ssize_t values, headers):
        self._names = [name.encode() for name in members]
        self._numbers = numbers
        self._hint = 0
        self.values = values
        self._format, self._trace, self._moved = [name.encode() for name in headers]

    def read(
        self,
        const uint8_t[::1] records,
        Py_ssize_t count,
        int64_t base_offset,
        int64_t base_time,
        int64_t time,
        int64_t first,
        Py_ssize_t row,
        int64_t[::1] offsets not None,
        int64_t[::1] appended not None,
        int64_t[::1] at not None,
        int64_t[::1] members not None,
        double[:, ::1] outputs not None,
        uint8_t[::1] odd not None,
        list ids not None,
        dict segments not None,
        dict traces not None,
    ):
        """``count`` records of one batch into the columns from ``row`` on.

        Args:
            records: the batch behind its header, not compressed.
            time: append time (ms) of all records; -1: each has ``base_time`` and its own share.
            first: records with a smaller offset are skipped.
            odd: 1 where a record is left to be read otherwise; of such a one only offset and append time are
                right, and its id is empty.

        Returns:
            The row after the last one; ``COLUMNAR`` where a record says a form of its own.

        Raises:
            ValueError: these are no records, or more than there is room for.
        """
        cdef Cursor c, record
        cdef Text key, value, trace
        cdef int64_t time_delta, offset_delta, previous = -1
        cdef Py_ssize_t i, room = offsets.shape[0]
        cdef int headers
        if outputs.shape[1] != self.values or not (
            room == appended.shape[0] == at.shape[0] == members.shape[0] == outputs.shape[0] == odd.shape[0]
        ):
            raise ValueError("columns of different lengths")
        if not records.shape[0]:
            raise ValueError("no records")
        c.at = &records[0]
        c.end = c.at + records.shape[0]
        for i in range(count):
            if not _next_record(&c, &record):
                raise ValueError("a record that is longer than its batch")
            if not _begins(&record, &time_delta, &offset_delta, &key, &value):
                raise ValueError("a record that is longer than it says")
            if offset_delta <= previous or offset_delta > MOST_RECORDS:
                raise ValueError("records that do not count up")
            previous = offset_delta
            if base_offset + offset_delta < first:
                continue
            if row >= room:
                raise ValueError("more records than there is room for")
            trace.size = 0
            headers = self._headers(&record, &trace)
            if headers == COLUMNAR:
                return COLUMNAR
            if record.at != record.end:
                raise ValueError("a record that is shorter than it says")
            offsets[row] = base_offset + offset_delta
            appended[row] = base_time + time_delta if time < 0 else time
            if headers == 1 and self._one(&key, &value, row, at, members, outputs, ids, segments):
                odd[row] = 0
                if trace.size > 0:
                    traces[row] = PyBytes_FromStringAndSize(<const char *>trace.begin, trace.size)
            else:
                odd[row] = 1
                ids.append(b"")
            row += 1
        if c.at != c.end:
            raise ValueError("bytes behind the last record")
        return row

    cdef int _headers(self, Cursor *record, Text *trace) except -2:
        """1 where no header but a trace means something, 0 where one does; ``COLUMNAR`` where one says a form."""
        cdef int64_t count
        cdef Text name, value
        cdef int plain = 1
        if not _varint(record, &count) or count < 0:
            raise ValueError("a record that is longer than it says")
        while count:
            count -= 1
            if not _sized(record, &name) or name.size < 0 or not _sized(record, &value):
                raise ValueError("a record that is longer than it says")
            if _is(&name, self._format):
                return COLUMNAR
            if _is(&name, self._moved):
                plain = 0
            elif _is(&name, self._trace) and value.size > 0:
                trace[0] = value
        return plain

    cdef int _one(
        self, Text *key, Text *value, Py_ssize_t row, int64_t[::1] at, int64_t[::1] members,
        double[:, ::1] outputs, list ids, dict segments,
    ) except -1:
        """One record's message into its row; 0 where it is not as most are."""
        cdef Cursor c
        cdef Message message
        cdef Py_ssize_t member
        if value.size <= 0:
            return 0
        c.at = value.begin
        c.end = value.begin + value.size
        if not _message(&c, &message, &outputs[row, 0], self.values):
            return 0
        if key.size >= 0 and not (
            _equals(key, <const char *>message.request_id.begin, message.request_id.size)
        ):
            return 0
        if not _fits(&message.request_id, LONGEST_ID):
            return 0
        member = self._member(&message.member)
        if member < 0:
            return 0
        if message.seen & SEGMENT:
            if not _fits(&message.segment, LONGEST_NAME):
                return 0
            segments[row] = PyUnicode_DecodeUTF8(<char *>message.segment.begin, message.segment.size, NULL)
        at[row] = message.time
        members[row] = self._numbers[member]
        ids.append(PyBytes_FromStringAndSize(<const char *>message.request_id.begin, message.request_id.size))
        return 1

    cdef Py_ssize_t _member(self, Text *name) except -2:
        """Place of a name among those of the topic, -1 if it is not; looks first where the last one was."""
        cdef Py_ssize_t i
        if self._names and _is(name, <bytes>self._names[self._hint]):
            return self._hint
        for i in range(len(self._names)):
            if _is(name, <bytes>self._names[i]):
                self._hint = i
                return i
        return -1


cdef inline bint _is(Text *text, bytes wanted):
    return _equals(text, <const char *>wanted, len(wanted))


# --- fused records ------------------------------------------------------------------------------------------

cdef enum:
    #: Members and numbers of one answer, and bytes of what answers alike have in common; with more, a record is left
    #: to the plain way.
    MOST_MEMBERS = 256
    MOST_NUMBERS = 1024
    MOST_COMMON = 8192
    #: Of lists and objects in each other.
    DEEPEST = 16


cdef enum Part:
    COMPONENTS = 1
    OF_SEGMENT = 2
    CREDIT = 4
    SHADOW = 8
    WARM = 16


cdef inline bint _skip_number(Cursor *c) noexcept nogil:
    """A number as JSON writes it."""
    cdef const uint8_t *first
    if c.at < c.end and c.at[0] == c'-':
        c.at += 1
    first = c.at
    while _digit(c):
        c.at += 1
    if c.at == first or (first[0] == c'0' and c.at - first > 1):
        return False
    if c.at < c.end and c.at[0] == c'.':
        c.at += 1
        first = c.at
        while _digit(c):
            c.at += 1
        if c.at == first:
            return False
    if c.at < c.end and (c.at[0] == c'e' or c.at[0] == c'E'):
        c.at += 1
        if c.at < c.end and (c.at[0] == c'+' or c.at[0] == c'-'):
            c.at += 1
        first = c.at
        while _digit(c):
            c.at += 1
        return c.at > first
    return True


cdef int _text(Cursor *c) except -1:
    """A string in which nothing is escaped, of valid UTF-8."""
    cdef Text text
    if not _string(c, &text):
        return 0
    if text.high:
        try:
            PyUnicode_DecodeUTF8(<char *>text.begin, text.size, NULL)
        except UnicodeDecodeError:
            return 0
    return 1


cdef int _skip(Cursor *c, int depth) except -1:
    """Any value in which no string has an escape, of any depth below ``DEEPEST``."""
    cdef uint8_t begin, end
    _space(c)
    if c.at == c.end or depth == DEEPEST:
        return 0
    begin = c.at[0]
    if begin == c'"':
        return _text(c)
    if begin == c't':
        return _word(c, b"true", 4)
    if begin == c'f':
        return _word(c, b"false", 5)
    if begin == c'n':
        return _word(c, b"null", 4)
    if begin != c'{' and begin != c'[':
        return _skip_number(c)
    end = c'}' if begin == c'{' else c']'
    c.at += 1
    if _next(c, end):
        return 1
    while True:
        if begin == c'{' and not (_text(c) and _next(c, c':')):
            return 0
        if not _skip(c, depth + 1):
            return 0
        if not _next(c, c','):
            return _next(c, end)


cdef inline unsigned int _part(Text *name) noexcept nogil:
    """Which part of what is kept a field is; 0: it is not kept."""
    if _equals(name, b"components", 10):
        return COMPONENTS
    if _equals(name, b"segment", 7):
        return OF_SEGMENT
    if _equals(name, b"credit", 6):
        return CREDIT
    if _equals(name, b"shadow", 6):
        return SHADOW
    if _equals(name, b"warm", 4):
        return WARM
    return 0


cdef struct Common:
    #: What answers alike have in common: members' names and fields, each behind its length, and both their numbers.
    Py_ssize_t size
    uint8_t bytes[MOST_COMMON]


cdef inline bint _add(Common *common, Text *text) noexcept nogil:
    if common.size + text.size + 2 > MOST_COMMON:
        return False
    common.bytes[common.size] = text.size & 0xFF
    common.bytes[common.size + 1] = text.size >> 8
    memcpy(&common.bytes[common.size + 2], text.begin, text.size)
    common.size += text.size + 2
    return True


cdef object _name(object key):
    """A record's key as text; None where it has none or is none."""
    if type(key) is not bytes or not PyBytes_GET_SIZE(key):
        return None
    try:
        return PyUnicode_DecodeUTF8(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), NULL)
    except UnicodeDecodeError:
        return None


cdef class AnswerKernel:
    """Reads what is kept of single fused records until a label comes: their outputs as numbers behind a head.

    Args:
        before: makes the bytes before the numbers of the members' names, of how many numbers each output has, and of
            the other fields that are kept, as JSON: names and fields are tuples of bytes. None: such records are to
            be read the plain way. It is asked once for all records that have these in common.
        most: so many answers of it are remembered.
    """

    cdef object _before
    cdef dict _known
    cdef Py_ssize_t _most
    cdef double _numbers[MOST_NUMBERS]
    cdef double _lowest, _highest
    cdef Common _last
    cdef bytes _last_before

    def __init__(self, before, Py_ssize_t most):
        self._before = before
        self._known = {}
        self._most = most
        self._last.size = -1

    def read(self, list keys not None, list values not None, double lowest, double highest):
        """Request ids of N records by their keys, and what is kept of their values (all bytes or None).

        Args:
            lowest, highest: within which their numbers are.

        Returns:
            N of both; None in both where a record is not as most are.
        """
        cdef list ids = [], found = []
        cdef Py_ssize_t place, n = len(keys)
        if len(values) != n:
            raise ValueError("as many values as keys are needed")
        self._lowest, self._highest = lowest, highest
        for place in range(n):
            kept = self._one(values[place])
            name = _name(keys[place]) if kept is not None else None
            ids.append(name)
            found.append(None if name is None else kept)
        return ids, found

    cdef bytes _one(self, object value):
        cdef Cursor c
        cdef Common common
        cdef Py_ssize_t classes, count = 0, size
        cdef bytes before, kept
        if type(value) is not bytes:
            return None
        c.at = <const uint8_t *>PyBytes_AS_STRING(value)
        c.end = c.at + PyBytes_GET_SIZE(value)
        common.size = 0
        classes = self._fields(&c, &common, &count)
        if not classes:
            return None
        before = self._of(&common, count, classes)
        if before is None:
            return None
        size = PyBytes_GET_SIZE(before)
        kept = PyBytes_FromStringAndSize(NULL, size + 8 * count * classes)
        memcpy(PyBytes_AS_STRING(kept), PyBytes_AS_STRING(before), size)
        memcpy(PyBytes_AS_STRING(kept) + size, &self._numbers[0], 8 * count * classes)
        return kept

    cdef Py_ssize_t _fields(self, Cursor *c, Common *common, Py_ssize_t *count) except -1:
        """A record's fields, each that is kept given once; returns how many numbers an output has, 0 where it is not
        as most are.
        """
        cdef Text name
        cdef Text kept[4]
        cdef unsigned int seen = 0, part
        cdef Py_ssize_t classes = 0, fields = 0, i
        if not _next(c, c'{'):
            return 0
        while True:
            if not _string(c, &name) or name.high or not _next(c, c':'):
                return 0
            part = _part(&name)
            if seen & part:
                return 0
            seen |= part
            if part == COMPONENTS:
                classes = self._components(c, common, count)
                if not classes:
                    return 0
            elif not _skip(c, 0):
                return 0
            elif part:
                kept[fields].begin = name.begin - 1
                kept[fields].size = c.at - kept[fields].begin
                fields += 1
            if not _next(c, c','):
                break
        if not _next(c, c'}'):
            return 0
        _space(c)
        if c.at != c.end:
            return 0
        for i in range(fields):
            if not _add(common, &kept[i]):
                return 0
        return classes

    cdef Py_ssize_t _components(self, Cursor *c, Common *common, Py_ssize_t *count) except -1:
        """Members' outputs, at least one, all of as many numbers, into ``_numbers``; returns how many, 0 where they
        are not as most are.
        """
        cdef Text name
        cdef Py_ssize_t classes = 0, found, place = 0
        if not _next(c, c'{'):
            return 0
        while True:
            if not _string(c, &name) or not _next(c, c':') or not _next(c, c'['):
                return 0
            if count[0] == MOST_MEMBERS or not _add(common, &name):
                return 0
            found = 0
            while True:
                if place == MOST_NUMBERS or not _number(c, &self._numbers[place]):
                    return 0
                if not self._lowest <= self._numbers[place] <= self._highest:
                    return 0
                place += 1
                found += 1
                if not _next(c, c','):
                    break
            if not _next(c, c']') or (count[0] and found != classes):
                return 0
            classes = found
            count[0] += 1
            if not _next(c, c','):
                break
        return classes if _next(c, c'}') else 0

    cdef bytes _of(self, Common *common, Py_ssize_t count, Py_ssize_t classes):
        """The bytes before the numbers of such an answer; None: there are none."""
        cdef Py_ssize_t size = common.size, at = 0, length
        cdef list texts = []
        cdef bytes before
        if size + 16 > MOST_COMMON:
            return None
        memcpy(&common.bytes[size], &count, sizeof(count))
        memcpy(&common.bytes[size + 8], &classes, sizeof(classes))
        if self._last.size == size and not memcmp(self._last.bytes, common.bytes, size + 16):
            return self._last_before
        key = PyBytes_FromStringAndSize(<const char *>common.bytes, size + 16)
        before = self._known.get(key)
        if before is None:
            while at < size:
                length = common.bytes[at] | common.bytes[at + 1] << 8
                texts.append(PyBytes_FromStringAndSize(<const char *>&common.bytes[at + 2], length))
                at += length + 2
            before = self._before(tuple(texts[:count]), classes, tuple(texts[count:]))
            if before is None:
                return None
            if len(self._known) >= self._most:
                self._known.clear()
            self._known[key] = before
        memcpy(self._last.bytes, common.bytes, size + 16)
        self._last.size = size
        self._last_before = before
        return before


# --- labels ---------------------------------------------------------------------------------------------------

cdef enum LabelField:
    L_VERSION = 1
    L_KIND = 2
    L_REQUEST_ID = 4
    L_LABEL = 8
    L_AT = 16
    L_REVISION = 32
    L_WEIGHT = 64
    L_NEEDED = 15

cdef int64_t LARGEST_INDEX = 0x7FFFFFFF
cdef double LARGEST_WEIGHT = 1e6

cdef struct Label:
    Text request_id
    #: The class by its name; size -1: by its index.
    Text name
    int64_t index
    int64_t revision
    double weight


cdef inline unsigned int _label_field(Text *name) noexcept nogil:
    if _equals(name, b"request_id", 10):
        return L_REQUEST_ID
    if _equals(name, b"label", 5):
        return L_LABEL
    if _equals(name, b"version", 7):
        return L_VERSION
    if _equals(name, b"kind", 4):
        return L_KIND
    if _equals(name, b"at", 2):
        return L_AT
    if _equals(name, b"revision", 8):
        return L_REVISION
    if _equals(name, b"weight", 6):
        return L_WEIGHT
    return 0


cdef int _label_value(Cursor *c, unsigned int field, Label *label) except -1:
    """One field's value; 0 where it is not as most are."""
    cdef Text text
    cdef int64_t time
    if field == L_REQUEST_ID:
        return _string(c, &label.request_id) and _fits(&label.request_id, LONGEST_ID)
    if field == L_LABEL:
        _space(c)
        if c.at < c.end and c.at[0] == c'"':
            return _string(c, &label.name) and _fits(&label.name, LONGEST_ID)
        return _integer(c, &label.index) and label.index <= LARGEST_INDEX
    if field == L_VERSION:
        return _word(c, b"1", 1)
    if field == L_KIND:
        return _string(c, &text) and _equals(&text, b"feedback", 8)
    if field == L_AT:
        return _integer(c, &time)
    if field == L_REVISION:
        return _integer(c, &label.revision)
    if field == L_WEIGHT:
        return _number(c, &label.weight) and 0.0 < label.weight <= LARGEST_WEIGHT
    return _skip(c, 0)


cdef int _label(Cursor *c, Label *label) except -1:
    """A label of which every field is as most are, each given once; 0 for any other."""
    cdef Text name
    cdef unsigned int field, seen = 0
    label.name.size = -1
    label.revision = 0
    label.weight = 1.0
    if not _next(c, c'{'):
        return 0
    while True:
        if not _string(c, &name) or name.high or not _next(c, c':'):
            return 0
        field = _label_field(&name)
        if seen & field or not _label_value(c, field, label):
            return 0
        seen |= field
        if not _next(c, c','):
            break
    if not _next(c, c'}'):
        return 0
    _space(c)
    return c.at == c.end and seen & L_NEEDED == L_NEEDED


def read_labels(list keys not None, list values not None):
    """The labels in N single records, by their keys and values (all bytes or None).

    Returns:
        N each: request ids as bytes and as text, labels, revisions, weights; of a record that is not as most are all
        are None.
    """
    cdef list ids = [], texts = [], labels = [], revisions = [], weights = []
    cdef Cursor c
    cdef Label label
    cdef Text *told = &label.request_id
    cdef Py_ssize_t place, n = len(keys)
    if len(values) != n:
        raise ValueError("as many values as keys are needed")
    for place in range(n):
        key, value = keys[place], values[place]
        c.at = c.end = NULL
        if type(value) is bytes and PyBytes_GET_SIZE(value):
            c.at = <const uint8_t *>PyBytes_AS_STRING(value)
            c.end = c.at + PyBytes_GET_SIZE(value)
        if not _label(&c, &label) or not (
            key is None or (type(key) is bytes and _equals(told, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)))
        ):
            for column in (ids, texts, labels, revisions, weights):
                column.append(None)
            continue
        ids.append(PyBytes_FromStringAndSize(<const char *>told.begin, told.size) if key is None else key)
        texts.append(PyUnicode_DecodeUTF8(<const char *>told.begin, told.size, NULL))
        if label.name.size < 0:
            labels.append(label.index)
        else:
            labels.append(PyUnicode_DecodeUTF8(<const char *>label.name.begin, label.name.size, NULL))
        revisions.append(label.revision)
        weights.append(label.weight)
    return ids, texts, labels, revisions, weights
