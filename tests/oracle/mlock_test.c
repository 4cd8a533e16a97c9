/* mlock_test.c: a model opened with mlock has its weights locked, or says that the system refused. */
#include "model/model.h"
#include "oracle_util.h"

#include <stdio.h>
#include <string.h>

static void note(void *ctx, int level, const char *text) {
    (void)level;
    *(bool *)ctx |= strstr(text, "could not be locked") != NULL;
}

static long locked_kb(void) {
    char line[256];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f)) (void)sscanf(line, "VmLck: %ld kB", &kb);
    if (f) (void)fclose(f);
    return kb;
}

int main(void) {
    char path[4096];
    bool refused = false;
    log_sink sink = {note, &refused};
    model_opts o = {.mlock = true, .log = &sink};
    mote_error err = {0};
    model *m = NULL;
    pool *p = NULL;
    if (pool_open(&p, 1, &err) != MOTE_OK || model_open(&m, oracle_path(path, "arch/llama-dense.gguf"), &o, p, &err) != MOTE_OK) {
        printf("FAIL %s\n", err.message);
        return 1;
    }
    long during = locked_kb();
    model_close(&m);
    pool_close(&p);
    bool ok = (during > 0 || refused) && locked_kb() == 0;
    printf("%s: %ld kB locked%s, %ld kB after closing\n", ok ? "ok" : "FAIL", during, refused ? ", the rest refused" : "", locked_kb());
    return !ok;
}
