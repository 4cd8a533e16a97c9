/* mul_tmpl.h: products of packed panels (packed.h) and int8 activations, for any ISA.
 *
 * A file of src/kernel/<isa>/ defines the vector type and its operations (the list is in x86/vec_avx512.h), a
 * NAME(x) macro that appends the ISA's suffix, and includes this. A *strip* is VL rows of a panel: one vector
 * lane each. Every format comes in two kernels made of the same steps in the same order:
 *   - rows: 1, 2 or 4 tokens at a time straight from the panel, for decoding: it streams the weights;
 *   - tiles: a strip is unpacked to bytes and f32 scales once, then meets every KERN_TILE tokens. */
#include "kernel/generic/ref.h"

/* How far ahead of its use a panel is fetched when one or two tokens stream it: far enough for memory. */
enum { PREFETCH_BYTES = 4096 };

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* What the compiler must know to make a kernel of its own. */
typedef struct shape {
    int bits, scales, offset, shift;
} shape;

/* k-groups j (lo) and j + 4 (hi) of a block, as bytes; p: the strip's first lane in the block's planes. */
#define SHIFT_TO(v, from, to) ((from) > (to) ? vi_srl(v, ((from) - (to)) & 31) : vi_sll(v, ((to) - (from)) & 31))
#define TAKE(v, mask, from, to) vi_and(SHIFT_TO(v, from, to), vi_set1_8(mask))
#define LEVELS(s, p, lut, j, lo, hi)                                                                          \
    do {                                                                                                      \
        if ((s).bits == BITS_8) {                                                                             \
            lo = vi_load((p) + 64 * (j));                                                                     \
            hi = vi_load((p) + 64 * ((j) + 4));                                                               \
        } else if ((s).bits == BITS_1) {                                                                      \
            lo = TAKE(vi_load(p), 2, j, 1);                                                                   \
            hi = TAKE(vi_load(p), 2, (j) + 4, 1);                                                             \
        } else if ((s).bits == BITS_2 || (s).bits == BITS_3) {                                                \
            lo = TAKE(vi_load(p), 3, 2 * (j), 0);                                                             \
            hi = TAKE(vi_load((p) + 64), 3, 2 * (j), 0);                                                      \
            if ((s).bits == BITS_3) {                                                                         \
                lo = vi_or(lo, TAKE(vi_load((p) + 128), 4, j, 2));                                            \
                hi = vi_or(hi, TAKE(vi_load((p) + 128), 4, (j) + 4, 2));                                      \
            }                                                                                                 \
        } else {                                                                                              \
            vi both = vi_load((p) + 64 * (j));                                                                \
            lo = vi_and(both, vi_set1_8(15));                                                                 \
            hi = TAKE(both, 15, 4, 0);                                                                        \
            if ((s).bits == BITS_4T) {                                                                        \
                lo = vi_lut(lut, lo);                                                                         \
                hi = vi_lut(lut, hi);                                                                         \
            } else if ((s).bits == BITS_5) {                                                                  \
                lo = vi_or(lo, TAKE(vi_load((p) + 256), 16, j, 4));                                           \
                hi = vi_or(hi, TAKE(vi_load((p) + 256), 16, (j) + 4, 4));                                     \
            } else if ((s).bits == BITS_6) {                                                                  \
                lo = vi_or(lo, TAKE(vi_load((p) + 256), 48, 2 * (j), 4));                                     \
                hi = vi_or(hi, TAKE(vi_load((p) + 320), 48, 2 * (j), 4));                                     \
            }                                                                                                 \
        }                                                                                                     \
    } while (0)

/* Scales and mins of block j of a group for the rows of a strip; row: the strip's first row. */
typedef struct scales {
    vf s[2], m[2];
} scales;

