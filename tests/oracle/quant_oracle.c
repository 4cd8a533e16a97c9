/* quant_oracle.c: every format against ggml's bytes and values: decode is bit-exact, encode errs no more. */
#include "report.h"
#include "base/base.h"
#include "quant/quant.h"

#include <stdio.h>
#include <stdlib.h>

#define ROW 512

static int failures;
static bool rows; /* print the rows of ./test --report */

static file_map load(const char *dir, const char *name) {
    char path[1200];
    (void)snprintf(path, sizeof path, "%s/oracle/quant/%s", dir, name);
    file_map m = {0};
    mote_error e;
    if (file_open(&m, path, FILE_READ, &e) != MOTE_OK) {
        printf("FAIL %s: %s\n", path, e.message);
        exit(1);
    }
    return m;
}

static double nmse(const float *x, const float *y, size_t n) {
    double err = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        err += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        sum += (double)x[i] * (double)x[i];
    }
    return err / sum;
}

static void check(const char *dir, const char *line, const float *source, size_t n) {
    int type, block, bytes;
    char name[32], file[64];
    double bpw, bar;
    int n_read =
        sscanf(line, "%d %31s block %d bytes %d bpw %lf nmse %lf", &type, name, &block, &bytes, &bpw, &bar);
    if (n_read != 6) return;
    const quant_format *f = quant_get(type);
    if (!f || strcmp(f->name, name) || (int)f->block != block || (int)f->bytes != bytes) {
        printf("FAIL %-8s the table disagrees\n", name);
        failures++;
        return;
    }
    (void)snprintf(file, sizeof file, "%s.bin", name);
    file_map bin = load(dir, file);
    (void)snprintf(file, sizeof file, "%s.f32", name);
    file_map want = load(dir, file);
    float *y = mem_calloc(n, sizeof *y);
    unsigned char *enc = mem_calloc(bin.n, 1);
    bool exact = false;
    if (f->decode && bin.n == n / f->block * f->bytes && want.n == n * sizeof *y) {
        f->decode(y, bin.p, n);
        exact = memcmp(y, want.p, want.n) == 0;
    }
    char error[64] = "no encoder";
    bool good = true;
    if (f->encode) {
        for (size_t r = 0; r < n; r += ROW) f->encode(enc + r / f->block * f->bytes, source + r, ROW, NULL);
        f->decode(y, enc, n);
        double e = nmse(source, y, n);
        good = e <= bar * 1.01;
        (void)snprintf(error, sizeof error, "%.3e", e);
    }
    printf("%s %-8s decode %-10s encode nmse %-10s bar %.3e\n", exact && good ? "ok  " : "FAIL", name,
           exact ? "bit-exact" : "DIFFERS", error, bar * 1.01);
    if (!exact || !good) failures++;
    if (rows) {
        char measured[128], limit[64];
        (void)snprintf(measured, sizeof measured, "decode %s, encode NMSE %s", exact ? "bit-exact" : "differs", error);
        (void)snprintf(limit, sizeof limit, "bit-exact, %.3e", bar * 1.01);
        report_row("quant", name, measured, limit, exact && good ? "ok" : "FAIL", "-", "scalar");
    }
    mem_free(y);
    mem_free(enc);
    file_close(&bin);
    file_close(&want);
}

int main(int argc, char **argv) {
    rows = report_wanted(argc, argv);
    const char *shared = getenv("MOTE_SHARED"), *root = getenv("MOTE_SOURCE_DIR");
    char dir[1000];
    (void)snprintf(dir, sizeof dir, "%s%s", shared ? shared : root ? root : ".", shared ? "" : "/../shared");
    if (!file_is_dir(dir)) {
        printf("skipped: no %s\n", dir);
        return 77;
    }
    file_map types = load(dir, "types.txt"), source = load(dir, "source.f32");
    size_t n = source.n / sizeof(float);
    float *x = mem_calloc(n, sizeof *x);
    memcpy(x, source.p, source.n);
    char line[256];
    for (size_t at = 0; at < types.n;) {
        size_t len = 0;
        while (at + len < types.n && types.p[at + len] != '\n') len++;
        (void)snprintf(line, sizeof line, "%.*s", (int)len, (const char *)types.p + at);
        check(dir, line, x, n);
        at += len + 1;
    }
    mem_free(x);
    file_close(&types);
    file_close(&source);
    printf("%d of the formats fail\n", failures);
    return failures != 0;
}
