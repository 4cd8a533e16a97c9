/* state_test.c: what sequences' caches promise, on every model of $MOTE_SHARED/oracle/arch: bit-equal logits
 * whatever runs beside a sequence in a batch, and after copying, checkpointing, truncating, saving and clearing; and
 * behind tokens that left by early exits.
 *
 *   state_test [NAME…] */
#include "heads_file.h"
#include "model/model.h"
#include "oracle_util.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { N_IDS = 40, CUT = 23, DETOUR = 9, N_BATCH = 48 };

struct bench {
    const model *m;
    state *st;
    size_t vocab;
    int32_t ids[N_IDS];
    float *ref, *got; /* [N_IDS, vocab] */
};

/* ids[from, to) of one sequence; logits of them all into `out` (or nowhere). */
static mote_status feed(struct bench *b, size_t seq, const int32_t *ids, size_t from, size_t to, float *out, mote_error *err) {
    int32_t want[N_BATCH];
    for (size_t i = 0; i < to - from; i++) want[i] = (int32_t)i;
    model_seg seg = {.seq = seq, .pos0 = from, .n = to - from};
    model_batch batch = {.ids = ids + from, .n = to - from, .segs = &seg, .n_segs = 1, .want = want, .n_want = out ? to - from : 0,
                         .logits = out ? out + from * b->vocab : NULL};
    return model_forward(b->st, &batch, err);
}

static bool same(const struct bench *b, size_t from) {
    return memcmp(b->ref + from * b->vocab, b->got + from * b->vocab, (N_IDS - from) * b->vocab * sizeof(float)) == 0;
}

/* The rest from CUT on must be what it was. */
static mote_status rest(struct bench *b, size_t seq, const char *what, mote_error *err) {
    TRY(feed(b, seq, b->ids, CUT, N_IDS, b->got, err));
    if (!same(b, CUT)) FAIL(err, MOTE_E_MISMATCH, "%s: other logits", what);
    return MOTE_OK;
}

/* Other tokens than the prompt's, from CUT on. */
static mote_status detour(struct bench *b, size_t seq, mote_error *err) {
    int32_t other[N_IDS];
    for (size_t i = 0; i < N_IDS; i++) other[i] = b->ids[N_IDS - 1 - i];
    return feed(b, seq, other, CUT, CUT + DETOUR, NULL, err);
}

/* In pieces, each in one batch with pieces of two other sequences around it. */
static mote_status in_company(struct bench *b, mote_error *err) {
    size_t at = 0;
    for (size_t seq = 0; seq < 3; seq++) state_seq_clear(b->st, seq);
    for (size_t round = 0; at < N_IDS; round++) {
        size_t k = MIN(1 + round % 5, N_IDS - at), before = 1 + round % 3, after = 2;
        int32_t ids[N_BATCH], want[N_BATCH];
        model_seg segs[3] = {{.seq = 2, .pos0 = state_seq_len(b->st, 2), .n = before}, {.seq = 0, .pos0 = at, .n = k},
                             {.seq = 1, .pos0 = state_seq_len(b->st, 1), .n = after}};
        for (size_t i = 0; i < before + k + after; i++) ids[i] = b->ids[(3 * round + i) % N_IDS];
        memcpy(ids + before, b->ids + at, k * sizeof *ids);
        for (size_t i = 0; i < k; i++) want[i] = (int32_t)(before + i);
        model_batch batch = {.ids = ids, .n = before + k + after, .segs = segs, .n_segs = 3, .want = want, .n_want = k, .logits = b->got + at * b->vocab};
        TRY(model_forward(b->st, &batch, err));
        at += k;
    }
    if (!same(b, 0)) FAIL(err, MOTE_E_MISMATCH, "in company: other logits");
    return MOTE_OK;
}

static mote_status copied(struct bench *b, mote_error *err) {
    state_seq_clear(b->st, 0);
    TRY(feed(b, 0, b->ids, 0, CUT, NULL, err));
    state_seq_copy(b->st, 1, 0);
    TRY(detour(b, 0, err));
    return rest(b, 1, "copy", err);
}

