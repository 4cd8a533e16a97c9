/* scan_tmpl.h: the recurrences of state space and linear attention layers and short convolutions, for any ISA:
 * included by float_tmpl.h. kernel.h says what each computes.
 *
 * ---- token by token ----
 * The two sums over even and odd rows hide the latency of an add. */

INLINE v16 scan_load(const float *p, const size_t w) { return w == 16 ? v_load(p) : v_load_n(p, w); }
INLINE void scan_store(float *p, const size_t w, v16 v) {
    if (w == 16) v_store(p, v);
    else v_store_n(p, w, v);
}

/* Columns [j, j + 16 nv), of which the last vector has `tail`. */
struct scan_part {
    const kern_scan *a;
    size_t j, tail;
    int nv;
};
INLINE v16 scan_vector(const struct scan_part *p, const float *row, int v) {
    return scan_load(row + p->j + 16 * (size_t)v, v == p->nv - 1 ? p->tail : 16);
}

/* What the state answers to a->probe: sum of probe[i] · decay[i] · s[i], or of probe[i] · s[i]. */
INLINE void scan_probe(const struct scan_part *p, const bool decayed, v16 known[4]) {
    const kern_scan *a = p->a;
    v16 sum[2][4];
    UNROLL for (int v = 0; v < p->nv; v++) sum[0][v] = sum[1][v] = v_set1(0.0f);
    size_t i = 0;
    for (; i < a->n; i += 2)
        UNROLL for (size_t k = 0; k < 2; k++) {
            if (k && i + 1 == a->n) break;
            const v16 probe = v_set1(a->probe[i + k]), decay = v_set1(decayed ? a->decay[(i + k) * a->decay_step] : 1.0f);
            UNROLL for (int v = 0; v < p->nv; v++) {
                v16 s = scan_vector(p, a->s + (i + k) * a->w, v);
                sum[k][v] = v_fma(decayed ? v_mul(s, decay) : s, probe, sum[k][v]);
            }
        }
    UNROLL for (int v = 0; v < p->nv; v++) known[v] = v_add(sum[0][v], sum[1][v]);
}

enum scan_kind { SCAN_ROWS, SCAN_EACH, SCAN_BACK };

/* Every row: decay, then what comes in; and its part of y. */
INLINE void scan_step(const struct scan_part *p, const enum scan_kind kind, const v16 x[4], const v16 known[4]) {
    const kern_scan *a = p->a;
    v16 sum[2][4], pace[4];
    UNROLL for (int v = 0; v < p->nv; v++) {
        sum[0][v] = sum[1][v] = v_set1(0.0f);
        if (kind == SCAN_EACH) pace[v] = scan_vector(p, a->pace, v);
    }
    for (size_t i = 0; i < a->n; i += 2)
        UNROLL for (size_t k = 0; k < 2; k++) {
            if (k && i + 1 == a->n) break;
            const size_t r = i + k;
            const v16 in = v_set1(a->in[r]), out = v_set1(a->out[r]), back = v_set1(kind == SCAN_BACK ? a->back[r] : 0.0f);
            const v16 all = v_set1(kind == SCAN_EACH ? 0.0f : a->decay[r * a->decay_step]);
            UNROLL for (int v = 0; v < p->nv; v++) {
                const v16 decay = kind == SCAN_EACH ? v_exp(v_mul(scan_vector(p, a->decay + r * a->w, v), pace[v])) : all;
                v16 s = v_fma(in, x[v], v_mul(scan_vector(p, a->s + r * a->w, v), decay));
                if (kind == SCAN_BACK) s = v_fma(back, known[v], s);
                scan_store(a->s + r * a->w + p->j + 16 * (size_t)v, v == p->nv - 1 ? p->tail : 16, s);
                sum[k][v] = v_fma(s, out, sum[k][v]);
            }
        }
    UNROLL for (int v = 0; v < p->nv; v++) {
        v16 y = v_add(sum[0][v], sum[1][v]);
        if (a->add) y = v_add(scan_vector(p, a->y, v), y);
        scan_store(a->y + p->j + 16 * (size_t)v, v == p->nv - 1 ? p->tail : 16, y);
    }
}

INLINE void scan_columns(const kern_scan *a, const enum scan_kind kind, const bool delta, size_t j, const int nv, const size_t tail) {
    const struct scan_part p = {a, j, tail, nv};
    v16 x[4], known[4];
    UNROLL for (int v = 0; v < nv; v++) known[v] = x[v] = scan_vector(&p, a->x, v);
    if (delta || kind == SCAN_BACK) scan_probe(&p, delta, known);
    if (delta)
        UNROLL for (int v = 0; v < nv; v++) x[v] = v_mul(v_sub(x[v], known[v]), v_set1(a->beta));
    scan_step(&p, kind, x, known);
}

INLINE void scan_tile(const kern_scan *a, const enum scan_kind kind, const bool delta) {
    size_t j = 0;
    for (; j + 64 <= a->w; j += 64) scan_columns(a, kind, delta, j, 4, 16);
    for (; j + 16 <= a->w; j += 16) scan_columns(a, kind, delta, j, 1, 16);
    if (j < a->w) scan_columns(a, kind, delta, j, 1, a->w - j);
}

static void NAME(kern_scan_each)(const kern_scan *a) { scan_tile(a, SCAN_EACH, false); }
static void NAME(kern_scan_delta)(const kern_scan *a) { scan_tile(a, SCAN_ROWS, true); }
static void NAME(kern_scan_back)(const kern_scan *a) { scan_tile(a, SCAN_BACK, false); }