INLINE scales scales_at(const shape s, const unsigned char *group, size_t row, size_t j, vf d_mul) {
    scales r;
    r.s[1] = r.m[0] = r.m[1] = vf_zero();
    if (s.scales == SCALES_F16) {
        r.s[0] = vf_f16(group + (j >> s.shift) * 32 + 2 * row);
        return r;
    }
    if (s.scales == SCALES_E8M0) {
        r.s[0] = vf_e8m0(group + j * 16 + row);
        return r;
    }
    if (s.scales == SCALES_F16_MIN || s.scales == SCALES_F16_16) {
        r.s[0] = vf_f16(group + 2 * row);
        *(s.scales == SCALES_F16_MIN ? &r.m[0] : &r.s[1]) = vf_f16(group + 32 + 2 * row);
        return r;
    }
    const bool min = kern_scales_min((unsigned)s.scales);
    vf d = vf_mul(vf_f16(group + 2 * row), d_mul), m = vf_zero();
    if (min) m = vf_neg(vf_f16(group + 32 + 2 * row));
    group += (min ? 64 : 32) + j * (s.scales == SCALES_K ? 16 : 32) + row;
    if (s.scales == SCALES_K_MIN16) {
        vi both = vi_u8(group);
        r.s[0] = vf_mul(d, vf_i32(vi_and(both, vi_set1_32(15))));
        r.m[0] = vf_mul(m, vf_i32(vi_srl(both, 4)));
        both = vi_u8(group + 16);
        r.s[1] = vf_mul(d, vf_i32(vi_and(both, vi_set1_32(15))));
        r.m[1] = vf_mul(m, vf_i32(vi_srl(both, 4)));
        return r;
    }
    r.s[0] = vf_mul(d, vf_i32(vi_s8(group)));
    if (s.scales == SCALES_K_16) r.s[1] = vf_mul(d, vf_i32(vi_s8(group + 16)));
    if (min) r.m[0] = vf_mul(m, vf_i32(vi_u8(group + 16)));
    return r;
}

/* Levels over 127 need an 8-bit unsigned (or, minus 128, signed) product; others may use either. */
INLINE bool is_wide(const shape s) { return s.bits == BITS_8 || s.bits == BITS_4T; }
INLINE vi dot(const shape s, vi acc, vi w, const void *x) {
    if (!is_wide(s)) return vi_dot7(acc, w, x);
    return VI_SIGNED ? vi_dot_signed(acc, w, x) : vi_dot(acc, w, x);
}
INLINE vi as_weight(const shape s, vi w) {
    return VI_SIGNED && is_wide(s) ? vi_xor(w, vi_set1_8((char)0x80)) : w;
}
/* What the sums start from: minus the offset times the sum of the activations, given minus that sum. */
INLINE vi start(const shape s, const int32_t *n) {
    if (s.offset == KERN_NO_OFFSET || (VI_SIGNED && is_wide(s))) return vi_zero();
    return vi_sll(vi_bcast(n), s.offset & 31);
}

/* One block's sums into the running element, in the order kernel.h lays down. */
INLINE vf step(const shape s, vf y, vi lo, vi hi, const scales *k, const float *d, const float *ds,
               const float *ds16_0, const float *ds16_1) {
    vf dx = vf_bcast(d);
    if (!kern_scales_16((unsigned)s.scales)) {
        y = vf_fma(vf_i32(vi_add(lo, hi)), vf_mul(k->s[0], dx), y);
        return kern_scales_min((unsigned)s.scales) ? vf_fma(k->m[0], vf_bcast(ds), y) : y;
    }
    y = vf_fma(vf_i32(lo), vf_mul(k->s[0], dx), y);
    if (kern_scales_min((unsigned)s.scales)) y = vf_fma(k->m[0], vf_bcast(ds16_0), y);
    y = vf_fma(vf_i32(hi), vf_mul(k->s[1], dx), y);
    return kern_scales_min((unsigned)s.scales) ? vf_fma(k->m[1], vf_bcast(ds16_1), y) : y;
}

/* y = scale · v + bias (+ y) for the rows of a strip, of which n are real. */
INLINE void put(const kern_out *o, size_t row_y, size_t r, size_t n, vf v) {
    float *y = o->y + row_y * o->ld + r;
    v = vf_mul(v, vf_bcast(&o->scale));
    if (n >= VL) {
        if (o->bias) v = vf_add(v, vf_load(o->bias + r));
        vf_store(y, o->add ? vf_add(vf_load(y), v) : v);
        return;
    }
    float part[VL];
    vf_store(part, v);
    for (size_t i = 0; i < n; i++) {
        float e = part[i];
        if (o->bias) e += o->bias[r + i];
        y[i] = o->add ? y[i] + e : e;
    }
}

/* Groups g and g + 4 of a block, for each of n tokens. */
#define ROWS_PAIR(g)                                                                                          \
    LEVELS(s, p, lut, g, w0, w1);                                                                             \
    w0 = as_weight(s, w0), w1 = as_weight(s, w1);                                                             \
    UNROLL for (int i = 0; i < n; i++) {                                                                      \
        lo[i] = dot(s, lo[i], w0, x[i].q + 32 * b + 4 * (g));                                                 \
        hi[i] = dot(s, hi[i], w1, x[i].q + 32 * b + 16 + 4 * (g));                                            \
    }

