/* graph_test.c: the graphs that are trained against an independent engine: logits of every model in $MOTE_SHARED/oracle/arch whose
 * blocks have a way back. Those that have none must be refused by name, and be the ones listed here.
 *
 *   graph_test [--report] [NAME…]
 *
 * A pass: NMSE ≤ 1e-7, a finite loss, and a gradient for every tensor that is not a constant. */
#include "oracle_util.h"
#include "report.h"
#include "train/gradient_pass.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BAR 1e-7
enum { IDS_MAX = 512 };

static const char *const untrained[] = {"jamba", "kimi-linear", "mamba-dense", "minicpm3", "plamo2", "qwen35", "qwen3next"};

static bool may_be_refused(const char *name) {
    for (size_t i = 0; i < COUNT_OF(untrained); i++)
        if (strncmp(name, untrained[i], strlen(untrained[i])) == 0) return true;
    return false;
}

static size_t without_gradient(net *n) {
    size_t missing = 0;
    for (size_t i = 0; i < net_n_params(n); i++) {
        const param *p = net_param(n, i);
        if (p->trained && !p->v.g) {
            printf("  no gradient: %.*s\n", STR_ARG(p->info->name));
            missing++;
        }
    }
    return missing;
}

static mote_status check(const char *path, const int32_t *ids, size_t n_ids, const float *ref, double *nmse, size_t *missing, mote_error *err) {
    pool *p = NULL;
    model *m = NULL;
    net *n = NULL;
    tape *t = NULL;
    float *logits = NULL;
    double loss;
    mote_status s;
    const struct kern_table *kern = tensor_kernels_open(CPU_ALL);
    if (!kern) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, pool_open(&p, 2, err));
    TRYG(s, model_open(&m, path, NULL, p, err));
    TRYG(s, net_open(&n, m, p, &(net_opts){.n_ctx = IDS_MAX}, err));
    TRYG(s, tape_open(&t, &(tape_opts){.pool = p, .kern = kern}, err));
    logits = mem_calloc(n_ids * model_get_info(m)->n_vocab, sizeof *logits);
    if (!logits) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, gradients_make(n, t, &(gradients_in){ids, 1, n_ids}, &loss, logits, err));
    *nmse = oracle_nmse(logits, ref, n_ids * model_get_info(m)->n_vocab);
    *missing = without_gradient(n);
out:
    mem_free(logits);
    tape_close(&t);
    net_close(&n);
    model_close(&m);
    pool_close(&p);
    tensor_kernels_close(&kern);
    return s;
}

static bool test_one(const char *name, const json_t *all_ids, bool report, size_t *refused) {
    char path[4096];
    int32_t ids[IDS_MAX];
    file_map ref = {0};
    mote_error err = {0};
    double nmse = HUGE_VAL;
    size_t n = 0, missing = 0;
    const json_t *list = json_object_get(all_ids, name);
    for (; n < json_array_size(list) && n < IDS_MAX; n++) ids[n] = (int32_t)json_integer_value(json_array_get(list, n));
    mote_status s = file_open(&ref, oracle_path(path, "arch/%s.f32", name), FILE_READ, &err);
    if (s == MOTE_OK) s = check(oracle_path(path, "arch/%s.gguf", name), ids, n, (const float *)(const void *)ref.p, &nmse, &missing, &err);
    file_close(&ref);
    if (s == MOTE_E_UNSUPPORTED && may_be_refused(name)) {
        printf("ok   %-20s refused: %s\n", name, err.message);
        ++*refused;
        return true;
    }
    bool ok = s == MOTE_OK && nmse <= BAR && missing == 0;
    if (report) oracle_report("graph", name, ok, nmse, BAR, "f32");
    if (s != MOTE_OK) printf("FAIL %-20s %s\n", name, err.message);
    else printf("%s %-20s nmse %.2e\n", ok ? "ok  " : "FAIL", name, nmse);
    return ok;
}

int main(int argc, char **argv) {
    char root[4096];
    bool report = report_wanted(argc, argv);
    int failed = 0, ran = 0;
    size_t refused = 0;
    DIR *d = opendir(oracle_path(root, "arch"));
    json_t *ids = oracle_json("arch/ids.json");
    if (!d) {
        printf("FAIL: no folder %s\n", root);
        return 1;
    }
    for (struct dirent *e; (e = readdir(d));) {
        char *dot = strstr(e->d_name, ".gguf");
        if (!dot) continue;
        *dot = 0;
        if (!oracle_wanted(e->d_name, argc, argv)) continue;
        ran++;
        failed += !test_one(e->d_name, ids, report, &refused);
    }
    closedir(d);
    json_decref(ids);
    printf("%d of %d models pass; %zu cannot be trained and say so\n", ran - failed, ran, refused);
    return failed || !ran;
}
