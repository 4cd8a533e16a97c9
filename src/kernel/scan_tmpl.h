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

/* What the state answers to a->probe: sum of probe[i] · decay[i] · s[i], or of probe[i] · s[i]. */
INLINE v16 scan_probe(const kern_scan *a, const size_t w, const bool decayed) {
    v16 sum[2] = {v_set1(0.0f), v_set1(0.0f)};
    size_t i = 0;
    for (; i + 2 <= a->n; i += 2)
        UNROLL for (size_t j = 0; j < 2; j++) {
            v16 s = scan_load(a->s + (i + j) * w, w);
            if (decayed) s = v_mul(s, v_set1(a->decay[(i + j) * a->decay_step]));
            sum[j] = v_fma(s, v_set1(a->probe[i + j]), sum[j]);
        }
    if (i < a->n) {
        v16 s = scan_load(a->s + i * w, w);
        if (decayed) s = v_mul(s, v_set1(a->decay[i * a->decay_step]));
        sum[0] = v_fma(s, v_set1(a->probe[i]), sum[0]);
    }
    return v_add(sum[0], sum[1]);
}

enum scan_kind { SCAN_ROWS, SCAN_EACH, SCAN_BACK };

/* Row i: decay, then what comes in; returns its part of y. */
INLINE v16 scan_row(const kern_scan *a, const size_t w, const enum scan_kind kind, size_t i, v16 x, v16 known, v16 sum) {
    v16 decay = kind == SCAN_EACH ? scan_load(a->decay + i * w, w) : v_set1(a->decay[i * a->decay_step]);
    v16 s = v_fma(v_set1(a->in[i]), x, v_mul(scan_load(a->s + i * w, w), decay));
    if (kind == SCAN_BACK) s = v_fma(v_set1(a->back[i]), known, s);
    scan_store(a->s + i * w, w, s);
    return v_fma(s, v_set1(a->out[i]), sum);
}

INLINE void scan_step(const kern_scan *a, const size_t w, const enum scan_kind kind, v16 x, v16 known) {
    v16 sum[2] = {v_set1(0.0f), v_set1(0.0f)};
    size_t i = 0;
    for (; i + 2 <= a->n; i += 2)
        UNROLL for (size_t j = 0; j < 2; j++) sum[j] = scan_row(a, w, kind, i + j, x, known, sum[j]);
    if (i < a->n) sum[0] = scan_row(a, w, kind, i, x, known, sum[0]);
    v16 y = v_add(sum[0], sum[1]);
    if (a->add) y = v_add(scan_load(a->y, w), y);
    scan_store(a->y, w, y);
}

INLINE void scan_delta(const kern_scan *a, const size_t w) {
    v16 missing = v_sub(scan_load(a->x, w), scan_probe(a, w, true));
    scan_step(a, w, SCAN_ROWS, v_mul(missing, v_set1(a->beta)), missing);
}

static void NAME(kern_scan_each)(const kern_scan *a) {
    const v16 x = scan_load(a->x, a->w);
    if (a->w == 16) scan_step(a, 16, SCAN_EACH, x, x);
    else scan_step(a, a->w, SCAN_EACH, x, x);
}

static void NAME(kern_scan_delta)(const kern_scan *a) {
    if (a->w == 16) scan_delta(a, 16);
    else scan_delta(a, a->w);
}

static void NAME(kern_scan_back)(const kern_scan *a) {
    const v16 x = scan_load(a->x, a->w);
    if (a->w == 16) scan_step(a, 16, SCAN_BACK, x, scan_probe(a, 16, false));
    else scan_step(a, a->w, SCAN_BACK, x, scan_probe(a, a->w, false));
}

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
    else if (a->act == ACT_NONE && a->k == 3) conv_row(a, 3, ACT_NONE);
    else {
        conv_row(a, a->k, ACT_NONE);
        if (a->act != ACT_NONE) NAME(kern_act)(a->act, a->y, a->y, NULL, a->n);
    }
}
