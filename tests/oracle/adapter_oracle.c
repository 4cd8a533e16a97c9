/* adapter_oracle.c: LoRA on the models of $MOTE_SHARED/oracle/train. A random adapter in PEFT's form is written for every
 * linear layer, by PEFT's definition: W' = W + alpha / r · B A in the folder's own layout. The model with the adapter
 * must give the logits of a folder in which it was merged by hand; so must the adapter after it went through GGUF, and
 * written as PEFT again it must be the same numbers.
 *
 *   adapter_oracle [--report] [FOLDER…]
 *
 * A pass: NMSE ≤ 1e-9, and the adapter is far from doing nothing. */
#include "format/adapter.h"
#include "format/origin.h"
#include "model/model.h"
#include "oracle_util.h"
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define BAR 1e-9
enum { LEN = 24, RANK = 3 };
#define ALPHA 5.0

static char scratch[] = "/tmp/mote_adapter_XXXXXX";

static const char *in_scratch(const char *name) {
    static char path[4][300];
    static int turn;
    turn = (turn + 1) % 4;
    (void)snprintf(path[turn], sizeof path[turn], "%s/%s", scratch, name);
    return path[turn];
}

static mote_status logits_of(const char *path, const char *lora, float by, float **out, size_t *n, mote_error *err) {
    pool *p = NULL;
    model *m = NULL;
    state *s = NULL;
    mote_status st;
    int32_t ids[LEN], want[LEN];
    model_adapter ad = {lora, by};
    model_opts o = {.adapters = &ad, .n_adapters = lora != NULL};
    *out = NULL;
    TRYG(st, pool_open(&p, 2, err));
    TRYG(st, model_open(&m, path, &o, p, err));
    for (int i = 0; i < LEN; i++) ids[i] = (i * 37 + 11) % (int)model_get_info(m)->n_vocab, want[i] = i;
    state_opts so = {.n_ctx = 64, .n_seq = 1, .n_batch = LEN, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = true};
    TRYG(st, state_open(&s, m, &so, p, err));
    *n = LEN * model_get_info(m)->n_vocab;
    *out = MEM_NEW_N(float, *n);
    if (!*out) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    model_seg seg = {.n = LEN};
    model_batch b = {.ids = ids, .n = LEN, .segs = &seg, .n_segs = 1, .want = want, .n_want = LEN, .logits = *out};
    st = model_forward(s, &b, err);
out:
    state_close(&s);
    model_close(&m);
    pool_close(&p);
    return st;
}

static bool is_linear(const st_tensor *t) {
    static const char *const not_these[] = {"embed", "wte", "wpe", "lm_head", "conv.weight", "mlp.gate.weight", "experts", "norm"};
    if (t->n_dims != 2 || !str_ends(t->name, STR(".weight"))) return false;
    for (size_t i = 0; i < COUNT_OF(not_these); i++)
        if (str_find(t->name, str_of(not_these[i]), 0) != SIZE_MAX) return false;
    return true;
}

static mote_status write_text(const char *path, const char *text, size_t n, mote_error *err) {
    file_writer w = {0};
    mote_status s;
    TRYG(s, file_writer_open(&w, path, err));
    TRYG(s, file_write(&w, text, n, err));
    s = file_writer_commit(&w, err);
out:
    file_writer_abort(&w);
    return s;
}

/* The adapter and the merged folder. */
static mote_status make(const char *dir, origin *o, arena *mem, mote_error *err) {
    size_t n = origin_n_sources(o), n_ad = 0;
    st_tensor *merged = ARENA_NEW_N(mem, st_tensor, n), *ad = ARENA_NEW_N(mem, st_tensor, 2 * n);
    char text[4096];
    rng r;
    bool turned = str_ends(str_of(dir), STR("gpt2"));
    rng_seed(&r, 7, 0);
    for (size_t i = 0; i < n; i++) {
        const st_tensor *t = origin_source(o, i);
        merged[i] = *t;
        if (!is_linear(t)) continue;
        size_t rows = (size_t)t->shape[turned], cols = (size_t)t->shape[!turned];
        float *a = ARENA_NEW_N(mem, float, RANK * cols), *b = ARENA_NEW_N(mem, float, rows * RANK), *w = arena_alloc(mem, rows * cols, sizeof *w);
        char *na = arena_alloc(mem, t->name.n + 64, 1), *nb = arena_alloc(mem, t->name.n + 64, 1);
        if (!a || !b || !w || !na || !nb) FAIL(err, MOTE_E_MEMORY, "out of memory");
        for (size_t k = 0; k < RANK * cols; k++) a[k] = 0.4f * (float)(rng_double(&r) - 0.5);
        for (size_t k = 0; k < rows * RANK; k++) b[k] = 0.4f * (float)(rng_double(&r) - 0.5);
        memcpy(w, t->data, rows * cols * sizeof *w);
        for (size_t x = 0; x < rows; x++)
            for (size_t c = 0; c < cols; c++)
                for (size_t k = 0; k < RANK; k++) w[turned ? c * rows + x : x * cols + c] += (float)(ALPHA / RANK) * b[x * RANK + k] * a[k * cols + c];
        merged[i].data = (const unsigned char *)w;
        (void)snprintf(na, t->name.n + 64, "base_model.model.%.*s.lora_A.weight", (int)t->name.n - 7, t->name.p);
        (void)snprintf(nb, t->name.n + 64, "base_model.model.%.*s.lora_B.weight", (int)t->name.n - 7, t->name.p);
        ad[n_ad++] = (st_tensor){.name = str_of(na), .dtype = STR("F32"), .n_dims = 2, .shape = {RANK, cols}, .data = (const unsigned char *)a, .size = RANK * cols * 4};
        ad[n_ad++] = (st_tensor){.name = str_of(nb), .dtype = STR("F32"), .n_dims = 2, .shape = {rows, RANK}, .data = (const unsigned char *)b, .size = rows * RANK * 4};
    }
    file_map config;
    (void)mkdir(in_scratch("merged"), 0777);
    (void)mkdir(in_scratch("peft"), 0777);
    TRY(st_write(in_scratch("merged/model.safetensors"), merged, n, NULL, err));
    TRY(st_write(in_scratch("peft/adapter_model.safetensors"), ad, n_ad, NULL, err));
    int len = snprintf(text, sizeof text, "{\"peft_type\":\"LORA\",\"r\":%d,\"lora_alpha\":%g,\"fan_in_fan_out\":%s}", RANK, ALPHA, turned ? "true" : "false");
    TRY(write_text(in_scratch("peft/adapter_config.json"), text, (size_t)len, err));
    (void)snprintf(text, sizeof text, "%s/config.json", dir);
    TRY(file_open(&config, text, FILE_READ, err));
    mote_status s = write_text(in_scratch("merged/config.json"), (const char *)config.p, config.n, err);
    file_close(&config);
    return s;
}

