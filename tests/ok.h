/* ok.h: a call that must succeed, in cmocka tests: OK(f(x, &e_)); the test fails with its message. */
#ifndef MOTE_TESTS_OK_H
#define MOTE_TESTS_OK_H

#include "base/err.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        mote_error e_ = {0};                                                                       \
        if ((call) == MOTE_OK) break;                                                              \
        fail_msg("line %d: %s", __LINE__, e_.message);                                             \
    } while (0)

#endif
