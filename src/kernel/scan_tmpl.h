/* scan_tmpl.h: one step of the recurrences of state space and linear attention layers, for any ISA: included by
 * float_tmpl.h. kernel.h says what each computes; the two sums over even and odd rows hide the latency of an add. */

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

enum scan_kind { SCAN_PLAIN, SCAN_EACH, SCAN_BACK };

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
    scan_step(a, w, SCAN_PLAIN, v_mul(missing, v_set1(a->beta)), missing);
}

static void NAME(kern_scan)(const kern_scan *a) {
    const v16 x = scan_load(a->x, a->w);
    if (a->w == 16) scan_step(a, 16, SCAN_PLAIN, x, x);
    else scan_step(a, a->w, SCAN_PLAIN, x, x);
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
