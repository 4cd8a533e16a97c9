/* dynamic.c: the keys of dynamic pruning, and a token's choice. */
#include "model/dynamic.h"

#include <math.h>

static mote_status need_floats(const model *m, const char *key, size_t n, const kv **out, mote_error *err) {
    const kv *k = *out = model_file_find(m->file, key);
    if (!k || k->type != KV_ARRAY || k->elem != KV_F32 || k->count != n)
        FAIL(err, MOTE_E_FORMAT, "key '%s' should be %zu 32-bit floats", key, n);
    return MOTE_OK;
}

/* Elements [from, from + n), all finite and not negative. */
static mote_status read_floats(const kv *k, size_t from, size_t n, float *dst, mote_error *err) {
    for (size_t i = 0; i < n; i++) {
        double v;
        if (!kv_at_num(k, from + i, &v) || !(v >= 0 && v < 1e30)) FAIL(err, MOTE_E_FORMAT, "key '%.*s': value %zu is no size", STR_ARG(k->key), from + i);
        dst[i] = (float)v;
    }
    return MOTE_OK;
}

float dynamic_threshold(const float *levels, double share) {
    const double at = share * (DYNAMIC_LEVELS - 1);
    const size_t i = MIN((size_t)at, (size_t)DYNAMIC_LEVELS - 2);
    return levels[i] + (float)(at - (double)i) * (levels[i + 1] - levels[i]);
}

mote_status dynamic_read(model *m, const layer *l, const ffn_dynamic **out, mote_error *err) {
    *out = NULL;
    uint32_t group;
    float share, levels[DYNAMIC_LEVELS];
    size_t all = 0, before = 0;
    const kv *k_scales, *k_levels;
    if (!model_file_find(m->file, DYNAMIC_KEY_SHARE)) {
        if (m->opts.dynamic > 0) FAIL(err, MOTE_E_UNSUPPORTED, "this file does not say which neurons can be left out; `mote prune --dynamic` finds out");
        return MOTE_OK;
    }
    TRY(kv_get_f32(m->file, DYNAMIC_KEY_SHARE, &share, 0, err));
    TRY(kv_get_u32(m->file, DYNAMIC_KEY_GROUP, &group, 0, err));
    if (group != DYNAMIC_GROUP) FAIL(err, MOTE_E_UNSUPPORTED, "key '%s' is %u; only groups of %d neurons are known", DYNAMIC_KEY_GROUP, group, DYNAMIC_GROUP);
    if (!(share >= 0 && share <= 0.9f)) FAIL(err, MOTE_E_RANGE, "key '%s' is %g, expected 0 to 0.9", DYNAMIC_KEY_SHARE, (double)share);
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        if (il < l->index) before += m->layers[il].n_ff;
        all += m->layers[il].n_ff;
    }
    TRY(need_floats(m, DYNAMIC_KEY_SCALES, all, &k_scales, err));
    TRY(need_floats(m, DYNAMIC_KEY_LEVELS, m->hp.n_layer * DYNAMIC_LEVELS, &k_levels, err));
    TRY(read_floats(k_levels, l->index * DYNAMIC_LEVELS, DYNAMIC_LEVELS, levels, err));
    const float threshold = dynamic_threshold(levels, m->opts.dynamic != 0 ? MAX((double)m->opts.dynamic, 0.0) : (double)share);
    if (threshold == 0 || l->n_ff % DYNAMIC_GROUP || !has(l, R_FFN_GATE)) return MOTE_OK;
    ffn_dynamic *d = ARENA_NEW(&m->mem, ffn_dynamic);
    float *scales = ARENA_NEW_N(&m->mem, float, l->n_ff);
    if (!d || !scales) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(read_floats(k_scales, before, l->n_ff, scales, err));
    *d = (ffn_dynamic){scales, l->n_ff / DYNAMIC_GROUP, threshold, m->arch->act};
    *out = d;
    return MOTE_OK;
}

float dynamic_score(const struct kern_table *k, act_fn act, const float *scales, const float *gate, size_t g) {
    float a[DYNAMIC_GROUP];
    k->act(act, a, gate + g * DYNAMIC_GROUP, scales + g * DYNAMIC_GROUP, DYNAMIC_GROUP);
    return k->dot(a, a, DYNAMIC_GROUP);
}

bool dynamic_skips(const void *ctx, const struct kern_table *k, const float *gate, size_t g) {
    const ffn_dynamic *d = ctx;
    return dynamic_score(k, d->act, d->scales, gate, g) < d->threshold; /* false for NaN */
}

size_t dynamic_choose(const ffn_dynamic *d, const struct kern_table *k, const float *gate, uint8_t *skip) {
    size_t n = 0;
    for (size_t g = 0; g < d->n_groups; g++) n += skip[g] = dynamic_skips(d, k, gate, g);
    return n;
}
