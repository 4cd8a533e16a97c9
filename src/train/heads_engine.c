/* heads_engine.c: see heads_engine.h. */
#include "train/heads_engine.h"

static void keep(void *ctx, size_t il, const float *x, size_t n) {
    const heads_engine *e = ctx;
    if (e->streams[il]) memcpy(e->streams[il], x, n * e->d * sizeof *x);
}

static mote_status make_room(heads_engine *e, const size_t *layers, size_t n, mote_error *err) {
    const size_t row = e->n_batch * e->d;
    size_t size, used = 0;
    e->streams = MEM_NEW_N(float *, e->n_layer + 1);
    e->want = MEM_NEW_N(int32_t, e->n_batch);
    if (ckd_mul_size(&size, row, n + 1)) e->values = MEM_NEW_N(float, size);
    if (!e->streams || !e->want || !e->values) FAIL(err, MOTE_E_MEMORY, "out of memory for the streams of %zu tokens", e->n_batch);
    e->hidden = e->values + used++ * row;
    for (size_t i = 0; i < n; i++)
        if (!e->streams[layers[i]]) e->streams[layers[i]] = e->values + used++ * row;
    for (size_t i = 0; i < e->n_batch; i++) e->want[i] = (int32_t)i;
    return MOTE_OK;
}

static mote_status fill(heads_engine *e, const char *path, pool *p, uint32_t cpu_mask, size_t n_ctx, const size_t *layers, size_t n, mote_error *err) {
    TRY(model_open(&e->m, path, &(model_opts){.cpu_mask = cpu_mask}, p, err));
    e->d = model_get_info(e->m)->n_embd;
    e->n_layer = model_get_info(e->m)->n_layer;
    const state_opts so = {.n_ctx = n_ctx, .n_seq = HEADS_ENGINE_SEQS, .n_batch = e->n_batch, .k_type = QUANT_F16, .v_type = QUANT_F16};
    TRY(state_open(&e->s, e->m, &so, p, err));
    TRY(make_room(e, layers, n, err));
    state_set_stream(e->s, keep, e);
    return MOTE_OK;
}

mote_status heads_engine_open(heads_engine **out, const char *path, pool *p, uint32_t cpu_mask, size_t n_ctx, size_t n_batch, const size_t *layers, size_t n,
                              mote_error *err) {
    heads_engine *e = *out = MEM_NEW(heads_engine);
    if (!e) FAIL(err, MOTE_E_MEMORY, "out of memory");
    e->n_batch = n_batch;
    mote_status s = fill(e, path, p, cpu_mask, n_ctx, layers, n, err);
    if (s != MOTE_OK) heads_engine_close(out);
    return s;
}

void heads_engine_close(heads_engine **pe) {
    heads_engine *e = *pe;
    if (!e) return;
    *pe = NULL;
    state_close(&e->s);
    model_close(&e->m);
    mem_free(e->streams);
    mem_free(e->want);
    mem_free(e->values);
    mem_free(e);
}

mote_status heads_engine_pass(heads_engine *e, const data_batch *b, size_t first, size_t *last, mote_error *err) {
    model_seg segs[HEADS_ENGINE_SEQS];
    const uint32_t *start = b->seqs.start;
    for (*last = first; *last < MIN(first + HEADS_ENGINE_SEQS, b->seqs.n_seq); ++*last) {
        const size_t q = *last - first;
        if (start[*last + 1] - start[first] > e->n_batch && q) break;
        state_seq_clear(e->s, q);
        segs[q] = (model_seg){q, 0, start[*last + 1] - start[*last]};
    }
    const size_t n = start[*last] - start[first];
    return model_forward(e->s, &(model_batch){.ids = b->ids + start[first], .n = n, .segs = segs, .n_segs = *last - first, .want = e->want, .n_want = n,
                                              .hidden = e->hidden}, err);
}