/* The blocks of a row of panels in order: `body` sees p, the strip's first lane in block b, its group and j, its
 * place in that. */
#define EACH_BLOCK(s, panel, lane, nb, ...)                                                                   \
    do {                                                                                                      \
        const size_t level_bytes = kern_level_bytes((unsigned)(s).bits);                                      \
        const size_t scale_bytes = kern_group_scale_bytes((unsigned)(s).scales);                              \
        const size_t in_group = kern_group_blocks((unsigned)(s).scales, (unsigned)(s).shift);                 \
        const unsigned char *group = (panel), *p;                                                             \
        for (size_t b = 0; b < (nb); group += scale_bytes + in_group * level_bytes) {                         \
            p = group + scale_bytes + 4 * (lane);                                                             \
            for (size_t j = 0; j < in_group && b < (nb); j++, b++, p += level_bytes) __VA_ARGS__              \
        }                                                                                                     \
    } while (0)

/* n tokens from t on, straight from the panels. */
INLINE void rows_at_once(const kern_mul *a, const shape s, size_t t, const int n) {
    const size_t nb = a->k / KERN_BLOCK;
    const vf d_mul = vf_bcast(&a->pk->d_mul);
    const bool by_16 = kern_scales_16((unsigned)s.scales);
    vi lut = vi_zero();
    if (s.bits == BITS_4T) lut = vi_table(a->pk->levels);
    kern_acts x[4];
    UNROLL for (int i = 0; i < n; i++)
        x[i] = kern_acts_at_const(a->x + kern_x_row(&a->index, t + (size_t)i) * a->x_bytes, a->k);
    for (size_t r = 0; r < a->n_rows; r += VL) {
        const size_t lane = r % KERN_PANEL;
        const unsigned char *panel = a->panels + r / KERN_PANEL * a->panel_bytes;
        vf y[4];
        UNROLL for (int i = 0; i < n; i++) y[i] = vf_zero();
        EACH_BLOCK(s, panel, lane, nb, {
            vi lo[4], hi[4], w0, w1;
            if (n < 4 && lane == 0)
                for (size_t i = 0; i < level_bytes; i += 64) __builtin_prefetch(p + i + PREFETCH_BYTES);
            UNROLL for (int i = 0; i < n; i++) {
                lo[i] = start(s, by_16 ? x[i].n16 + 2 * b : x[i].n + b);
                hi[i] = by_16 ? start(s, x[i].n16 + 2 * b + 1) : vi_zero();
            }
            ROWS_PAIR(0) ROWS_PAIR(1) ROWS_PAIR(2) ROWS_PAIR(3)
            const scales k = scales_at(s, group, lane, j, d_mul);
            UNROLL for (int i = 0; i < n; i++)
                y[i] = step(s, y[i], lo[i], hi[i], &k, x[i].d + b, x[i].ds + b, x[i].ds16 + 2 * b,
                            x[i].ds16 + 2 * b + 1);
        });
        UNROLL for (int i = 0; i < n; i++)
            put(&a->out, kern_y_row(&a->index, t + (size_t)i), r, a->n_rows - r, y[i]);
    }
}

/* A strip as bytes and f32 scales: per block 8 vectors of weights, then its scales and mins. */
typedef struct wide_block {
    vi w[8];
    vf k[4]; /* s[0], s[1], m[0], m[1] as far as the shape has them */
} wide_block;

#define UNPACK_PAIR(g)                                                                                        \
    LEVELS(s, p, lut, g, w0, w1);                                                                             \
    out->w[g] = as_weight(s, w0);                                                                             \
    out->w[(g) + 4] = as_weight(s, w1);
INLINE void unpack_strip(const kern_mul *a, const shape s, size_t r, wide_block *out) {
    const size_t lane = r % KERN_PANEL;
    const unsigned char *panel = a->panels + r / KERN_PANEL * a->panel_bytes;
    const vf d_mul = vf_bcast(&a->pk->d_mul);
    vi lut = vi_zero();
    if (s.bits == BITS_4T) lut = vi_table(a->pk->levels);
    EACH_BLOCK(s, panel, lane, a->k / KERN_BLOCK, {
        vi w0, w1;
        UNPACK_PAIR(0) UNPACK_PAIR(1) UNPACK_PAIR(2) UNPACK_PAIR(3)
        const scales k = scales_at(s, group, lane, j, d_mul);
        out->k[0] = k.s[0];
        if (kern_scales_16((unsigned)s.scales)) out->k[1] = k.s[1], out->k[3] = k.m[1];
        if (kern_scales_min((unsigned)s.scales)) out->k[2] = k.m[0];
        out++;
    });
}

