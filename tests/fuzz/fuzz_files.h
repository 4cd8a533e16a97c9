/* fuzz_files.h: for targets whose readers want files: a folder of the process's own, removed when it ends. */
#ifndef MOTE_TESTS_FUZZ_FILES_H
#define MOTE_TESTS_FUZZ_FILES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char fuzz_folder[] = "/tmp/mote_fuzz_XXXXXX";

static void fuzz_clean(void) {
    static const char *const names[] = {"f", "f.csv", "f.jsonl", "f.gguf", "base.gguf", "config.json", "adapter_config.json", "model.safetensors", "adapter_model.safetensors"};
    char path[100];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", fuzz_folder, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(fuzz_folder);
}

/* The path of a file of this name in the folder, valid for the next three calls. */
static const char *fuzz_path(const char *name) {
    static char path[4][100];
    static int turn;
    static int made;
    if (!made) {
        if (!mkdtemp(fuzz_folder)) abort();
        (void)atexit(fuzz_clean);
        made = 1;
    }
    turn = (turn + 1) % 4;
    (void)snprintf(path[turn], sizeof path[turn], "%s/%s", fuzz_folder, name);
    return path[turn];
}

/* Writes it. */
static const char *fuzz_file(const char *name, const void *p, size_t n) {
    const char *path = fuzz_path(name);
    FILE *f = fopen(path, "wb");
    if (!f || (n && fwrite(p, 1, n, f) != n) || fclose(f) != 0) abort();
    return path;
}

#endif
