/* no_alloc_test.c: once a session and a sampler are open, feeding and drawing tokens allocates nothing. */
#include "fault.h"
#include "heads_file.h"
#include "mote/mote.h"
#include "tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("FAIL line %d: %s\n", __LINE__, #cond);                                         \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

typedef struct counts {
    size_t first, last, n;
} counts;

static int on_piece(void *ctx, const mote_piece *p) {
    counts *c = ctx;
    if (c->n++ == 0) c->first = fault_allocations();
    if (p->id >= 0) c->last = fault_allocations();
    return 0;
}

/* A generation allocates its text buffer and a draft's sampler before the first token, and nothing after it. */
static int generate(mote_session *s, mote_sampler *smp, mote_speculator *sp) {
    mote_error err;
    counts c = {0};
    mote_gen_result r = {.size = sizeof r};
    mote_gen_opts o = mote_gen_opts_default();
    o.n_predict = 100; /* over context shifts */
    o.sampler = smp;
    o.ignore_end = true;
    o.speculator = sp;
    o.on_piece = on_piece;
    o.ctx = &c;
    CHECK(mote_complete(s, 0, "hello world", 11, &o, &r, &err) == MOTE_OK);
    CHECK(c.n >= 100);
    CHECK(c.first == c.last);
    CHECK(!sp || r.n_drafted > 20);
    return 0;
}

static int speculate(mote_session *s, mote_sampler *smp, mote_model *m, bool leaves) {
    mote_error err;
    mote_speculator *sp;
    mote_spec_opts o = mote_spec_opts_default();
    o.always = true;
    o.n_max = 5;
    CHECK(mote_speculator_open(&sp, s, &o, &err) == MOTE_OK);
    int bad = generate(s, NULL, sp); /* n-grams: the likeliest tokens go in circles */
    mote_speculator_close(&sp);
    o.ngram = false;
    o.draft = m;
    CHECK(mote_speculator_open(&sp, s, &o, &err) == MOTE_OK);
    bad = bad || generate(s, smp, sp);
    mote_speculator_close(&sp);
    o.draft = NULL;
    o.medusa = true;
    CHECK(mote_speculator_open(&sp, s, &o, &err) == MOTE_OK);
    bad = bad || generate(s, smp, sp);
    mote_speculator_close(&sp);
    if (leaves) return bad;
    o.medusa = false;
    o.exit = true;
    CHECK(mote_speculator_open(&sp, s, &o, &err) == MOTE_OK);
    bad = bad || generate(s, smp, sp);
    mote_speculator_close(&sp);
    return bad;
}

static int decode(mote_session *s, mote_sampler *smp) {
    mote_error err;
    int32_t ids[90];
    for (int i = 0; i < 90; i++) ids[i] = 8 + i * 3 % 300;
    size_t before = fault_allocations();
    CHECK(mote_session_prompt(s, 0, ids, 40, NULL, &err) == MOTE_OK);
    for (int i = 0; i < 60; i++) { /* over a context shift */
        int32_t id;
        CHECK(mote_sampler_draw(smp, mote_session_logits(s, 0), &id, &err) == MOTE_OK);
        CHECK(mote_session_append(s, 0, &id, 1, &err) == MOTE_OK);
    }
    CHECK(mote_session_prompt(s, 1, ids, 64, NULL, &err) == MOTE_OK);
    CHECK(mote_session_prompt(s, 0, ids, 50, NULL, &err) == MOTE_OK);
    CHECK(mote_session_truncate(s, 0, 30, &err) == MOTE_OK);
    CHECK(mote_session_append(s, 0, ids, 20, &err) == MOTE_OK);
    CHECK(mote_session_copy(s, 1, 0, &err) == MOTE_OK);
    const mote_step steps[2] = {{0, 9}, {1, 10}};
    CHECK(mote_session_step(s, steps, 2, &err) == MOTE_OK);
    CHECK(mote_session_clear(s, 0, &err) == MOTE_OK);
    CHECK(fault_allocations() == before);
    return generate(s, smp, NULL);
}

static int run(const char *path, const char *extra, const char *cache, float threshold) {
    mote_error err;
    mote_engine *e;
    mote_model *m;
    mote_session *s;
    mote_sampler *smp;
    mote_session_opts so = mote_session_opts_default();
    mote_sample_opts po = mote_sample_opts_default();
    mote_model_opts mo = mote_model_opts_default();
    mo.heads = extra;
    so.exit_threshold = threshold;
    so.n_ctx = 64;
    so.n_seq = 2;
    so.type_k = so.type_v = cache;
    so.context_shift = true;
    po.seed = 3;
    po.repeat_penalty = 1.1f;
    po.dry_multiplier = 0.8f;
    po.typical_p = 0.9f;
    po.xtc_probability = 0.5f;
    po.top_n_sigma = 3;
    po.ignore_end = true;
    po.logprobs = true;
    po.n_top = 5;
    CHECK(mote_engine_open(&e, NULL, &err) == MOTE_OK);
    CHECK(mote_model_open(&m, e, path, &mo, &err) == MOTE_OK);
    CHECK(mote_session_open(&s, m, &so, &err) == MOTE_OK);
    CHECK(mote_sampler_open(&smp, m, &po, &err) == MOTE_OK);
    int bad = decode(s, smp) || speculate(s, smp, m, threshold <= 1);
    mote_sampler_close(&smp);
    mote_session_close(&s);
    mote_model_close(&m);
    mote_engine_close(&e);
    return bad;
}

int main(void) {
    static const char *const caches[] = {"f16", "q8_0"};
    static const quant_type types[] = {QUANT_F32, QUANT_Q8_0};
    char path[] = "/tmp/mote-noalloc-XXXXXX";
    char extra[] = "/tmp/mote-noalloc-XXXXXX";
    const heads_plan plan = {.layer = {1, 2, 2}, .offset = {0, 1, 2}, .n = 3, .size = 0.1f};
    int fd = mkstemp(path), fd_heads = mkstemp(extra), bad = fd < 0 || fd_heads < 0;
    if (fd >= 0) (void)close(fd);
    if (fd_heads >= 0) (void)close(fd_heads);
    fault_init();
    fault_arm(FAULT_NONE, 0, false);
    for (int i = 0; i < 2 && !bad; i++) {
        mote_error err;
        bad = tiny_model_write(path, &(tiny_opts){.seed = 1, .type = types[i]}, &err) != MOTE_OK ||
              heads_file_write(extra, path, &plan, &err) != MOTE_OK || run(path, extra, caches[i], 2) || run(path, extra, caches[i], 0.07f);
    }
    (void)unlink(path);
    (void)unlink(extra);
    if (!bad) printf("feeding and drawing allocate nothing\n");
    return bad;
}
