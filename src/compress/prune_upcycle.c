/* prune_upcycle.c: each dense feed-forward becomes copies of itself as experts: a start for training them.
 *
 * Equal experts whose weights sum to 1 give what one gave, and stay alike for long: Drop-Upcycling begins a part of each one's neurons anew.
 * Source: Komatsuzaki et al. 2023 (sparse upcycling); Nakamura et al. 2025 (Drop-Upcycling), §3: along the neurons, the same for gate, up and
 * down, of the mean and the variance of the weights that were there. */
#include "compress/pruning.h"

#include <math.h>

typedef struct copies {
    prune *p;
    size_t n, il;
    uint32_t *gone; /* [n, n_gone] of the layer at hand */
    size_t n_gone;
    rng r;
} copies;

static const struct {
    role r;
    const char *name;
} parts[] = {{R_FFN_GATE, "ffn_gate_exps"}, {R_FFN_UP, "ffn_up_exps"}, {R_FFN_DOWN, "ffn_down_exps"}};

/* W of the dense layer, n times, as bytes. */
static mote_status repeat(const copies *c, const tensor_info *t, str name, mote_error *err) {
    unsigned char *y;
    TRY(prune_alloc(c->p, c->n, t->size, &y, err));
    for (size_t i = 0; i < c->n; i++) memcpy(y + i * t->size, t->data, t->size);
    return edit_put_bytes(c->p->edit, name, t->type, 3, (uint64_t[]){t->ne[0], t->ne[1], c->n}, y, err);
}

/* The same with each copy's `gone` neurons, rows or columns, drawn evenly around the weights' mean, with their variance. */
static mote_status repeat_in_part(copies *c, const tensor_info *t, bool columns, str name, mote_error *err) {
    const size_t cols = (size_t)t->ne[0], rows = (size_t)t->ne[1], size = rows * cols;
    tensor_info to = *t;
    float *x, *y = mem_alloc_aligned(c->n * size * sizeof *y);
    double sum = 0, sq = 0;
    mote_status s = y ? prune_floats(t, &x, err) : ERR(err, MOTE_E_MEMORY, "out of memory for %zu copies of '%.*s'", c->n, STR_ARG(t->name));
    if (s != MOTE_OK) {
        mem_free_aligned(y);
        return s;
    }
    for (size_t i = 0; i < size; i++) sum += (double)x[i], sq += (double)x[i] * (double)x[i];
    const double mean = sum / (double)size, spread = sqrt(3 * fmax(sq / (double)size - mean * mean, 0));
    for (size_t e = 0; e < c->n; e++) {
        float *w = y + e * size;
        memcpy(w, x, size * sizeof *w);
        for (size_t g = 0; g < c->n_gone; g++) {
            const size_t at = c->gone[e * c->n_gone + g];
            for (size_t i = 0; i < (columns ? rows : cols); i++) w[columns ? i * cols + at : at * cols + i] = (float)(mean + spread * (2 * rng_double(&c->r) - 1));
        }
    }
    to.name = name;
    s = prune_put(c->p, &to, y, 3, (uint64_t[]){cols, rows, c->n}, err);
    mem_free_aligned(x);
    mem_free_aligned(y);
    return s;
}

/* Which neurons begin anew: each copy's own. */
static mote_status draw(copies *c, size_t n_ff, mote_error *err) {
    double *score;
    TRY(prune_alloc(c->p, n_ff, sizeof *score, &score, err));
    for (size_t e = 0; e < c->n; e++) {
        for (size_t j = 0; j < n_ff; j++) score[j] = rng_double(&c->r);
        TRY(prune_largest(score, n_ff, c->n_gone, c->gone + e * c->n_gone, err));
    }
    return MOTE_OK;
}

static mote_status copy_layer(copies *c, mote_error *err) {
    prune *p = c->p;
    const layer *l = &p->m->layers[c->il];
    const size_t e = p->m->hp.n_embd;
    char name[64];
    float *router;
    if (l->ffn != &block_ffn || !has(l, R_FFN_GATE) || l->slots[R_FFN_UP].bias || l->slots[R_FFN_DOWN].bias)
        FAIL(err, MOTE_E_UNSUPPORTED, "layer %zu has no plain gated feed-forward to copy", c->il);
    c->n_gone = (size_t)(p->o->upcycle_drop * (double)l->n_ff + 0.5);
    if (c->n_gone) TRY(prune_alloc(p, c->n * c->n_gone, sizeof *c->gone, &c->gone, err));
    if (c->n_gone) TRY(draw(c, l->n_ff, err));
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        const tensor_info *t = l->slots[parts[i].r].info;
        (void)snprintf(name, sizeof name, "blk.%zu.%s.weight", c->il, parts[i].name);
        TRY(edit_drop(p->edit, t->name, err));
        TRY(c->n_gone ? repeat_in_part(c, t, parts[i].r == R_FFN_DOWN, str_of(name), err) : repeat(c, t, str_of(name), err));
    }
    TRY(prune_alloc(p, c->n * e, sizeof *router, &router, err)); /* small and random: no expert is preferred, none is like another */
    for (size_t i = 0; i < c->n * e; i++) router[i] = 0.04f * (float)(rng_double(&c->r) - 0.5);
    (void)snprintf(name, sizeof name, "blk.%zu.ffn_gate_inp.weight", c->il);
    return edit_put(p->edit, str_of(name), QUANT_F32, 2, (uint64_t[]){e, c->n}, router, NULL, err);
}

mote_status prune_upcycle(prune *p, mote_error *err) {
    const model *m = p->m;
    const double drop = p->o->upcycle_drop;
    copies c = {.p = p, .n = p->o->upcycle};
    const size_t used = MIN(c.n, (size_t)2);
    char key[160];
    /* the weights of the chosen sum to 1 there, so that equal experts give what one gave */
    if (!m->arch->expert_norm || m->hp.n_expert) FAIL(err, MOTE_E_UNSUPPORTED, "'%s' has no experts whose weights sum to 1, or has experts already", m->arch->name);
    if (c.n < 2 || c.n > EXPERTS_MAX) FAIL(err, MOTE_E_RANGE, "%zu experts: 2 to %d are possible", c.n, EXPERTS_MAX);
    if (!(drop >= 0 && drop <= 1)) FAIL(err, MOTE_E_RANGE, "a part of %g of the neurons cannot begin anew; 0 to 1 can", drop);
    rng_seed(&c.r, p->o->seed, 13);
    for (c.il = 0; c.il < m->hp.n_layer; c.il++) TRY(copy_layer(&c, err));
    TRY(edit_set_u32(p->edit, prune_key(p, "expert_count", key), (uint32_t)c.n, err));
    TRY(edit_set_u32(p->edit, prune_key(p, "expert_used_count", key), (uint32_t)used, err));
    prune_say(p, "experts: each feed-forward is now %zu, of which %zu work", c.n, used);
    if (drop > 0) prune_say(p, "  %.0f %% of each one's neurons begin at random", 100 * drop);
    (void)json_object_set_new(p->json, "experts", json_integer((json_int_t)c.n));
    return MOTE_OK;
}