static mote_status compare_pairs(const adapter *x, const adapter *y, mote_error *err) {
    if (x->n != y->n) FAIL(err, MOTE_E_MISMATCH, "%zu pairs became %zu", x->n, y->n);
    for (size_t i = 0; i < x->n; i++) {
        const adapter_pair *p = &x->pairs[i], *q = adapter_find(y, p->name);
        if (!q || q->rank != p->rank || fabsf(q->scale - p->scale) > 1e-6f || memcmp(p->a, q->a, p->rank * p->cols * 4) != 0 ||
            memcmp(p->b, q->b, p->rows * p->rank * 4) != 0)
            FAIL(err, MOTE_E_MISMATCH, "'%.*s' is not the same after writing and reading", STR_ARG(p->name));
    }
    return MOTE_OK;
}

/* A folder whose rules split one module into several tensors gets their ranks side by side: not the same numbers. */
static mote_status through_files(const char *dir, mote_error *err) {
    model_file *base;
    adapter *x = NULL, *y = NULL;
    mote_status s;
    TRY(model_file_open(&base, dir, 0, err));
    TRYG(s, adapter_open(&x, in_scratch("peft"), base, err));
    TRYG(s, adapter_write_gguf(x, in_scratch("lora.gguf"), err));
    TRYG(s, adapter_write_peft(x, base, in_scratch("again"), err));
    TRYG(s, adapter_open(&y, in_scratch("again"), base, err));
    s = compare_pairs(x, y, err);
out:
    adapter_close(&x);
    adapter_close(&y);
    model_file_close(&base);
    return s;
}

static bool test_one(const char *name, bool report) {
    char dir[4096];
    mote_error err = {0};
    origin *o = NULL;
    arena mem;
    float *merged = NULL, *plain = NULL, *peft = NULL, *gguf = NULL, *none = NULL;
    size_t n;
    double e[3] = {1, 1, 1}, far = 0;
    mote_status s;
    arena_init(&mem, (size_t)1 << 28);
    TRYG(s, origin_open(&o, oracle_path(dir, "train/%s", name), &err));
    TRYG(s, make(dir, o, &mem, &err));
    TRYG(s, through_files(dir, &err));
    TRYG(s, logits_of(in_scratch("merged"), NULL, 0, &merged, &n, &err));
    TRYG(s, logits_of(dir, NULL, 0, &plain, &n, &err));
    TRYG(s, logits_of(dir, in_scratch("peft"), 1, &peft, &n, &err));
    TRYG(s, logits_of(dir, in_scratch("lora.gguf"), 1, &gguf, &n, &err));
    TRYG(s, logits_of(dir, in_scratch("lora.gguf"), 0, &none, &n, &err));
    e[0] = oracle_nmse(peft, merged, n);
    e[1] = oracle_nmse(gguf, merged, n);
    e[2] = oracle_nmse(none, plain, n);
    far = oracle_nmse(plain, merged, n);
out:
    mem_free(merged);
    mem_free(plain);
    mem_free(peft);
    mem_free(gguf);
    mem_free(none);
    origin_close(&o);
    arena_free(&mem);
    bool ok = s == MOTE_OK && e[0] <= BAR && e[1] <= BAR && e[2] <= BAR && far > 1e-3;
    if (s != MOTE_OK) printf("FAIL %-16s %s\n", name, err.message);
    else printf("%s %-16s PEFT %.1e  GGUF %.1e  scale 0 %.1e  (without: %.1e)\n", ok ? "ok  " : "FAIL", name, e[0], e[1], e[2], far);
    if (report) oracle_report("lora", name, ok, fmax(e[0], e[1]), BAR, "peft, gguf vs merged");
    return ok;
}

int main(int argc, char **argv) { return oracle_train_folders_in(scratch, argc, argv, test_one); }
