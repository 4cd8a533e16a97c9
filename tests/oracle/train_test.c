/* train_test.c: the Hugging Face folders of $MOTE_SHARED/oracle/train, run and trained as they are: two sequences of 40 tokens
 * against PyTorch. The engine's logits; the graph's logits, loss and every gradient, under the folder's own tensor names,
 * also with each layer computed again on the way back.
 *
 *   train_test [--report] [NAME…]
 *
 * A pass: NMSE of logits and of every gradient ≤ 1e-7, the loss within 1e-4. */
#include "model/model.h"
#include "oracle_util.h"
#include "report.h"
#include "train/gradient_pass.h"

#include <math.h>
#include <unistd.h>

#include <stdio.h>
#include <string.h>

#define BAR 1e-7
enum { LEN_MAX = 256, CTX = 256 };

struct golden {
    file_map file;
    st_file *st;
    const int32_t *ids;
    const float *logits;
    float loss;
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
    const st_tensor *loss = st_find(g->st, "loss");
    if (!loss || loss->size != sizeof g->loss) FAIL(err, MOTE_E_FORMAT, "forward.safetensors: loss is missing");
    memcpy(&g->loss, loss->data, sizeof g->loss);
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

/* The worst of all gradients in the file `made` against gradients.safetensors: names and shapes must be the same. */
static mote_status compare_gradients(const char *made, const char *name, double *worst, char which[128], mote_error *err) {
    char path[4096];
    file_map a = {0}, b = {0};
    st_file *ours = NULL, *theirs = NULL;
    mote_status st;
    TRYG(st, file_open(&a, made, FILE_READ, err));
    TRYG(st, st_parse(&ours, a.p, a.n, err));
    TRYG(st, file_open(&b, oracle_path(path, "train/%s/gradients.safetensors", name), FILE_READ, err));
    TRYG(st, st_parse(&theirs, b.p, b.n, err));
    *worst = 0;
    for (size_t i = 0; i < st_n_tensors(theirs); i++) {
        const st_tensor *want = st_tensor_at(theirs, i);
        (void)snprintf(path, sizeof path, "%.*s", STR_ARG(want->name));
        const st_tensor *got = st_find(ours, path);
        if (!got || got->size != want->size || got->n_dims != want->n_dims) FAILG(st, err, MOTE_E_MISMATCH, "no gradient of that shape for '%s'", path);
        double nmse = oracle_nmse((const float *)(const void *)got->data, (const float *)(const void *)want->data, want->size / sizeof(float));
        if (nmse < *worst) continue;
        *worst = nmse;
        (void)snprintf(which, 128, "%.100s", path);
    }
    if (st_n_tensors(ours) != st_n_tensors(theirs)) st = ERR(err, MOTE_E_MISMATCH, "%zu gradients, expected %zu", st_n_tensors(ours), st_n_tensors(theirs));
out:
    st_close(&ours);
    st_close(&theirs);
    file_close(&a);
    file_close(&b);
    return st;
}

struct trained {
    double logits, loss, gradients; /* errors */
    char which[128];                /* the worst gradient */
};

static mote_status train(const char *name, const struct golden *g, bool checkpoint, struct trained *r, mote_error *err) {
    char path[4096], out[] = "/tmp/mote-gradients-XXXXXX";
    pool *p = NULL;
    model *m = NULL;
    net *n = NULL;
    tape *t = NULL;
    const struct kern_table *kern = NULL;
    double loss;
    mote_status st;
    int fd = mkstemp(out);
    if (fd < 0) FAIL(err, MOTE_E_IO, "cannot make a temporary file");
    (void)close(fd);
    float *logits = mem_calloc(g->n_seq * g->len * g->vocab, sizeof *logits);
    if (!logits) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    TRYG(st, pool_open(&p, 2, err));
    TRYG(st, model_open(&m, oracle_path(path, "train/%s", name), NULL, p, err));
    TRYG(st, net_open(&n, m, p, &(net_opts){.checkpoint = checkpoint}, err));
    kern = tensor_kernels_open(CPU_ALL);
    if (!kern) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    TRYG(st, tape_open(&t, &(tape_opts){.pool = p, .kern = kern}, err));
    TRYG(st, gradients_make(n, t, &(gradients_in){g->ids, g->n_seq, g->len}, &loss, logits, err));
    TRYG(st, gradients_write(n, out, err));
    TRYG(st, compare_gradients(out, name, &r->gradients, r->which, err));
    r->logits = oracle_nmse(logits, g->logits, g->n_seq * g->len * g->vocab);
    r->loss = fabs(loss - (double)g->loss);
out:
    (void)unlink(out);
    mem_free(logits);
    tape_close(&t);
    tensor_kernels_close(&kern);
    net_close(&n);
    model_close(&m);
    pool_close(&p);
    return st;
}

#define LOSS_BAR 1e-4

static bool test_training(const char *name, const struct golden *g, bool checkpoint, bool report) {
    mote_error err = {0};
    struct trained r = {0};
    char item[160];
    mote_status st = train(name, g, checkpoint, &r, &err);
    bool ok = st == MOTE_OK && r.logits <= BAR && r.loss <= LOSS_BAR && r.gradients <= BAR;
    (void)snprintf(item, sizeof item, "%s gradients%s", name, checkpoint ? ", layers computed again" : "");
    if (report) oracle_report("train", item, ok, st == MOTE_OK ? r.gradients : HUGE_VAL, BAR, "graph");
    if (st != MOTE_OK) printf("FAIL %s: %s\n", item, err.message);
    else printf("%s %-16s logits %.2e, loss off by %.1e, gradients %.2e (worst: %s)\n", ok ? "ok  " : "FAIL", item, r.logits, r.loss, r.gradients, r.which);
    return ok;
}

static bool test_one(const char *name, bool report) {
    struct golden g = {0};
    mote_error err = {0};
    double nmse = 0;
    const char *rung = NULL;
    mote_status st = open_golden(&g, name, &err);
    if (st == MOTE_OK) st = run(name, &g, &nmse, &rung, &err);
    bool ok = st == MOTE_OK && nmse <= BAR;
    if (g.st) ok &= test_training(name, &g, false, report) & test_training(name, &g, true, report);
    st_close(&g.st);
    file_close(&g.file);
    if (report) oracle_report("train", name, ok, nmse, BAR, rung);
    if (st != MOTE_OK) printf("FAIL %-16s %s\n", name, err.message);
    else printf("%s %-16s nmse %.2e\n", ok ? "ok  " : "FAIL", name, nmse);
    return ok;
}

int main(int argc, char **argv) { return oracle_train_folders(argc, argv, test_one); }