static mote_status checkpointed(struct bench *b, mote_error *err) {
    size_t bytes = state_checkpoint_bytes(b->st);
    void *kept = mem_calloc(bytes ? bytes : 1, 1);
    if (!kept) FAIL(err, MOTE_E_MEMORY, "out of memory");
    state_seq_clear(b->st, 0);
    mote_status s;
    TRYG(s, feed(b, 0, b->ids, 0, CUT, NULL, err));
    state_checkpoint_save(b->st, 0, kept);
    TRYG(s, detour(b, 0, err));
    state_checkpoint_load(b->st, 0, kept, CUT);
    s = rest(b, 0, "checkpoint", err);
out:
    mem_free(kept);
    return s;
}

static mote_status truncated(struct bench *b, mote_error *err) {
    state_seq_clear(b->st, 0);
    TRY(feed(b, 0, b->ids, 0, CUT, NULL, err));
    if (!state_seq_truncate(b->st, 0, CUT)) FAIL(err, MOTE_E_MISMATCH, "truncation to the present length is refused");
    TRY(detour(b, 0, err));
    if (state_seq_truncate(b->st, 0, CUT)) return rest(b, 0, "truncation", err);
    const model_info *i = model_get_info(b->m);
    if (!i->recurrent && !i->windowed) FAIL(err, MOTE_E_MISMATCH, "truncation is refused");
    return MOTE_OK;
}

static mote_status saved(struct bench *b, mote_error *err) {
    size_t bytes = state_seq_bytes(b->st, 0);
    void *kept = mem_calloc(bytes ? bytes : 1, 1);
    if (!kept) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s;
    state_seq_clear(b->st, 0);
    TRYG(s, feed(b, 0, b->ids, 0, CUT, NULL, err));
    state_seq_save(b->st, 0, kept);
    state_seq_clear(b->st, 0);
    TRYG(s, detour(b, 1, err)); /* another sequence's life in between */
    TRYG(s, state_seq_load(b->st, 2, kept, bytes, CUT, err));
    s = rest(b, 2, "saved and loaded", err);
out:
    mem_free(kept);
    return s;
}

static mote_status check_all(struct bench *b, mote_error *err) {
    TRY(feed(b, 0, b->ids, 0, N_IDS, b->ref, err));
    state_seq_clear(b->st, 0);
    TRY(feed(b, 0, b->ids, 0, N_IDS, b->got, err));
    if (!same(b, 0)) FAIL(err, MOTE_E_MISMATCH, "cleared: other logits");
    TRY(copied(b, err));
    TRY(checkpointed(b, err));
    TRY(truncated(b, err));
    state_seq_clear(b->st, 1);
    TRY(feed(b, 1, b->ids, 0, CUT, NULL, err));
    state_seq_clear(b->st, 2);
    TRY(saved(b, err));
    return in_company(b, err);
}

/* Every token leaves at the first of two exits, and some at the end of the sequence go on: hidden rows are those of a model without exits. */
static mote_status left_early(struct bench *b, mote_error *err) {
    float *row = mem_calloc(b->vocab, sizeof *row);
    if (!row) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s = MOTE_OK;
    for (size_t i = 0; i < CUT; i++) {
        const int32_t want = 0;
        const model_seg seg = {0, i, 1};
        const bool prompt = i % 11 == 5;
        TRYG(s, model_forward(b->st, &(model_batch){.ids = b->ids + i, .n = 1, .segs = &seg, .n_segs = 1, .want = &want, .n_want = !prompt, .logits = prompt ? NULL : row}, err));
    }
    if (state_exit_stats(b->st).exits[0] < CUT / 2) FAILG(s, err, MOTE_E_MISMATCH, "tokens do not leave");
    state_seq_copy(b->st, 1, 0);
    for (size_t seq = 0; seq < 2; seq++) {
        float *hidden = mem_calloc((N_IDS - CUT) * model_get_info(b->m)->n_embd_out, sizeof *hidden);
        int32_t want[N_IDS];
        for (size_t i = 0; i < N_IDS; i++) want[i] = (int32_t)i;
        const model_seg seg = {seq, CUT, N_IDS - CUT};
        if (seq) model_settle(b->st, seq);
        s = !hidden ? ERR(err, MOTE_E_MEMORY, "out of memory") :
            model_forward(b->st, &(model_batch){.ids = b->ids + CUT, .n = seg.n, .segs = &seg, .n_segs = 1, .want = want, .n_want = seg.n, .hidden = hidden}, err);
        if (s == MOTE_OK) model_logits(b->st, hidden, seg.n, b->got + CUT * b->vocab);
        mem_free(hidden);
        TRYG(s, s);
        if (!same(b, CUT)) FAILG(s, err, MOTE_E_MISMATCH, "behind tokens that left%s: other logits", seq ? ", settled" : "");
    }
out:
    mem_free(row);
    return s;
}

