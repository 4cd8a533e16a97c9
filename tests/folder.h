/* folder.h: a test program's own folder for files: main makes it with mkdtemp(folder), or every test with make_folder. Include it after
 * cmocka.h. */
#ifndef MOTE_TESTS_FOLDER_H
#define MOTE_TESTS_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[] = "/tmp/mote_test_XXXXXX";

/* The path of a file in it, valid for the next 127 calls. */
static inline const char *in_folder(const char *name) {
    static char path[128][300];
    static int turn;
    turn = (turn + 1) % 128;
    (void)snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static inline void put_text(const char *name, const char *text) {
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* For cmocka_run_group_tests, or before and after each test. */
static inline int make_folder(void **given) {
    (void)given;
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **given) {
    char command[300];
    (void)given;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

#endif
