/* attention_kinds_test.c: layers that see their past in another way than by softmax: sessions, speculation, and the trained graph. */
#include "../tiny_model.h"
#include "format/edit.h"
#include "model/arch.h"
#include "report.h"
#include "session_props.h"
#include "spec_props.h"
#include "train/gradient_pass.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ok.h"

static char dir[] = "/tmp/mote_kinds_XXXXXX", source[64], made[64];
static bool report;
enum { LAYERS = 2, MAPS = 6 };

/* A file of the tiny model with other kinds of attention: random maps of MAPS exponents for linear layers. */
typedef struct wanted {
    uint32_t kinds[LAYERS];
    uint32_t window, block, top;
    enum { WHOLE, NO_MAP, NO_GAIN, SHORT_MAP, NO_LIST } fault;
} wanted;

static void put_map(model_edit *e, size_t il, const char *name, size_t dim, size_t n, size_t heads, rng *r, float **keep) {
    char full[64];
    float *x = MEM_NEW_N(float, dim * n * heads + n * heads);
    assert_non_null(x);
    *keep = x;
    for (size_t i = 0; i < dim * n * heads + n * heads; i++) x[i] = (float)(rng_double(r) - 0.5);
    (void)snprintf(full, sizeof full, "blk.%zu.%s", il, name);
    OK(edit_put(e, str_of(full), QUANT_F32, 3, (uint64_t[]){dim, n, heads}, x, NULL, &e_));
    (void)snprintf(full, sizeof full, "blk.%zu.%s.bias", il, name);
    OK(edit_put(e, str_of(full), QUANT_F32, 1, (uint64_t[]){n * heads}, x + dim * n * heads, NULL, &e_));
}

static void make(const wanted *w, quant_type type) {
    model *m = NULL;
    pool *p = NULL;
    model_edit *e = NULL;
    rng r;
    char name[64];
    float list[LAYERS], *keep[2 * LAYERS] = {0}, gain[64];
    rng_seed(&r, 5, 6);
    OK(tiny_model_write(source, &(tiny_opts){.type = type, .seed = 3}, &e_));
    OK(pool_open(&p, 1, &e_));
    OK(model_open(&m, source, NULL, p, &e_));
    OK(edit_open(&e, model_get_file(m), &e_));
    for (size_t i = 0; i < COUNT_OF(gain); i++) gain[i] = (float)i * 0.2f - 1;
    for (size_t il = 0; il < LAYERS; il++) {
        const layer *l = &m->layers[il];
        size_t dim = w->fault == SHORT_MAP ? l->dim_k - 1 : l->dim_k;
        list[il] = (float)w->kinds[il];
        if (w->kinds[il] != ATTN_LINEAR) continue;
        if (w->fault != NO_MAP) put_map(e, il, "attn_q_map", dim, MAPS, l->n_head, &r, &keep[2 * il]);
        put_map(e, il, "attn_k_map", dim, MAPS, l->n_head_kv, &r, &keep[2 * il + 1]);
        (void)snprintf(name, sizeof name, "blk.%zu.attn_map_gain", il);
        if (w->fault != NO_GAIN) OK(edit_put(e, str_of(name), QUANT_F32, 1, (uint64_t[]){l->n_head}, gain, NULL, &e_));
    }
    const kv kinds = {.key = STR("llama.attention.kind"), .type = KV_ARRAY, .elem = KV_U32, .count = LAYERS, .elems = (const unsigned char *)w->kinds};
    OK(edit_set_kv(e, &kinds, &e_));
    OK(edit_set_u32(e, "llama.attention.linear.window", w->window, &e_));
    OK(edit_set_u32(e, "llama.attention.block.size", w->block ? w->block : 64, &e_));
    OK(edit_set_u32(e, "llama.attention.block.top", w->top, &e_));
    if (w->fault != NO_LIST) OK(edit_put(e, STR("attention_kinds"), QUANT_F32, 1, (uint64_t[]){LAYERS}, list, NULL, &e_));
    OK(edit_write(e, made, &e_));
    edit_close(&e);
    model_close(&m);
    pool_close(&p);
    for (size_t i = 0; i < COUNT_OF(keep); i++) mem_free(keep[i]);
}

static const wanted sessions[] = {
    {.kinds = {ATTN_LINEAR, ATTN_LINEAR}}, {.kinds = {ATTN_SOFTMAX, ATTN_LINEAR}, .window = 1}, {.kinds = {ATTN_LINEAR, ATTN_SOFTMAX}, .window = 21},
    {.kinds = {ATTN_BLOCKS, ATTN_BLOCKS}, .top = 1}, {.kinds = {ATTN_BLOCKS, ATTN_LINEAR}, .window = 9, .top = 2},
};

static void sessions_keep_what_they_promise(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(sessions); i++) {
        mote_error err = {0};
        spec_props_result r;
        make(&sessions[i], i == 1 ? QUANT_Q8_0 : QUANT_F32);
        const props_opts o = {.cache_type = i == 1 ? "f16" : "f32", .exact = i != 1, .n_ids = sessions[i].top ? 330 : 90, .n_ctx = sessions[i].top ? 384 : 128, .seed = i, .quick = true};
        if (session_props(made, &o, &err) != MOTE_OK) fail_msg("case %zu: %s", i, err.message);
        if (spec_props(made, &(spec_props_opts){.cache_type = o.cache_type, .exact = o.exact, .quick = true, .seed = i}, &r, &err) != MOTE_OK)
            fail_msg("case %zu: %s", i, err.message);
    }
}

