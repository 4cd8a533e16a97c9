/* adapt.c: LoRA adapters of an opened model (model_opts.adapters).
 *
 * Several adapters of one weight become one, their ranks side by side, their scales in b: a pass does not know how many there
 * were. DoRA changes the length of every row, which no low-rank addition can: such a weight is merged, in f32. */
#include "format/adapter.h"
#include "model/bind.h"

#include <math.h>

/* The slot whose matrix is called name; NULL when there is none that op_linear multiplies with. */
static slot *find_slot(model *m, str name) {
    static const role looked_up[] = {R_TOKEN_EMBD, R_POSITION_EMBD, R_TOKEN_TYPES, R_CLS, R_CLS_OUT};
    for (int r = 0; r < R_COUNT; r++) {
        slot *s = &m->slots[r];
        bool skip = false;
        for (size_t i = 0; i < COUNT_OF(looked_up); i++) skip = skip || r == (int)looked_up[i];
        if (!skip && s->mat && str_is(name, s->mat->name)) return s;
        for (size_t il = 0; il < m->hp.n_layer; il++) {
            s = &m->layers[il].slots[r];
            if (s->mat && s->mat->n_mat == 1 && str_is(name, s->mat->name)) return s;
        }
    }
    return NULL;
}

/* The ranks of `more` behind those that the weight has. */
static mote_status append(model *m, slot *s, const adapter_pair *p, float by, mote_error *err) {
    weight *w = s->mat;
    weight_adapter old = w->adapter ? *w->adapter : (weight_adapter){0};
    size_t rank = old.rank + p->rank;
    if (rank > ADAPTER_RANK_MAX) FAIL(err, MOTE_E_LIMIT, "the adapters of '%s' have rank %zu together; at most %u is possible", w->name, rank, ADAPTER_RANK_MAX);
    weight_adapter *now = ARENA_NEW(&m->mem, weight_adapter);
    float *a = ARENA_NEW_N(&m->mem, float, rank * w->cols), *b = ARENA_NEW_N(&m->mem, float, w->rows * rank);
    if (!now || !a || !b) FAIL(err, MOTE_E_MEMORY, "out of memory for the adapter of '%s'", w->name);
    if (old.rank) memcpy(a, old.a, old.rank * w->cols * sizeof *a);
    memcpy(a + old.rank * w->cols, p->a, p->rank * w->cols * sizeof *a);
    float scale = by * p->scale / (s->scale ? s->scale[0] : 1); /* the product is multiplied by the slot's ".scale" */
    for (size_t r = 0; r < w->rows; r++) {
        for (size_t k = 0; k < old.rank; k++) b[r * rank + k] = old.b[r * old.rank + k];
        for (size_t k = 0; k < p->rank; k++) b[r * rank + old.rank + k] = scale * p->b[r * p->rank + k];
    }
    *now = (weight_adapter){rank, a, b};
    w->adapter = now;
    return MOTE_OK;
}

static mote_status merge(model *m, slot *s, const adapter_pair *p, float by, mote_error *err) {
    weight *w = s->mat;
    const quant_format *f = quant_get(w->type);
    if (w->adapter || s->scale) FAIL(err, MOTE_E_UNSUPPORTED, "'%s' has a DoRA adapter and another one: merge one of them first", w->name);
    float *x = ARENA_NEW_N(&m->mem, float, w->rows * w->cols);
    if (!x) FAIL(err, MOTE_E_MEMORY, "out of memory for the merged weights of '%s'", w->name);
    for (size_t r = 0; r < w->rows; r++) f->decode(x + r * w->cols, w->data + r * w->row_bytes, w->cols);
    TRY(adapter_merge(p, by, x, err));
    w->type = QUANT_F32;
    w->data = (const unsigned char *)x;
    w->row_bytes = w->cols * sizeof(float);
    w->mat_bytes = w->rows * w->row_bytes;
    return MOTE_OK;
}

static mote_status bind_adapter(model *m, const adapter *ad, float by, mote_error *err) {
    for (size_t i = 0; i < ad->n; i++) {
        const adapter_pair *p = &ad->pairs[i];
        slot *s = find_slot(m, p->name);
        if (!s || !s->used)
            FAIL(err, MOTE_E_UNSUPPORTED, "the adapter changes '%.*s', which cannot be done while the model runs: merge it with 'mote merge'",
                 STR_ARG(p->name));
        TRY(p->m ? merge(m, s, p, by, err) : append(m, s, p, by, err));
    }
    return MOTE_OK;
}

mote_status bind_adapters(model *m, mote_error *err) {
    for (size_t i = 0; i < m->opts.n_adapters; i++) {
        adapter *ad;
        TRY(adapter_open(&ad, m->opts.adapters[i].path, m->file, err));
        mote_status s = bind_adapter(m, ad, m->opts.adapters[i].scale, err);
        adapter_close(&ad);
        if (s != MOTE_OK) return err_prefix(err, s, "%s", m->opts.adapters[i].path);
    }
    return MOTE_OK;
}
