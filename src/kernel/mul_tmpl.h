/* mul_tmpl.h: products of packed panels (packed.h) and int8 activations, for any ISA.
 *
 * A file of src/kernel/<isa>/ defines the vector type and its operations (the list is in x86/vec_avx512.h), a
 * NAME(x) macro that appends the ISA's suffix, and includes this. A *strip* is VL rows of a panel: one vector
 * lane each. Every format comes in three kernels made of the same steps in the same order:
 *   - rows: a strip straight from the panel times 1, 2 or 4 tokens at a time, for decoding: it streams the weights;
 *   - tiles, direct: TILE_STRIPS strips straight from their panels times DIRECT_TOKENS at a time, for batches of
 *     sequences;
 *   - tiles, unpacked: strips are unpacked to bytes and f32 scales once, then meet all tokens, TILE_TOKENS at a time.
 * Two strips because a load of activations then serves two products; tokens so that there are sums enough to hide the
 * latency of a product. */
#include "kernel/generic/ref.h"

/* How far ahead of its use a panel is fetched when one or two tokens stream it: far enough for memory. */
enum { PREFETCH_BYTES = 4096 };

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
/* Keeps one register per pointer: gcc would rather have one for each offset of an unrolled loop. */
#define ONE_REGISTER(p) __asm__("" : "+r"(p))

