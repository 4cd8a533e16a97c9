/* replay_main.c: runs a fuzz target without libFuzzer, over files and folders of files: each as it is, cut short,
 * and with bytes changed (the same ones every time). Prints nothing and returns 0 unless something is wrong with
 * the arguments; what the target finds ends the program, as under libFuzzer. */
#include "base/base.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CUTS 64
#define MUTATIONS 400

static void run(const unsigned char *p, size_t n) {
    unsigned char *copy = malloc(n ? n : 1);
    if (!copy) abort();
    memcpy(copy, p, n);
    (void)LLVMFuzzerTestOneInput(copy, n);
    for (size_t i = 0; i < CUTS && n; i++) (void)LLVMFuzzerTestOneInput(copy, n * i / CUTS);
    rng r;
    rng_seed(&r, n, 1);
    static const unsigned char odd[] = {0, 1, 0x7F, 0x80, 0xFF, '"', '{', '\\'};
    for (int i = 0; i < MUTATIONS && n; i++) {
        memcpy(copy, p, n);
        for (uint32_t k = rng_below(&r, 4) + 1; k; k--) {
            size_t at = rng_below(&r, (uint32_t)MIN(n, UINT32_MAX));
            copy[at] = rng_below(&r, 2) ? odd[rng_below(&r, sizeof odd)] : (unsigned char)rng_below(&r, 256);
        }
        (void)LLVMFuzzerTestOneInput(copy, n);
    }
    free(copy);
}

static int replay_file(const char *path) {
    file_map m;
    mote_error e;
    if (file_open(&m, path, FILE_READ, &e) != MOTE_OK) {
        fprintf(stderr, "%s\n", e.message);
        return 0;
    }
    run(m.p, m.n);
    file_close(&m);
    return 1;
}

static int replay(const char *path) {
    if (!file_is_dir(path)) return replay_file(path);
    DIR *d = opendir(path);
    if (!d) return 0;
    int done = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char name[4096];
        if (e->d_name[0] == '.') continue;
        (void)snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        done += replay_file(name);
    }
    closedir(d);
    return done;
}

int main(int argc, char **argv) {
    int done = 0;
    for (int i = 1; i < argc; i++) {
        int n = replay(argv[i]);
        if (n == 0) {
            fprintf(stderr, "%s: nothing to replay\n", argv[i]);
            return 1;
        }
        done += n;
    }
    return done ? 0 : 2;
}