/* What the matrix kernel has to know of a format once its levels are bytes. offset: vi_sll_by's. */
typedef struct strip {
    const kern_mul *a;
    const wide_block *w;
    size_t r;
    int offset;
} strip;

/* n tokens of a tile (of which n_real exist), from token t of it on, times an unpacked strip. */
INLINE void tile_at_once(const strip *p, const bool by_16, const bool has_min, const bool wide,
                         const kern_acts_block *x, size_t first, size_t t, const int n, size_t n_real) {
    const shape s = {wide ? BITS_8 : BITS_4, 0, 0, 0};
    const bool has_offset = !has_min && !(VI_SIGNED && wide);
    const wide_block *w = p->w;
    vf y[KERN_TILE];
    UNROLL for (int i = 0; i < n; i++) y[i] = vf_zero();
    for (size_t b = p->a->k / KERN_BLOCK; b > 0; b--, w++, x++) {
        vi sum[KERN_TILE];
        UNROLL for (int i = 0; i < n; i++)
            sum[i] = has_offset ? vi_sll_by(vi_bcast(by_16 ? &x->n16[0][t + (size_t)i] : &x->n[t + (size_t)i]), p->offset)
                                : vi_zero();
        UNROLL for (int g = 0; g < 4; g++) {
            const vi v = w->w[g];
            UNROLL for (int i = 0; i < n; i++) sum[i] = dot(s, sum[i], v, &x->q[g][t + (size_t)i]);
        }
        if (by_16) {
            UNROLL for (int i = 0; i < n; i++) {
                y[i] = vf_fma(vf_i32(sum[i]), vf_mul(w->k[0], vf_bcast(&x->d[t + (size_t)i])), y[i]);
                if (has_min) y[i] = vf_fma(w->k[2], vf_bcast(&x->ds16[0][t + (size_t)i]), y[i]);
                sum[i] = has_offset ? vi_sll_by(vi_bcast(&x->n16[1][t + (size_t)i]), p->offset) : vi_zero();
            }
        }
        UNROLL for (int g = 4; g < 8; g++) {
            const vi v = w->w[g];
            UNROLL for (int i = 0; i < n; i++) sum[i] = dot(s, sum[i], v, &x->q[g][t + (size_t)i]);
        }
        UNROLL for (int i = 0; i < n; i++) {
            y[i] = vf_fma(vf_i32(sum[i]), vf_mul(w->k[by_16], vf_bcast(&x->d[t + (size_t)i])), y[i]);
            if (has_min)
                y[i] = vf_fma(w->k[2 + by_16], vf_bcast(by_16 ? &x->ds16[1][t + (size_t)i] : &x->ds[t + (size_t)i]),
                              y[i]);
        }
    }
    const kern_out *o = &p->a->out;
    if (n_real >= t + (size_t)n) n_real = (size_t)n;
    else n_real -= t;
    const vf *v = y;
    for (size_t i = 0; i < n_real; i++) put(o, first + t + i, p->r, p->a->n_rows - p->r, v[i]);
}

INLINE void all_tokens(const strip *p, const bool by_16, const bool has_min, const bool wide) {
    const kern_mul *a = p->a;
    const kern_acts_block *x = a->tiles;
    for (size_t first = 0; first < a->n_x; first += KERN_TILE, x += a->k / KERN_BLOCK) {
        size_t left = a->n_x - first;
        if (left > KERN_TILE - TILE_PART) {
            for (size_t t = 0; t < KERN_TILE; t += TILE_FULL)
                tile_at_once(p, by_16, has_min, wide, x, first, t, TILE_FULL, left);
        } else {
            for (size_t t = 0; t < left; t += TILE_PART)
                tile_at_once(p, by_16, has_min, wide, x, first, t, TILE_PART, left);
        }
    }
}

/* The matrix kernels, common to all formats. */
#define NOINLINE static __attribute__((noinline))
NOINLINE void tokens_plain(const strip *p) { all_tokens(p, false, false, false); }
NOINLINE void tokens_wide(const strip *p) { all_tokens(p, false, false, true); }
NOINLINE void tokens_min(const strip *p) { all_tokens(p, false, true, false); }
NOINLINE void tokens_16(const strip *p) { all_tokens(p, true, false, false); }
NOINLINE void tokens_16_wide(const strip *p) { all_tokens(p, true, false, true); }
NOINLINE void tokens_16_min(const strip *p) { all_tokens(p, true, true, false); }

