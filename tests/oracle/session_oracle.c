/* session_oracle.c: sessions of every small model in $MOTE_SHARED/oracle/arch, among them recurrent, hybrid
 * and windowed ones: the same logits however the tokens get there (tests/session_props.h).
 *
 *   session_oracle [--report] [NAME…] */
#include "oracle_util.h"
#include "report.h"
#include "session_props.h"

#include <dirent.h>

int main(int argc, char **argv) {
    char dir[4096], path[8192];
    int bad = 0, n = 0;
    bool report = report_wanted(argc, argv);
    DIR *d = opendir(oracle_path(dir, "arch"));
    if (!d) return 1;
    for (struct dirent *e; (e = readdir(d));) {
        str name = str_of(e->d_name);
        if (!str_ends(name, STR(".gguf"))) continue;
        char item[256];
        (void)snprintf(item, sizeof item, "%.*s", (int)(name.n - 5), e->d_name);
        if (!oracle_wanted(item, argc, argv)) continue;
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        const props_opts o = {.cache_type = n % 2 ? "f16" : "f32",
                              .exact = true,
                              .n_ids = 100,
                              .n_ctx = 128,
                              .seed = (uint64_t)n};
        mote_error err;
        bool ok = session_props(path, &o, &err) == MOTE_OK;
        if (!ok) printf("%s: %s\n", item, err.message);
        if (report)
            report_row("session", item, ok ? "bit-equal" : err.message, "bit-equal", ok ? "ok" : "FAIL", "-",
                       o.cache_type);
        bad += !ok;
        n++;
    }
    (void)closedir(d);
    printf("%d of %d models give the same logits however their tokens arrive\n", n - bad, n);
    return bad || n == 0;
}