/* What the compiler must know to make a kernel of its own. */
typedef struct shape {
    int bits, scales, offset, span;
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
        } else if ((s).bits == BITS_2X) {                                                                     \
            lo = TAKE(vi_load(p), 6, 2 * (j), 1);                                                             \
            hi = TAKE(vi_load((p) + 64), 6, 2 * (j), 1);                                                      \
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
        r.s[0] = vf_f16(group + (j >= (size_t)s.span ? 32 : 0) + 2 * row);
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
INLINE bool is_wide(const shape s) { return s.bits == BITS_8 || s.bits == BITS_8_24 || s.bits == BITS_4T; }
INLINE vi dot(const shape s, vi acc, vi w, const void *x) {
    if (!is_wide(s)) return vi_dot7(acc, w, x);
    return VI_SIGNED ? vi_dot_signed(acc, w, x) : vi_dot(acc, w, x);
}
/* The same with the four bytes in every lane of x. */
INLINE vi dot_all(const bool wide, vi acc, vi w, vi x) {
    if (!wide) return vi_dot7_v(acc, w, x);
    return VI_SIGNED ? vi_dot_signed_v(acc, w, x) : vi_dot_v(acc, w, x);
}
INLINE vi as_weight(const shape s, vi w) {
    return VI_SIGNED && is_wide(s) ? vi_xor(w, vi_set1_8((char)0x80)) : w;
}
/* What the sums start from: minus the offset times the sum of the activations, given minus that sum. */
INLINE vi start(const shape s, const int32_t *n) {
    if (s.offset == 0 || (VI_SIGNED && is_wide(s))) return vi_zero();
    const vi v = vi_bcast(n);
    return s.offset == 3 ? vi_add(vi_sll(v, 1), v) : vi_sll(v, __builtin_ctz((unsigned)s.offset));
}

/* One token's d, ds and (formats with a scale per 16) ds of the halves of a block. */
typedef struct token_scales {
    const float *d, *ds, *ds16[2];
} token_scales;

/* One block's sums into the running element, in the order kernel.h lays down. */
INLINE vf step(const shape s, vf y, vi lo, vi hi, const scales *k, const token_scales *x) {
    const bool min = kern_scales_min((unsigned)s.scales);
    vf dx = vf_bcast(x->d);
    if (!kern_scales_16((unsigned)s.scales)) {
        y = vf_fma(vf_i32(lo), vf_mul(k->s[0], dx), y);
        return min ? vf_fma(k->m[0], vf_bcast(x->ds), y) : y;
    }
    y = vf_fma(vf_fma(vf_i32(hi), k->s[1], vf_mul(vf_i32(lo), k->s[0])), dx, y);
    if (min) y = vf_fma(k->m[1], vf_bcast(x->ds16[1]), vf_fma(k->m[0], vf_bcast(x->ds16[0]), y));
    return y;
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

/* The blocks of a panel of a in order: `body` sees p, the strip's first lane in block b, its group and j, its place in that. */
#define EACH_BLOCK(a, s, panel, lane, nb, ...)                                                                \
    do {                                                                                                      \
        const size_t level_bytes = kern_level_bytes((unsigned)(s).bits);                                      \
        const size_t scale_bytes = kern_group_scale_bytes((unsigned)(s).scales);                              \
        const size_t in_group = kern_group_blocks((unsigned)(s).scales, (unsigned)(s).span);                 \
        const size_t apart = (a)->group_bytes ? (a)->group_bytes : scale_bytes + in_group * level_bytes;      \
        const unsigned char *group = (panel), *p;                                                             \
        for (size_t b = 0; b < (nb); group += apart) {                                                        \
            p = group + scale_bytes + 4 * (lane);                                                             \
            for (size_t j = 0; j < in_group && b < (nb); j++, b++, p += level_bytes) __VA_ARGS__              \
        }                                                                                                     \
    } while (0)

/* With one token: whether its block b leaves the weights' block out. A block of zeros adds nothing, not even a sign. */
#define IS_ZERO_BLOCK(n, a, x, b) ((n) == 1 && (a)->zeros && (x).row[0].d[b] == 0)
/* Fetches what will be needed: the bytes PREFETCH_BYTES on, or the block ZEROS_AHEAD on (in the next panel, past the end of this)
 * unless it will be left out. */
enum { ZEROS_AHEAD = 16 };
#define FETCH(n, a, x, b, nb)                                                                                 \
    do {                                                                                                      \
        size_t on_ = PREFETCH_BYTES;                                                                          \
        if ((n) == 1 && (a)->zeros) {                                                                         \
            if ((x).row[0].d[((b) + ZEROS_AHEAD) % (nb)] == 0) break;                                         \
            on_ = ZEROS_AHEAD * level_bytes + ZEROS_AHEAD / in_group * scale_bytes;                           \
        } else if (p + on_ >= (a)->end) on_ += (a)->jump;                                                     \
        for (size_t i = 0; i < level_bytes; i += 64) __builtin_prefetch(p + i + on_);                         \
    } while (0)

/* ---- rows of activations ---- */
/* n ≤ 4 tokens, each a row of kern_acts of its own. */
typedef struct tokens {
    kern_acts row[4];
} tokens;
/* From t on; past the last token that one again. */
INLINE tokens tokens_at(const kern_mul *a, size_t t, const int n) {
    tokens x;
    UNROLL for (int i = 0; i < n; i++) {
        const size_t row = kern_x_row(&a->index, MIN(t + (size_t)i, a->n_x - 1));
        x.row[i] = kern_acts_at_const(a->x + row * a->x_bytes, a->k);
    }
    return x;
}

/* Two sums per token even where halves of a block do not differ: one alone would wait for each product. */
#define ROWS_PAIR(g)                                                                                          \
    LEVELS(s, p, lut, g, w0, w1);                                                                             \
    w0 = as_weight(s, w0), w1 = as_weight(s, w1);                                                             \
    UNROLL for (int i = 0; i < n; i++) {                                                                      \
        lo[i] = dot(s, lo[i], w0, x.row[i].q + 32 * b + 4 * (g));                                             \
        hi[i] = dot(s, hi[i], w1, x.row[i].q + 32 * b + 16 + 4 * (g));                                        \
    }
/* The strip at row r times n tokens from t on. */
INLINE void rows_at_once(const kern_mul *a, const shape s, size_t r, size_t t, const int n) {
    const vf d_mul = vf_bcast(&a->pk->d_mul);
    const bool by_16 = kern_scales_16((unsigned)s.scales);
    const size_t lane = r % KERN_PANEL;
    const unsigned char *panel = a->panels + r / KERN_PANEL * a->panel_bytes;
    vi lut = vi_zero();
    if (s.bits == BITS_4T) lut = vi_table(a->pk->levels);
    const tokens x = tokens_at(a, t, n);
    vf y[4];
    UNROLL for (int i = 0; i < n; i++) y[i] = vf_zero();
    EACH_BLOCK(a, s, panel, lane, a->k / KERN_BLOCK, {
        vi lo[4], hi[4], w0, w1;
        if (n < 4 && lane == 0) FETCH(n, a, x, b, a->k / KERN_BLOCK);
        if (IS_ZERO_BLOCK(n, a, x, b)) continue;
        UNROLL for (int i = 0; i < n; i++) {
            lo[i] = start(s, by_16 ? x.row[i].n16 + 2 * b : x.row[i].n + b);
            hi[i] = by_16 ? start(s, x.row[i].n16 + 2 * b + 1) : vi_zero();
        }
        ROWS_PAIR(0) ROWS_PAIR(1) ROWS_PAIR(2) ROWS_PAIR(3)
        const scales k = scales_at(s, group, lane, j, d_mul);
        UNROLL for (int i = 0; i < n; i++) {
            const kern_acts *q = &x.row[i];
            const token_scales ts = {q->d + b, q->ds + b, {q->ds16 + 2 * b, q->ds16 + 2 * b + 1}};
            y[i] = step(s, y[i], by_16 ? lo[i] : vi_add(lo[i], hi[i]), hi[i], &k, &ts);
        }
    });
    UNROLL for (int i = 0; i < n; i++)
        if (t + (size_t)i < a->n_x) put(&a->out, kern_y_row(&a->index, t + (size_t)i), r, a->n_rows - r, y[i]);
}

/* ---- one token, many of whose blocks are 0, and panels that lie group by group ---- */
/* SLICE_STRIPS strips at once: what they have of a block of columns lies together, so what is left out is long enough not to be
 * fetched. Blocks of columns are taken in order, as ever. */
enum { SLICE_STRIPS = 4, LIVE_MAX = 1024, LIVE_AHEAD = 4 };
typedef struct live_blocks {
    size_t n;
    uint16_t at[LIVE_MAX];
} live_blocks;

/* Fetches block b of n strips from row r on. */
INLINE void slices_fetch(const kern_mul *a, const shape s, size_t r, size_t b, const int n) {
    const size_t level_bytes = kern_level_bytes((unsigned)s.bits), scale_bytes = kern_group_scale_bytes((unsigned)s.scales);
    const size_t in_group = kern_group_blocks((unsigned)s.scales, (unsigned)s.span);
    const unsigned char *p = a->panels + b / in_group * a->group_bytes + r / KERN_PANEL * a->panel_bytes;
    UNROLL for (int l = 0; l < n; l += KERN_PANEL / VL, p += a->panel_bytes) {
        for (size_t i = 0; i < scale_bytes; i += 64) __builtin_prefetch(p + i);
        for (size_t i = 0; i < level_bytes; i += 64) __builtin_prefetch(p + scale_bytes + b % in_group * level_bytes + i);
    }
}

#define SLICES_PAIR(g)                                                                                        \
    LEVELS(s, p, lut, g, w0, w1);                                                                             \
    lo = dot(s, lo, as_weight(s, w0), x.q + 32 * b + 4 * (g));                                                \
    hi = dot(s, hi, as_weight(s, w1), x.q + 32 * b + 16 + 4 * (g));
INLINE void slices_at_once(const kern_mul *a, const shape s, const live_blocks *live, size_t r, const int n) {
    const size_t level_bytes = kern_level_bytes((unsigned)s.bits), scale_bytes = kern_group_scale_bytes((unsigned)s.scales);
    const size_t in_group = kern_group_blocks((unsigned)s.scales, (unsigned)s.span);
    const vf d_mul = vf_bcast(&a->pk->d_mul);
    const bool by_16 = kern_scales_16((unsigned)s.scales);
    const kern_acts x = kern_acts_at_const(a->x + kern_x_row(&a->index, 0) * a->x_bytes, a->k);
    vi lut = vi_zero();
    if (s.bits == BITS_4T) lut = vi_table(a->pk->levels);
    vf y[SLICE_STRIPS];
    UNROLL for (int l = 0; l < n; l++) y[l] = vf_zero();
    for (size_t i = 0; i < live->n; i++) {
        const size_t b = live->at[i], j = b % in_group, ahead = i + LIVE_AHEAD;
        const unsigned char *slice = a->panels + b / in_group * a->group_bytes;
        if (ahead < live->n) slices_fetch(a, s, r, live->at[ahead], n);
        else if (live->n >= LIVE_AHEAD && r + 2 * (size_t)n * VL <= a->n_rows) slices_fetch(a, s, r + (size_t)n * VL, live->at[ahead - live->n], n);
        const token_scales ts = {x.d + b, x.ds + b, {x.ds16 + 2 * b, x.ds16 + 2 * b + 1}};
        UNROLL for (int l = 0; l < n; l++) {
            const size_t row = r + (size_t)l * VL, lane = row % KERN_PANEL;
            const unsigned char *group = slice + row / KERN_PANEL * a->panel_bytes, *p = group + scale_bytes + 4 * lane + j * level_bytes;
            vi w0, w1, lo = start(s, by_16 ? x.n16 + 2 * b : x.n + b), hi = by_16 ? start(s, x.n16 + 2 * b + 1) : vi_zero();
            SLICES_PAIR(0) SLICES_PAIR(1) SLICES_PAIR(2) SLICES_PAIR(3)
            const scales k = scales_at(s, group, lane, j, d_mul);
            y[l] = step(s, y[l], by_16 ? lo : vi_add(lo, hi), hi, &k, &ts);
        }
    }
    UNROLL for (int l = 0; l < n; l++) {
        const size_t row = r + (size_t)l * VL;
        put(&a->out, kern_y_row(&a->index, 0), row, a->n_rows - row, y[l]);
    }
}
INLINE void all_slices(const kern_mul *a, const shape s) {
    const kern_acts x = kern_acts_at_const(a->x + kern_x_row(&a->index, 0) * a->x_bytes, a->k);
    live_blocks live = {.n = 0};
    size_t r = 0;
    for (size_t b = 0; b < a->k / KERN_BLOCK; b++)
        if (x.d[b] != 0) live.at[live.n++] = (uint16_t)b; /* what is 0 adds nothing, not even a sign */
    for (; r + SLICE_STRIPS * VL <= a->n_rows; r += SLICE_STRIPS * VL) slices_at_once(a, s, &live, r, SLICE_STRIPS);
    for (; r < a->n_rows; r += VL) slices_at_once(a, s, &live, r, 1);
}

/* ---- 2:4: half the levels, and products with what the activations are in the kept columns ---- */
/* The kept levels of word h of a block, and where among the 16 activations from 16 (h / 2) on its bytes' columns are. */
INLINE vi kept_levels(const shape s, const unsigned char *p, int h) {
    if (s.bits == BITS_8_24) return vi_load(p + 64 * h);
    const vi both = vi_load(p + 64 * (h % 2));
    return h < 2 ? vi_and(both, vi_set1_8(15)) : TAKE(both, 15, 4, 0);
}
#define PLACES_AT(s) ((s).bits == BITS_8_24 ? 256 : 128)
#define KEPT_COLUMNS(at, h)                                                                                   \
    vi_or(TAKE(at, 3, 2 * (h), 0), vi_set1_32((h) % 2 ? 0x0c0c0808 : 0x04040000))

/* The sums of the kept levels' products in acc[0], less `offset` times what was multiplied: of the activations that a row keeps,
 * the sum is known to nobody before. */
INLINE void kept_dot(const shape s, vi acc[2], vi w, vi x, vi signed_levels) {
    if (VI_SIGNED) {
        w = s.bits == BITS_8_24 ? vi_xor(w, vi_set1_8((char)0x80)) : vi_lut(signed_levels, w);
        acc[0] = vi_dot_signed_v(acc[0], w, x);
    } else {
        acc[0] = vi_dot_v(acc[0], w, x);
        acc[1] = vi_dot_v(acc[1], vi_set1_8((char)s.offset), x);
    }
}
static const int8_t kept_values[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

/* rows_at_once for these. */
#define KEPT_WORD(h)                                                                                          \
    do {                                                                                                      \
        const vi w = kept_levels(s, p, h), columns = KEPT_COLUMNS(at, h);                                     \
        UNROLL for (int i = 0; i < n; i++) {                                                                  \
            const vi all = vi_bcast16(x.row[i].q + 32 * b + 16 * ((h) / 2));                                  \
            kept_dot(s, sum[i], w, vi_lut(all, columns), levels);                                             \
        }                                                                                                     \
    } while (0)
INLINE void kept_at_once(const kern_mul *a, const shape s, size_t r, size_t t, const int n) {
    const vf d_mul = vf_bcast(&a->pk->d_mul);
    const size_t lane = r % KERN_PANEL;
    const unsigned char *panel = a->panels + r / KERN_PANEL * a->panel_bytes;
    const vi levels = vi_bcast16(kept_values);
    const tokens x = tokens_at(a, t, n);
    vf y[4];
    UNROLL for (int i = 0; i < n; i++) y[i] = vf_zero();
    EACH_BLOCK(a, s, panel, lane, a->k / KERN_BLOCK, {
        vi sum[4][2];
        if (n < 4 && lane == 0) FETCH(n, a, x, b, a->k / KERN_BLOCK);
        if (IS_ZERO_BLOCK(n, a, x, b)) continue;
        const vi at = vi_load(p + PLACES_AT(s));
        UNROLL for (int i = 0; i < n; i++) sum[i][0] = sum[i][1] = vi_zero();
        KEPT_WORD(0);
        KEPT_WORD(1);
        KEPT_WORD(2);
        KEPT_WORD(3);
        const scales k = scales_at(s, group, lane, j, d_mul);
        UNROLL for (int i = 0; i < n; i++) {
            const token_scales ts = {x.row[i].d + b, NULL, {NULL, NULL}};
            y[i] = step(s, y[i], VI_SIGNED ? sum[i][0] : vi_sub(sum[i][0], sum[i][1]), vi_zero(), &k, &ts);
        }
    });
    UNROLL for (int i = 0; i < n; i++)
        if (t + (size_t)i < a->n_x) put(&a->out, kern_y_row(&a->index, t + (size_t)i), r, a->n_rows - r, y[i]);
}
#define EACH_TOKENS(at_once, a, s, r)                                                                         \
    do {                                                                                                      \
        size_t t = 0;                                                                                         \
        for (; t + 2 < (a)->n_x; t += 4) at_once(a, s, r, t, 4);                                              \
        if (t + 2 == (a)->n_x) at_once(a, s, r, t, 2);                                                        \
        else if (t < (a)->n_x) at_once(a, s, r, t, 1);                                                        \
    } while (0)
INLINE void all_rows(const kern_mul *a, const shape s) {
    for (size_t r = 0; r < a->n_rows; r += VL) {
        if (kern_bits_24((unsigned)s.bits)) EACH_TOKENS(kept_at_once, a, s, r);
        else EACH_TOKENS(rows_at_once, a, s, r);
    }
}

/* ---- tiles of activations ---- */
/* TILE_STRIPS strips of rows from r on; past the last strip of the product it again, and its results are left. */
typedef struct strips {
    const kern_mul *a;
    size_t r;
    const unsigned char *panel; /* of the first strip */
    size_t lane[TILE_STRIPS], panel_at[TILE_STRIPS]; /* strip l: the lane in its panel, and where that is from `panel` */
    const unsigned char *next, *next_end; /* the strips after these, fetched in so many lines a step */
    size_t lines;
    int offset; /* log2 of the levels' offset, or of the power of two below 3 */
} strips;

/* steps: how many blocks all tokens together meet. */
INLINE void next_begin(strips *p, size_t steps) {
    const size_t bytes = TILE_STRIPS * VL * p->a->panel_bytes / KERN_PANEL;
    p->next = p->panel + bytes;
    p->next_end = p->next + bytes;
    p->lines = (bytes / 64 + steps - 1) / steps;
}
INLINE void next_fetch(strips *p) {
    for (size_t i = 0; i < p->lines && p->next < p->next_end; i++, p->next += 64) __builtin_prefetch(p->next);
}

INLINE void strips_begin(strips *p, const kern_mul *a, size_t r) {
    p->a = a;
    p->r = r;
    p->panel = a->panels + r / KERN_PANEL * a->panel_bytes;
    for (size_t l = 0; l < TILE_STRIPS; l++) {
        const size_t row = r + l * VL < a->n_rows ? r + l * VL : r;
        p->lane[l] = row % KERN_PANEL;
        p->panel_at[l] = (row / KERN_PANEL - r / KERN_PANEL) * a->panel_bytes;
    }
}
typedef vf tile_sums[TILE_STRIPS][KERN_TILE];
/* The results of the tile whose first token is `first`. */
INLINE void strips_put(const strips *p, tile_sums y, size_t first) {
    const kern_mul *a = p->a;
    const size_t n = MIN((size_t)KERN_TILE, a->n_x - first);
    for (size_t l = 0, r = p->r; l < TILE_STRIPS && r < a->n_rows; l++, r += VL)
        for (size_t t = 0; t < n; t++) put(&a->out, kern_y_row(&a->index, first + t), r, a->n_rows - r, y[l][t]);
}

/* A tile seen from its token t on. */
INLINE const kern_acts_block *tile_from(const kern_acts_block *x, size_t t) {
    return (const kern_acts_block *)(const void *)((const int32_t *)(const void *)x + t);
}
/* As many tokens of a tile at once as are needed for n: TILE_TOKENS or one less. */
#define FOR_TOKENS(n, most, t, at_once)                                                                       \
    for (size_t t = 0, groups_ = ((n) + (most) - 1) / (most), few_ = groups_ * ((most) - 1) >= (n); t < (n);  \
         t += (most) - few_) {                                                                                \
        if (few_) at_once(t, (most) - 1);                                                                     \
        else at_once(t, most);                                                                                \
    }

/* Groups g and g + 4 of a block of a strip, for each of n tokens. */
#define DIRECT_PAIR(g)                                                                                        \
    UNROLL for (int l = 0; l < TILE_STRIPS; l++) {                                                            \
        LEVELS(s, p + at[l], lut, g, w[l][0], w[l][1]);                                                       \
        w[l][0] = as_weight(s, w[l][0]), w[l][1] = as_weight(s, w[l][1]);                                     \
    }                                                                                                         \
    UNROLL for (int h = 0; h < 2; h++) UNROLL for (int i = 0; i < n; i++) {                                   \
        const vi q = vi_bcast(&x->q[(g) + 4 * h][i]);                                                         \
        UNROLL for (int l = 0; l < TILE_STRIPS; l++)                                                          \
            sum[h * by_16][l][i] = dot_all(is_wide(s), sum[h * by_16][l][i], w[l][h], q);                     \
    }
/* Strips times n tokens of a tile from t on, straight from the panels. */
INLINE void direct_at_once(strips *of, const shape s, const kern_acts_block *x, tile_sums to, size_t t, const int n) {
    const vf d_mul = vf_bcast(&of->a->pk->d_mul);
    const bool by_16 = kern_scales_16((unsigned)s.scales);
    size_t at[TILE_STRIPS];
    vi lut = vi_zero();
    if (s.bits == BITS_4T) lut = vi_table(of->a->pk->levels);
    vf y[TILE_STRIPS][DIRECT_TOKENS];
    x = tile_from(x, t);
    UNROLL for (int l = 0; l < TILE_STRIPS; l++) {
        at[l] = of->panel_at[l] + 4 * of->lane[l] - 4 * of->lane[0];
        UNROLL for (int i = 0; i < n; i++) y[l][i] = vf_zero();
    }
    EACH_BLOCK(of->a, s, of->panel, of->lane[0], of->a->k / KERN_BLOCK, {
        vi sum[2][TILE_STRIPS][DIRECT_TOKENS], w[TILE_STRIPS][2];
        ONE_REGISTER(x);
        next_fetch(of);
        UNROLL for (int i = 0; i < n; i++) UNROLL for (int l = 0; l < TILE_STRIPS; l++) {
            sum[0][l][i] = start(s, by_16 ? &x->n16[0][i] : &x->n[i]);
            if (by_16) sum[1][l][i] = start(s, &x->n16[1][i]);
        }
        DIRECT_PAIR(0) DIRECT_PAIR(1) DIRECT_PAIR(2) DIRECT_PAIR(3)
        UNROLL for (int l = 0; l < TILE_STRIPS; l++) {
            const scales k = scales_at(s, group + of->panel_at[l], of->lane[l], j, d_mul);
            UNROLL for (int i = 0; i < n; i++) {
                const token_scales ts = {&x->d[i], &x->ds[i], {&x->ds16[0][i], &x->ds16[1][i]}};
                y[l][i] = step(s, y[l][i], sum[0][l][i], sum[by_16][l][i], &k, &ts);
            }
        }
        x++;
    });
    UNROLL for (int l = 0; l < TILE_STRIPS; l++) UNROLL for (int i = 0; i < n; i++) to[l][t + (size_t)i] = y[l][i];
}
INLINE void tiles_direct(const kern_mul *a, const shape s) {
    enum { PLAIN = DIRECT_TOKENS, BY_16 = TILE_TOKENS_16 };
    const size_t most = kern_scales_16((unsigned)s.scales) ? BY_16 : PLAIN, nb = a->k / KERN_BLOCK;
    strips p;
    tile_sums y;
    for (size_t r = 0; r < a->n_rows; r += TILE_STRIPS * VL) {
        strips_begin(&p, a, r);
        next_begin(&p, (a->n_x + most - 1) / most * nb);
        const kern_acts_block *x = a->tiles;
        for (size_t first = 0; first < a->n_x; first += KERN_TILE, x += nb) {
            const size_t n_here = MIN((size_t)KERN_TILE, a->n_x - first);
#define AT_ONCE(t, n) direct_at_once(&p, s, x, y, t, n)
            FOR_TOKENS(n_here, most, t, AT_ONCE)
#undef AT_ONCE
            strips_put(&p, y, first);
        }
    }
}

/* A block of a strip as bytes and f32 scales: 8 vectors of weights, then its scales and mins. */
typedef struct wide_block {
    vi w[8];
    vf k[4]; /* s[0], s[1], m[0], m[1] as far as the shape has them */
} wide_block;

/* k-group g of a 2:4 block as bytes: each of its two kept levels where its column is, the level of zero elsewhere. */
INLINE vi kept_spread(const shape s, vi w, vi columns, int g) {
    static const uint8_t word_byte[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    const vi zero = vi_set1_8((char)s.offset), place = vi_set1_32(0x03020100), first = vi_bcast16(word_byte);
    vi r = zero;
    UNROLL for (int i = 0; i < 2; i++) {
        const vi from = vi_or(first, vi_set1_8((char)(g % 2 * 2 + i)));
        const vi here = vi_eq8(vi_and(vi_lut(columns, from), vi_set1_8(3)), place);
        r = vi_xor(r, vi_and(here, vi_xor(vi_lut(w, from), zero)));
    }
    return r;
}
#define UNPACK_KEPT(h)                                                                                        \
    do {                                                                                                      \
        const vi w = kept_levels(s, p, h), columns = KEPT_COLUMNS(at, h);                                     \
        out->w[2 * (h)] = as_weight(s, kept_spread(s, w, columns, 0));                                        \
        out->w[2 * (h) + 1] = as_weight(s, kept_spread(s, w, columns, 1));                                    \
    } while (0)
#define UNPACK_PAIR(g)                                                                                        \
    LEVELS(s, p, lut, g, w0, w1);                                                                             \
    out->w[g] = as_weight(s, w0);                                                                             \
    out->w[(g) + 4] = as_weight(s, w1);
/* Strip l, to every TILE_STRIPS-th block from `out` on. */
INLINE void unpack_strip(const strips *of, const shape s, int l, wide_block *out) {
    const vf d_mul = vf_bcast(&of->a->pk->d_mul);
    const size_t lane = of->lane[l];
    const unsigned char *panel = of->panel + of->panel_at[l];
    vi lut = vi_zero();
    if (s.bits == BITS_4T) lut = vi_table(of->a->pk->levels);
    EACH_BLOCK(of->a, s, panel, lane, of->a->k / KERN_BLOCK, {
        vi w0, w1;
        if (kern_bits_24((unsigned)s.bits)) {
            const vi at = vi_load(p + PLACES_AT(s));
            UNPACK_KEPT(0);
            UNPACK_KEPT(1);
            UNPACK_KEPT(2);
            UNPACK_KEPT(3);
        } else {
            UNPACK_PAIR(0) UNPACK_PAIR(1) UNPACK_PAIR(2) UNPACK_PAIR(3)
        }
        const scales k = scales_at(s, group, lane, j, d_mul);
        out->k[0] = k.s[0];
        if (kern_scales_16((unsigned)s.scales)) out->k[1] = k.s[1], out->k[3] = k.m[1];
        if (kern_scales_min((unsigned)s.scales)) out->k[2] = k.m[0];
        out += TILE_STRIPS;
    });
}

/* Long rows are multiplied K_BLOCKS blocks at a time with Y_TILES tiles: so many unpacked weights stay in the nearest cache
 * while the tiles pass. Rows of up to LONG_BLOCKS do as a whole. */
enum { K_BLOCKS = 12, Y_TILES = 4, LONG_BLOCKS = 36 };

/* to += nb blocks of unpacked strips times n tokens of a tile from t on. */
INLINE void strips_times(strips *of, const bool by_16, const bool has_min, const bool wide, const bool three, const wide_block *w,
                         const kern_acts_block *x, size_t nb, tile_sums to, size_t t, const int n) {
    const bool has_offset = !has_min && !(VI_SIGNED && wide);
    const int offset = of->offset;
    vf y[TILE_STRIPS][TILE_TOKENS];
    x = tile_from(x, t);
    UNROLL for (int i = 0; i < n; i++) UNROLL for (int l = 0; l < TILE_STRIPS; l++) y[l][i] = to[l][t + (size_t)i];
    for (size_t b = nb; b > 0; b--, w += TILE_STRIPS, x++) {
        vi sum[TILE_STRIPS][TILE_TOKENS];
        vf part[TILE_STRIPS][TILE_TOKENS];
        ONE_REGISTER(x);
        ONE_REGISTER(w);
        next_fetch(of);
        UNROLL for (int half = 0; half < 2; half++) {
            if (half == 0 || by_16)
                UNROLL for (int i = 0; i < n; i++) {
                    vi from = vi_zero();
                    if (has_offset) {
                        const vi sum_q = vi_bcast(by_16 ? &x->n16[half][i] : &x->n[i]);
                        from = vi_sll_by(sum_q, offset);
                        if (three) from = vi_add(from, sum_q);
                    }
                    UNROLL for (int l = 0; l < TILE_STRIPS; l++) sum[l][i] = from;
                }
            UNROLL for (int g = 4 * half; g < 4 * half + 4; g++)
                UNROLL for (int i = 0; i < n; i++) {
                    const vi q = vi_bcast(&x->q[g][i]);
                    UNROLL for (int l = 0; l < TILE_STRIPS; l++) sum[l][i] = dot_all(wide, sum[l][i], w[l].w[g], q);
                }
            if (half == 0 && by_16)
                UNROLL for (int i = 0; i < n; i++)
                    UNROLL for (int l = 0; l < TILE_STRIPS; l++) part[l][i] = vf_mul(vf_i32(sum[l][i]), w[l].k[0]);
        }
        UNROLL for (int i = 0; i < n; i++) {
            const vf dx = vf_bcast(&x->d[i]);
            UNROLL for (int l = 0; l < TILE_STRIPS; l++) {
                const vf v = vf_i32(sum[l][i]);
                if (by_16) y[l][i] = vf_fma(vf_fma(v, w[l].k[1], part[l][i]), dx, y[l][i]);
                else y[l][i] = vf_fma(v, vf_mul(w[l].k[0], dx), y[l][i]);
            }
            if (!has_min) continue;
            const vf ds = vf_bcast(by_16 ? &x->ds16[0][i] : &x->ds[i]);
            UNROLL for (int l = 0; l < TILE_STRIPS; l++) y[l][i] = vf_fma(w[l].k[2], ds, y[l][i]);
            if (!by_16) continue;
            const vf ds1 = vf_bcast(&x->ds16[1][i]);
            UNROLL for (int l = 0; l < TILE_STRIPS; l++) y[l][i] = vf_fma(w[l].k[3], ds1, y[l][i]);
        }
    }
    UNROLL for (int i = 0; i < n; i++) UNROLL for (int l = 0; l < TILE_STRIPS; l++) to[l][t + (size_t)i] = y[l][i];
}

INLINE void all_tokens(strips *p, const bool by_16, const bool has_min, const bool wide, const bool three) {
    enum { PLAIN = TILE_TOKENS, BY_16 = TILE_TOKENS_16 };
    const size_t most = by_16 ? BY_16 : PLAIN, nb = p->a->k / KERN_BLOCK, n_x = p->a->n_x;
    const size_t step = nb > LONG_BLOCKS ? K_BLOCKS : nb;
    tile_sums sums[Y_TILES];
    for (size_t first = 0; first < n_x; first += Y_TILES * KERN_TILE) {
        const size_t n_tiles = MIN((size_t)Y_TILES, (n_x - first + KERN_TILE - 1) / KERN_TILE);
        const kern_acts_block *tiles = p->a->tiles + first / KERN_TILE * nb;
        for (size_t i = 0; i < n_tiles; i++)
            for (size_t l = 0; l < TILE_STRIPS; l++)
                for (size_t t = 0; t < KERN_TILE; t++) sums[i][l][t] = vf_zero();
        for (size_t b = 0; b < nb; b += step) {
            const wide_block *w = (const wide_block *)p->a->scratch + b * TILE_STRIPS;
            const size_t n_blocks = MIN(step, nb - b);
            for (size_t i = 0; i < n_tiles; i++) {
                const kern_acts_block *x = tiles + i * nb + b;
                const size_t n_here = MIN((size_t)KERN_TILE, n_x - first - i * KERN_TILE);
#define AT_ONCE(t, n) strips_times(p, by_16, has_min, wide, three, w, x, n_blocks, sums[i], t, n)
                FOR_TOKENS(n_here, most, t, AT_ONCE)
#undef AT_ONCE
            }
        }
        for (size_t i = 0; i < n_tiles; i++) strips_put(p, sums[i], first + i * KERN_TILE);
    }
}

/* The matrix kernels, common to all formats. */
#define NOINLINE static __attribute__((noinline))
NOINLINE void tokens_plain(strips *p) { all_tokens(p, false, false, false, false); }
NOINLINE void tokens_three(strips *p) { all_tokens(p, false, false, false, true); }
NOINLINE void tokens_wide(strips *p) { all_tokens(p, false, false, true, false); }
NOINLINE void tokens_min(strips *p) { all_tokens(p, false, true, false, false); }
NOINLINE void tokens_16(strips *p) { all_tokens(p, true, false, false, false); }
NOINLINE void tokens_16_wide(strips *p) { all_tokens(p, true, false, true, false); }
NOINLINE void tokens_16_min(strips *p) { all_tokens(p, true, true, false, false); }

INLINE void tiles_unpacked(const kern_mul *a, const shape s) {
    const bool wide = is_wide(s);
    strips p;
    p.offset = s.offset ? 31 - __builtin_clz((unsigned)s.offset) : 0;
    for (size_t r = 0; r < a->n_rows; r += TILE_STRIPS * VL) {
        strips_begin(&p, a, r);
        next_begin(&p, (a->n_x + TILE_TOKENS - 1) / TILE_TOKENS * (a->k / KERN_BLOCK));
        for (int l = 0; l < TILE_STRIPS; l++) unpack_strip(&p, s, l, (wide_block *)a->scratch + l);
        if (kern_scales_16((unsigned)s.scales)) {
            if (kern_scales_min((unsigned)s.scales)) tokens_16_min(&p);
            else if (wide) tokens_16_wide(&p);
            else tokens_16(&p);
        } else {
            if (kern_scales_min((unsigned)s.scales)) tokens_min(&p);
            else if (wide) tokens_wide(&p);
            else if (s.offset == 3) tokens_three(&p);
            else tokens_plain(&p);
        }
    }
}

/* Unpacking pays from so many tokens on; never when levels are a mask and a shift away and scales plain, where it
 * costs less than reading the unpacked strips. */
enum { UNPACKED_FROM = 36 };
INLINE bool is_light(const shape s) { return s.bits == BITS_4 && s.scales == SCALES_F16; }

INLINE void multiply(const kern_mul *a, const shape s) {
    if (!kern_bits_24((unsigned)s.bits) && a->group_bytes && a->n_x == 1 && !a->tiles && a->k / KERN_BLOCK <= LIVE_MAX) all_slices(a, s);
    else if (!a->tiles) all_rows(a, s);
    else if (!kern_bits_24((unsigned)s.bits) && (a->n_x < UNPACKED_FROM || is_light(s))) tiles_direct(a, s);
    else tiles_unpacked(a, s);
}

#define MUL(name, bits, scales, offset, span)                                                                 \
    static void NAME(mul_##name)(const kern_mul *a) { multiply(a, (shape){bits, scales, offset, span}); }
MUL(q4_0, BITS_4, SCALES_F16, 8, 1)
MUL(q4_1, BITS_4, SCALES_F16_MIN, 0, 1)
MUL(q5_0, BITS_5, SCALES_F16, 16, 1)
MUL(q5_1, BITS_5, SCALES_F16_MIN, 0, 1)
MUL(q8_0, BITS_8, SCALES_F16, 128, 1)
MUL(q2_k, BITS_2, SCALES_K_MIN16, 0, 1)
MUL(q3_k, BITS_3, SCALES_K_16, 4, 1)
MUL(q4_k, BITS_4, SCALES_K_MIN, 0, 1)
MUL(q5_k, BITS_5, SCALES_K_MIN, 0, 1)
MUL(q6_k, BITS_6, SCALES_K_16, 32, 1)
MUL(iq4_nl, BITS_4T, SCALES_F16, 128, 1)
MUL(mxfp4, BITS_4T, SCALES_E8M0, 128, 1)
MUL(nvfp4, BITS_4T, SCALES_F16_16, 128, 1)
MUL(levels_k, BITS_4T, SCALES_K, 128, 1)
MUL(levels_k16, BITS_4T, SCALES_K_16, 128, 1)
MUL(tq, BITS_2, SCALES_F16, 1, 8)
MUL(q1_0, BITS_1, SCALES_F16, 1, 4)
MUL(q2_0, BITS_2, SCALES_F16, 1, 2)
MUL(q4_96, BITS_4, SCALES_F16, 8, 3)
MUL(q3_96, BITS_3, SCALES_F16, 4, 3)
MUL(q2_96, BITS_2X, SCALES_F16, 3, 3)
MUL(tq1_192, BITS_2, SCALES_F16, 1, 6)
MUL(q4_0_24, BITS_4_24, SCALES_F16, 8, 1)
MUL(q8_0_24, BITS_8_24, SCALES_F16, 128, 1)
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
    m[QUANT_Q4_96] = NAME(mul_q4_96);
    m[QUANT_Q3_96] = NAME(mul_q3_96);
    m[QUANT_Q2_96] = NAME(mul_q2_96);
    m[QUANT_TQ1_192] = NAME(mul_tq1_192);
    m[QUANT_Q4_0_24] = NAME(mul_q4_0_24);
    m[QUANT_Q8_0_24] = NAME(mul_q8_0_24);
}