INLINE void all_tiles(const kern_mul *a, const shape s) {
    strip p = {a, a->scratch, 0, s.offset};
    for (; p.r < a->n_rows; p.r += VL) {
        unpack_strip(a, s, p.r, a->scratch);
        const bool wide = is_wide(s);
        if (kern_scales_16((unsigned)s.scales)) {
            if (kern_scales_min((unsigned)s.scales)) tokens_16_min(&p);
            else if (wide) tokens_16_wide(&p);
            else tokens_16(&p);
        } else {
            if (kern_scales_min((unsigned)s.scales)) tokens_min(&p);
            else if (wide) tokens_wide(&p);
            else tokens_plain(&p);
        }
    }
}

/* One or several tokens; the loop over the rest of them is the same code. */
INLINE void multiply(const kern_mul *a, const shape s) {
    if (a->tiles) {
        all_tiles(a, s);
        return;
    }
    size_t t = 0;
    for (; t + 4 <= a->n_x; t += 4) rows_at_once(a, s, t, 4);
    for (; t + 2 <= a->n_x; t += 2) rows_at_once(a, s, t, 2);
    if (t < a->n_x) rows_at_once(a, s, t, 1);
}

#define MUL(name, bits, scales, offset, shift)                                                                \
    static void NAME(mul_##name)(const kern_mul *a) { multiply(a, (shape){bits, scales, offset, shift}); }
MUL(q4_0, BITS_4, SCALES_F16, 3, 0)
MUL(q4_1, BITS_4, SCALES_F16_MIN, KERN_NO_OFFSET, 0)
MUL(q5_0, BITS_5, SCALES_F16, 4, 0)
MUL(q5_1, BITS_5, SCALES_F16_MIN, KERN_NO_OFFSET, 0)
MUL(q8_0, BITS_8, SCALES_F16, 7, 0)
MUL(q2_k, BITS_2, SCALES_K_MIN16, KERN_NO_OFFSET, 0)
MUL(q3_k, BITS_3, SCALES_K_16, 2, 0)
MUL(q4_k, BITS_4, SCALES_K_MIN, KERN_NO_OFFSET, 0)
MUL(q5_k, BITS_5, SCALES_K_MIN, KERN_NO_OFFSET, 0)
MUL(q6_k, BITS_6, SCALES_K_16, 5, 0)
MUL(iq4_nl, BITS_4T, SCALES_F16, 7, 0)
MUL(mxfp4, BITS_4T, SCALES_E8M0, 7, 0)
MUL(nvfp4, BITS_4T, SCALES_F16_16, 7, 0)
MUL(levels_k, BITS_4T, SCALES_K, 7, 0)
MUL(levels_k16, BITS_4T, SCALES_K_16, 7, 0)
MUL(tq, BITS_2, SCALES_F16, 0, 3)
MUL(q1_0, BITS_1, SCALES_F16, 0, 2)
MUL(q2_0, BITS_2, SCALES_F16, 0, 1)
#undef MUL

void NAME(kern_init_mul)(kern_table *t) {
    kern_mul_fn **m = t->mul;
    m[QUANT_Q4_0] = NAME(mul_q4_0);
    m[QUANT_Q4_1] = NAME(mul_q4_1);
    m[QUANT_Q5_0] = NAME(mul_q5_0);
    m[QUANT_Q5_1] = NAME(mul_q5_1);
    m[QUANT_Q8_0] = NAME(mul_q8_0);
    m[QUANT_Q2_K] = NAME(mul_q2_k);
    m[QUANT_Q3_K] = NAME(mul_q3_k);
    m[QUANT_Q4_K] = NAME(mul_q4_k);
    m[QUANT_Q5_K] = NAME(mul_q5_k);
    m[QUANT_Q6_K] = NAME(mul_q6_k);
    m[QUANT_IQ4_NL] = NAME(mul_iq4_nl);
    m[QUANT_MXFP4] = NAME(mul_mxfp4);
    m[QUANT_NVFP4] = NAME(mul_nvfp4);
    m[QUANT_IQ4_XS] = m[QUANT_IQ2_XXS] = m[QUANT_IQ3_XXS] = m[QUANT_IQ3_S] = m[QUANT_IQ1_S] = NAME(mul_levels_k);
    m[QUANT_IQ2_XS] = m[QUANT_IQ2_S] = m[QUANT_IQ1_M] = NAME(mul_levels_k16);
    m[QUANT_TQ1_0] = m[QUANT_TQ2_0] = NAME(mul_tq);
    m[QUANT_Q1_0] = NAME(mul_q1_0);
    m[QUANT_Q2_0] = NAME(mul_q2_0);
}
