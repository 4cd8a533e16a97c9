#include "oracle_util.h"
#include "report.h"

#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char *shared_root(char out[4096]) {
    const char *env = getenv("MOTE_SHARED"), *src = getenv("MOTE_SOURCE_DIR");
    if (env && *env) (void)snprintf(out, 4096, "%s", env);
    else (void)snprintf(out, 4096, "%s/../shared", src && *src ? src : ".");
    if (!file_is_dir(out)) {
        printf("skipped: no shared folder at %s\n", out);
        exit(77);
    }
    return out;
}

const char *oracle_path(char out[4096], const char *fmt, ...) {
    char root[4096], name[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    shared_root(root);
    if (snprintf(out, 4096, "%.3000s/oracle/%s", root, name) >= 4096) exit(1);
    return out;
}

bool oracle_wanted(const char *name, int argc, char **argv) {
    bool any = false;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-') continue;
        any = true;
        if (strncmp(name, argv[i], strlen(argv[i])) == 0) return true;
    }
    return !any;
}

int oracle_train_folders(int argc, char **argv, bool (*test)(const char *name, bool report)) {
    char root[4096];
    bool report = report_wanted(argc, argv);
    int failed = 0, ran = 0;
    DIR *d = opendir(oracle_path(root, "train"));
    if (!d) {
        printf("FAIL: no folder %s\n", root);
        return 1;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.' || !oracle_wanted(e->d_name, argc, argv)) continue;
        ran++;
        failed += !test(e->d_name, report);
    }
    closedir(d);
    printf("%d of %d folders pass\n", ran - failed, ran);
    return failed || !ran;
}

int oracle_train_folders_in(char *scratch, int argc, char **argv, bool (*test)(const char *name, bool report)) {
    char command[128];
    if (!mkdtemp(scratch)) {
        printf("FAIL: no folder %s\n", scratch);
        return 1;
    }
    int code = oracle_train_folders(argc, argv, test);
    (void)snprintf(command, sizeof command, "rm -rf %.100s", scratch);
    return system(command) != 0 || code;
}

json_t *oracle_json(const char *name) {
    char path[4096];
    file_map f;
    mote_error err = {0};
    json_t *v = NULL;
    mote_status s = file_open(&f, oracle_path(path, "%s", name), FILE_READ, &err);
    if (s == MOTE_OK) {
        s = json_parse(&v, (str){(const char *)f.p, f.n}, name, &err);
        file_close(&f);
    }
    if (s != MOTE_OK) {
        printf("FAIL %s: %s\n", name, err.message);
        exit(1);
    }
    return v;
}

double oracle_nmse(const float *x, const float *ref, size_t n) {
    double diff = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)ref[i];
        diff += d * d;
        sum += (double)ref[i] * (double)ref[i];
    }
    double r = sum > 0 ? diff / sum : diff;
    return isfinite(r) ? r : (double)INFINITY;
}

void oracle_report(const char *kind, const char *item, bool ok, double nmse, double bar, const char *path) {
    char measured[64], limit[64];
    (void)snprintf(measured, sizeof measured, "NMSE %.2e", nmse);
    (void)snprintf(limit, sizeof limit, "%.0e", bar);
    report_row(kind, item, measured, limit, ok ? "ok" : "FAIL", "-", path ? path : "-");
}
