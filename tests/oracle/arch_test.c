/* arch_test.c: logits of every model in $MOTE_SHARED/oracle/arch against an independent engine's.
 *
 *   arch_test [--report] [NAME…]
 *
 * A pass: sum of squared differences / sum of squares ≤ 1e-7. The prompt is also fed in two pieces and on
 * other thread counts: those logits must be bit-equal. */
#include "model/model.h"
#include "oracle_util.h"
#include "report.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BAR 1e-7
enum { IDS_MAX = 512, CTX = 512 };

/* logits[n, vocab] of ids, fed in pieces of at most `piece` tokens. */
static mote_status run(const model *m, pool *p, const int32_t *ids, size_t n, size_t piece, float *logits, mote_error *err) {
    state_opts o = {.n_ctx = CTX, .n_seq = 1, .n_batch = piece, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = true};
    state *s;
    TRY(state_open(&s, m, &o, p, err));
    mote_status st = MOTE_OK;
    int32_t want[IDS_MAX];
    size_t vocab = model_get_info(m)->n_vocab;
    for (size_t at = 0; at < n && st == MOTE_OK; at += piece) {
        size_t k = MIN(piece, n - at);
        for (size_t i = 0; i < k; i++) want[i] = (int32_t)i;
        model_seg seg = {.seq = 0, .pos0 = at, .n = k};
        model_batch b = {.ids = ids + at, .n = k, .segs = &seg, .n_segs = 1, .want = want, .n_want = k, .logits = logits + at * vocab};
        st = model_forward(s, &b, err);
    }
    state_close(&s);
    return st;
}

struct verdict {
    double nmse;
    bool split_equal, threads_equal;
    const char *rung;
};

static mote_status check(const char *path, const int32_t *ids, size_t n, const float *ref, struct verdict *v, mote_error *err) {
    pool *p1 = NULL, *p3 = NULL;
    model *m = NULL;
    mote_status s;
    float *a = NULL, *b = NULL;
    TRYG(s, pool_open(&p1, 1, err));
    TRYG(s, pool_open(&p3, 3, err));
    TRYG(s, model_open(&m, path, NULL, p1, err));
    size_t vocab = model_get_info(m)->n_vocab, bytes = n * vocab * sizeof(float);
    a = mem_calloc(bytes, 1);
    b = mem_calloc(bytes, 1);
    if (!a || !b) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, run(m, p1, ids, n, n, a, err));
    v->nmse = oracle_nmse(a, ref, n * vocab);
    v->rung = model_get_info(m)->rung;
    TRYG(s, run(m, p1, ids, n, 7, b, err));
    v->split_equal = memcmp(a, b, bytes) == 0;
    TRYG(s, run(m, p3, ids, n, n, b, err));
    v->threads_equal = memcmp(a, b, bytes) == 0;
out:
    mem_free(a);
    mem_free(b);
    model_close(&m);
    pool_close(&p1);
    pool_close(&p3);
    return s;
}

static bool test_one(const char *name, const json_t *all_ids, bool report) {
    char path[4096];
    int32_t ids[IDS_MAX];
    file_map ref = {0};
    mote_error err = {0};
    struct verdict v = {0};
    const json_t *list = json_object_get(all_ids, name);
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n && i < IDS_MAX; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    mote_status s = n && n <= IDS_MAX ? MOTE_OK : ERR(&err, MOTE_E_FORMAT, "no ids");
    if (s == MOTE_OK) s = file_open(&ref, oracle_path(path, "arch/%s.f32", name), FILE_READ, &err);
    if (s == MOTE_OK) s = check(oracle_path(path, "arch/%s.gguf", name), ids, n, (const float *)(const void *)ref.p, &v, &err);
    file_close(&ref);
    bool ok = s == MOTE_OK && v.nmse <= BAR && v.split_equal && v.threads_equal;
    if (report) oracle_report("arch", name, ok, v.nmse, BAR, v.rung);
    if (s != MOTE_OK) printf("FAIL %-24s %s\n", name, err.message);
    else printf("%s %-24s nmse %.2e%s%s\n", ok ? "ok  " : "FAIL", name, v.nmse, v.split_equal ? "" : " depends on the batch", v.threads_equal ? "" : " depends on threads");
    return ok;
}

int main(int argc, char **argv) {
    bool report = report_wanted(argc, argv), flag = argc > 1 && strcmp(argv[1], "--report") == 0;
    json_t *ids = oracle_json("arch/ids.json");
    int failed = 0, ran = 0;
    const char *name;
    json_t *v;
    json_object_foreach(ids, name, v) {
        bool chosen = argc <= 1 + flag;
        for (int i = 1 + flag; i < argc; i++) chosen |= strcmp(argv[i], name) == 0;
        if (!chosen) continue;
        ran++;
        failed += !test_one(name, ids, report);
    }
    json_decref(ids);
    printf("%d of %d architectures pass\n", ran - failed, ran);
    return failed || !ran;
}
