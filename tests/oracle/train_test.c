/* train_test.c: the Hugging Face folders of $MOTE_SHARED/oracle/train run as they are: the logits of two sequences
 * of 40 tokens against PyTorch's.
 *
 *   train_test [--report]
 *
 * A pass: NMSE ≤ 1e-7. */
#include "model/model.h"
#include "oracle_util.h"
#include "report.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define BAR 1e-7
enum { LEN_MAX = 256, CTX = 256 };

struct golden {
    file_map file;
    st_file *st;
    const int32_t *ids;
    const float *logits;
    size_t n_seq, len, vocab;
};

static mote_status open_golden(struct golden *g, const char *name, mote_error *err) {
    char path[4096];
    TRY(file_open(&g->file, oracle_path(path, "train/%s/forward.safetensors", name), FILE_READ, err));
    TRY(st_parse(&g->st, g->file.p, g->file.n, err));
    const st_tensor *ids = st_find(g->st, "input_ids"), *logits = st_find(g->st, "logits");
    if (!ids || !logits || !str_is(ids->dtype, "I32") || !str_is(logits->dtype, "F32") || logits->n_dims != 3)
        FAIL(err, MOTE_E_FORMAT, "forward.safetensors: input_ids or logits are missing or of another type");
    g->ids = (const int32_t *)(const void *)ids->data;
    g->logits = (const float *)(const void *)logits->data;
    g->n_seq = logits->shape[0];
    g->len = logits->shape[1];
    g->vocab = logits->shape[2];
    return MOTE_OK;
}

/* Both sequences in one batch: two segments. */
static mote_status run(const char *name, const struct golden *g, double *nmse, const char **rung, mote_error *err) {
    char path[4096];
    pool *p = NULL;
    model *m = NULL;
    state *s = NULL;
    float *logits = NULL;
    mote_status st;
    int32_t want[2 * LEN_MAX];
    model_seg segs[2];
    size_t n = g->n_seq * g->len;
    if (g->n_seq != 2 || g->len > LEN_MAX) FAIL(err, MOTE_E_FORMAT, "%zu sequences of %zu tokens", g->n_seq, g->len);
    for (size_t i = 0; i < n; i++) want[i] = (int32_t)i;
    for (size_t i = 0; i < 2; i++) segs[i] = (model_seg){.seq = i, .n = g->len};
    TRYG(st, pool_open(&p, 2, err));
    TRYG(st, model_open(&m, oracle_path(path, "train/%s", name), NULL, p, err));
    if (model_get_info(m)->n_vocab != g->vocab) FAILG(st, err, MOTE_E_MISMATCH, "vocabulary %zu, golden %zu", model_get_info(m)->n_vocab, g->vocab);
    state_opts o = {.n_ctx = CTX, .n_seq = 2, .n_batch = n, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = true};
    TRYG(st, state_open(&s, m, &o, p, err));
    logits = mem_calloc(n * g->vocab, sizeof *logits);
    if (!logits) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    model_batch b = {.ids = g->ids, .n = n, .segs = segs, .n_segs = 2, .want = want, .n_want = n, .logits = logits};
    TRYG(st, model_forward(s, &b, err));
    *nmse = oracle_nmse(logits, g->logits, n * g->vocab);
    *rung = model_get_info(m)->rung;
out:
    mem_free(logits);
    state_close(&s);
    model_close(&m);
    pool_close(&p);
    return st;
}

static bool test_one(const char *name, bool report) {
    struct golden g = {0};
    mote_error err = {0};
    double nmse = 0;
    const char *rung = NULL;
    mote_status st = open_golden(&g, name, &err);
    if (st == MOTE_OK) st = run(name, &g, &nmse, &rung, &err);
    st_close(&g.st);
    file_close(&g.file);
    bool ok = st == MOTE_OK && nmse <= BAR;
    if (report) oracle_report("train", name, ok, nmse, BAR, rung);
    if (st != MOTE_OK) printf("FAIL %-16s %s\n", name, err.message);
    else printf("%s %-16s nmse %.2e\n", ok ? "ok  " : "FAIL", name, nmse);
    return ok;
}

int main(int argc, char **argv) {
    char root[4096];
    bool report = report_wanted(argc, argv);
    int failed = 0, ran = 0;
    DIR *d = opendir(oracle_path(root, "train"));
    if (!d) {
        printf("FAIL: no folder %s\n", root);
        return 1;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        ran++;
        failed += !test_one(e->d_name, report);
    }
    closedir(d);
    printf("%d of %d folders pass\n", ran - failed, ran);
    return failed || !ran;
}