/* The engine's logits and the trained graph's: the same numbers up to rounding. */
static double graph_against_engine(const char *path) {
    enum { N = 400 };
    pool *p = NULL;
    model *m = NULL;
    state *s = NULL;
    net *n = NULL;
    tape *t = NULL;
    int32_t ids[N], want[N];
    double loss, diff = 0, all = 0;
    const struct kern_table *kern = tensor_kernels_open(CPU_ALL);
    OK(pool_open(&p, 2, &e_));
    OK(model_open(&m, path, NULL, p, &e_));
    size_t vocab = m->hp.n_vocab;
    float *ours = MEM_NEW_N(float, N * vocab), *theirs = MEM_NEW_N(float, N * vocab);
    for (int32_t i = 0; i < N; i++) ids[i] = (want[i] = i, 10 + i * 37 % 250);
    const state_opts so = {.n_ctx = N, .n_seq = 1, .n_batch = N, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = true};
    const model_seg seg = {.n = N};
    OK(state_open(&s, m, &so, p, &e_));
    OK(model_forward(s, &(model_batch){.ids = ids, .n = N, .segs = &seg, .n_segs = 1, .want = want, .n_want = N, .logits = theirs}, &e_));
    OK(net_open(&n, m, p, &(net_opts){0}, &e_));
    OK(tape_open(&t, &(tape_opts){.pool = p, .kern = kern}, &e_));
    OK(gradients_make(n, t, &(gradients_in){ids, 1, N}, &loss, ours, &e_));
    for (size_t i = 0; i < net_n_params(n); i++) {
        const param *q = net_param(n, i);
        bool alone = str_ends(q->info->name, STR("attn_map_gain")); /* without a window it cancels */
        if (q->trained && !q->v.g && !alone) fail_msg("no gradient: %.*s", STR_ARG(q->info->name));
    }
    for (size_t i = 0; i < N * vocab; i++) {
        diff += pow((double)ours[i] - (double)theirs[i], 2);
        all += pow((double)theirs[i], 2);
    }
    mem_free(ours);
    mem_free(theirs);
    tape_close(&t);
    net_close(&n);
    state_close(&s);
    model_close(&m);
    pool_close(&p);
    tensor_kernels_close(&kern);
    return diff / all;
}

static void what_is_trained_is_what_runs(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(sessions); i++) {
        char item[60];
        make(&sessions[i], QUANT_F32);
        double nmse = graph_against_engine(made);
        (void)snprintf(item, sizeof item, "kinds %u %u, window %u, top %u", (unsigned)sessions[i].kinds[0], (unsigned)sessions[i].kinds[1],
                       (unsigned)sessions[i].window, (unsigned)sessions[i].top);
        char measured[32];
        (void)snprintf(measured, sizeof measured, "NMSE %.1e", nmse);
        if (report) report_row("graph", item, measured, "1e-10", nmse < 1e-10 ? "ok" : "FAIL", "-", "f32");
        if (!(nmse < 1e-10)) fail_msg("case %zu: NMSE %.3g", i, nmse);
    }
}

static void files_that_lie_are_refused(void **unused) {
    (void)unused;
    static const struct {
        wanted w;
        const char *says;
    } cases[] = {
        {{.kinds = {0, 1}, .fault = NO_MAP}, "attn_q_map"},    {{.kinds = {0, 1}, .fault = NO_GAIN}, "attn_map_gain"},
        {{.kinds = {0, 1}, .fault = SHORT_MAP}, "has shape"},  {{.kinds = {0, 1}, .fault = NO_LIST}, "attention_kinds"},
        {{.kinds = {0, 77}}, "attention.kind"},                {{.kinds = {1, 0}, .window = UINT32_MAX}, "attention.linear.window"},
        {{.kinds = {2, 0}, .block = 96}, "no multiple of 64"},     {{.kinds = {2, 0}, .block = 0x80000000}, "attention.block.size"},
        {{.kinds = {2, 0}, .top = 65}, "attention.block.top"},
    };
    pool *p = NULL;
    OK(pool_open(&p, 1, &e_));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        model *m = NULL;
        mote_error err = {0};
        make(&cases[i].w, QUANT_F32);
        if (model_open(&m, made, NULL, p, &err) == MOTE_OK || !strstr(err.message, cases[i].says)) fail_msg("case %zu: %s", i, err.message);
    }
    pool_close(&p);
}

static int setup(void **unused) {
    (void)unused;
    if (!mkdtemp(dir)) return -1;
    (void)snprintf(source, sizeof source, "%s/source.gguf", dir);
    (void)snprintf(made, sizeof made, "%s/made.gguf", dir);
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    (void)unlink(source);
    (void)unlink(made);
    return rmdir(dir);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_keep_what_they_promise),
        cmocka_unit_test(what_is_trained_is_what_runs),
        cmocka_unit_test(files_that_lie_are_refused),
    };
    report = report_wanted(argc, argv);
    return cmocka_run_group_tests(tests, setup, teardown);
}
