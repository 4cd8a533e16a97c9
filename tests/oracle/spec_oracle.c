/* spec_oracle.c: speculation on every small model in $MOTE_SHARED/oracle/arch, among them recurrent, hybrid,
 * windowed and mixture-of-experts ones: the tokens of plain decoding, bit-equal logits behind them
 * (tests/spec_props.h).
 *
 *   spec_oracle [--report] [NAME…] */
#include "oracle_util.h"
#include "report.h"
#include "spec_props.h"

#include <dirent.h>

static bool wanted(const char *name, int argc, char **argv) {
    bool any = false;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-') continue;
        any = true;
        if (strcmp(argv[i], name) == 0) return true;
    }
    return !any;
}

/* Encoders draw no tokens. */
static bool generates(const char *path) {
    mote_error err;
    mote_engine *e = NULL;
    mote_model *m = NULL;
    mote_model_opts o = mote_model_opts_default();
    o.no_weights = true;
    bool yes = mote_engine_open(&e, NULL, &err) == MOTE_OK && mote_model_open(&m, e, path, &o, &err) == MOTE_OK &&
               !mote_model_is_encoder(m);
    mote_model_close(&m);
    mote_engine_close(&e);
    return yes;
}

int main(int argc, char **argv) {
    char dir[4096], path[8192];
    int bad = 0, n = 0;
    bool report = report_wanted(argc, argv);
    DIR *d = opendir(oracle_path(dir, "arch"));
    if (!d) return 1;
    for (struct dirent *e; (e = readdir(d));) {
        str name = str_of(e->d_name);
        if (!str_ends(name, STR(".gguf"))) continue;
        char item[256], measured[1024];
        (void)snprintf(item, sizeof item, "%.*s", (int)(name.n - 5), e->d_name);
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (!wanted(item, argc, argv) || !generates(path)) continue;
        const spec_props_opts o = {.cache_type = n % 2 ? "f16" : "f32", .exact = n % 3 == 0, .seed = (uint64_t)n};
        spec_props_result r;
        mote_error err;
        bool ok = spec_props(path, &o, &r, &err) == MOTE_OK;
        if (!ok) printf("%s: %s\n", item, err.message);
        (void)snprintf(measured, sizeof measured, "%zu tokens equal, %zu of %zu guesses accepted", r.n_tokens,
                       r.n_accepted, r.n_guessed);
        if (report)
            report_row("speculation", item, ok ? measured : err.message, "all equal", ok ? "ok" : "FAIL", "-",
                       o.cache_type);
        bad += !ok;
        n++;
    }
    (void)closedir(d);
    printf("%d of %d models give with speculation what they give without\n", n - bad, n);
    return bad || n == 0;
}