/* b->m, again with exits. */
static mote_status check_exits(struct bench *b, const char *path, pool *p, state_opts o, mote_error *err) {
    const model_info *info = model_get_info(b->m);
    char name[] = "/tmp/mote_heads_XXXXXX";
    const size_t n_layer = info->n_layer;
    const heads_plan plan = {.layer = {1, (int32_t)n_layer - 1}, .offset = {0, 0}, .n = n_layer > 2 ? 2 : 1, .size = 0.01f};
    model *m = NULL;
    mote_status s;
    if (!info->causal || n_layer < 2) return MOTE_OK;
    int fd = mkstemp(name);
    if (fd < 0) FAIL(err, MOTE_E_IO, "no file for heads");
    (void)close(fd);
    o.exits = true;
    TRYG(s, heads_file_write(name, path, &plan, err));
    TRYG(s, model_open(&m, path, &(model_opts){.heads = name}, p, err));
    b->m = m;
    TRYG(s, state_open(&b->st, m, &o, p, err));
    s = left_early(b, err);
out:
    (void)unlink(name);
    state_close(&b->st);
    model_close(&m);
    return s;
}

static mote_status check(const char *path, pool *p, const json_t *ids, mote_error *err) {
    state_opts o = {.n_ctx = 64, .n_seq = 3, .n_batch = N_BATCH, .k_type = QUANT_F16, .v_type = QUANT_F16};
    struct bench b = {0};
    model *m = NULL;
    mote_status s;
    for (size_t i = 0; i < N_IDS; i++) b.ids[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    TRYG(s, model_open(&m, path, NULL, p, err));
    b.m = m;
    b.vocab = model_get_info(m)->n_vocab;
    b.ref = mem_calloc(N_IDS * b.vocab, sizeof(float));
    b.got = mem_calloc(N_IDS * b.vocab, sizeof(float));
    if (!b.ref || !b.got) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, state_open(&b.st, m, &o, p, err));
    TRYG(s, check_all(&b, err));
    state_close(&b.st);
    s = check_exits(&b, path, p, o, err);
out:
    state_close(&b.st);
    model_close(&m);
    mem_free(b.ref);
    mem_free(b.got);
    return s;
}

int main(int argc, char **argv) {
    json_t *all = oracle_json("arch/ids.json"), *ids;
    const char *name;
    pool *p = NULL;
    mote_error err = {0};
    int failed = 0, ran = 0;
    if (pool_open(&p, 2, &err) != MOTE_OK) return 1;
    json_object_foreach(all, name, ids) {
        char path[4096];
        bool chosen = argc <= 1;
        for (int i = 1; i < argc; i++) chosen |= strcmp(argv[i], name) == 0;
        if (!chosen) continue;
        ran++;
        if (check(oracle_path(path, "arch/%s.gguf", name), p, ids, &err) == MOTE_OK) continue;
        printf("FAIL %-24s %s\n", name, err.message);
        failed++;
    }
    json_decref(all);
    pool_close(&p);
    printf("%d of %d models keep their sequences' promises\n", ran - failed, ran);
    return failed || !ran;
}
