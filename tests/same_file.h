/* same_file.h: files compared byte by byte. Include it after cmocka.h. */
#ifndef MOTE_TESTS_SAME_FILE_H
#define MOTE_TESTS_SAME_FILE_H

#include "base/base.h"

static inline void assert_same_file(const char *a, const char *b) {
    file_map x, y;
    mote_error err;
    if (file_open(&x, a, FILE_READ, &err) != MOTE_OK || file_open(&y, b, FILE_READ, &err) != MOTE_OK) fail_msg("%s", err.message);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.p, y.p, x.n);
    file_close(&x);
    file_close(&y);
}

#endif