/* ---- in chunks ---- */
/* Columns [j, j + 16 nv) of row t; the last vector has `tail`. */
INLINE void recall_part(const kern_recall *a, size_t t, size_t j, const int nv, const size_t tail) {
    const float *read = a->read + t * a->ld_read + j, *past = a->past + j, *coef = a->coef + t * KERN_CHUNK;
    float *y = a->y + t * a->ldy + j;
    const size_t known = a->past ? a->first + t : 0;
    v16 s[4];
    UNROLL for (int v = 0; v < nv; v++) s[v] = v_mul(v_set1(a->pre[t]), scan_load(read + 16 * v, v == nv - 1 ? tail : 16));
    if (a->x)
        UNROLL for (int v = 0; v < nv; v++)
            s[v] = v_fma(v_set1(a->by), scan_load(a->x + t * a->ldx + j + 16 * (size_t)v, v == nv - 1 ? tail : 16), s[v]);
    for (size_t u = 0; u < known; u++) {
        const v16 c = v_set1(coef[u]);
        UNROLL for (int v = 0; v < nv; v++)
            s[v] = v_fma(c, scan_load(past + u * a->ld_past + 16 * (size_t)v, v == nv - 1 ? tail : 16), s[v]);
    }
    if (a->post)
        UNROLL for (int v = 0; v < nv; v++) s[v] = v_mul(s[v], v_set1(a->post[t]));
    UNROLL for (int v = 0; v < nv; v++) scan_store(y + 16 * v, v == nv - 1 ? tail : 16, s[v]);
}

static void NAME(kern_recall)(const kern_recall *a) {
    for (size_t t = 0; t < a->m; t++) {
        size_t j = 0;
        for (; j + 64 <= a->w; j += 64) recall_part(a, t, j, 4, 16);
        for (; j + 16 <= a->w; j += 16) recall_part(a, t, j, 1, 16);
        if (j < a->w) recall_part(a, t, j, 1, a->w - j);
    }
}

/* Rows [i, i + m), columns [j, j + 16 nv), of which the last vector has `tail`. */
INLINE void absorb_part(const kern_absorb *a, size_t i, const int m, size_t j, const int nv, const size_t tail) {
    v16 s[6][TILE_VECTORS];
    float *p = a->s + i * a->ld + j;
    const float *x = a->x + j;
    UNROLL for (int r = 0; r < m; r++) UNROLL for (int v = 0; v < nv; v++)
        s[r][v] = v_mul(v_set1(a->decay), scan_load(p + (size_t)r * a->ld + 16 * (size_t)v, v == nv - 1 ? tail : 16));
    for (size_t u = 0; u < a->k; u++, x += a->ldx) {
        const float *in = a->in[u] + i;
        v16 w[TILE_VECTORS];
        UNROLL for (int v = 0; v < nv; v++) w[v] = scan_load(x + 16 * v, v == nv - 1 ? tail : 16);
        UNROLL for (int r = 0; r < m; r++) {
            const v16 c = v_set1(in[r]);
            UNROLL for (int v = 0; v < nv; v++) s[r][v] = v_fma(c, w[v], s[r][v]);
        }
    }
    UNROLL for (int r = 0; r < m; r++) UNROLL for (int v = 0; v < nv; v++)
        scan_store(p + (size_t)r * a->ld + 16 * (size_t)v, v == nv - 1 ? tail : 16, s[r][v]);
}

INLINE void absorb_columns(const kern_absorb *a, size_t j, const int nv, const size_t tail) {
    size_t i = 0;
    for (; i + TILE_ROWS <= a->n; i += TILE_ROWS) absorb_part(a, i, TILE_ROWS, j, nv, tail);
    for (; i < a->n; i++) absorb_part(a, i, 1, j, nv, tail);
}

static void NAME(kern_absorb)(const kern_absorb *a) {
    size_t j = 0;
    for (; j + 16 * TILE_VECTORS <= a->w; j += 16 * TILE_VECTORS) absorb_columns(a, j, TILE_VECTORS, 16);
    for (; TILE_VECTORS > 2 && j + 32 <= a->w; j += 32) absorb_columns(a, j, MIN(2, TILE_VECTORS), 16);
    for (; j + 16 <= a->w; j += 16) absorb_columns(a, j, 1, 16);
    if (j < a->w) absorb_columns(a, j, 1, a->w - j);
}

/* ---- convolution ---- */
INLINE v16 conv_sum(const kern_conv *a, const size_t k, size_t i, const size_t left) {
    v16 s = v_mul(scan_load(a->x[0] + i, left), scan_load(a->w + i, left));
    UNROLL for (size_t j = 1; j < k; j++) s = v_fma(scan_load(a->x[j] + i, left), scan_load(a->w + j * a->ldw + i, left), s);
    return a->bias ? v_add(s, scan_load(a->bias + i, left)) : s;
}

INLINE void conv_row(const kern_conv *a, const size_t k, const act_fn f) {
    size_t i = 0;
    for (; i + 16 <= a->n; i += 16) v_store(a->y + i, v_act(f, conv_sum(a, k, i, 16)));
    if (i < a->n) v_store_n(a->y + i, a->n - i, v_act(f, conv_sum(a, k, i, a->n - i)));
}

static void NAME(kern_conv)(const kern_conv *a) {
    if (a->act == ACT_SILU && a->k == 4) conv_row(a, 4, ACT_SILU);
    else if (a->act == ACT_NONE && a->k == 2) conv_row(a, 2, ACT_NONE);
    else if (a->act == ACT_NONE && a->k == 3) conv_row(a, 3, ACT_NONE);
    else {
        conv_row(a, a->k, ACT_NONE);
        if (a->act != ACT_NONE) NAME(kern_act)(a->act, a->y, a->y, NULL, a->n);
    }
}
