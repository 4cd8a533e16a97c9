/* screen_tmpl.h: the screen of split matrices (split.h), for any ISA: on the vector operations of mul_tmpl.h.
 * A strip is VL rows of a panel, one vector lane each; sums of float go through the blocks in order. */
#include "kernel/generic/ref.h"
#include "kernel/split.h"

/* How far ahead of its use the high part is fetched: it is read as one stream. */
enum { AHEAD_BYTES = 4096 };

#define INLINE static inline __attribute__((always_inline))
#define NIBBLE(v) vi_and(v, vi_set1_8(15))
/* Bits 2g, 2g+1 of each byte, moved to bit `to`. */
#define PAIR_AT(v, g, to)                                                                                     \
    vi_and((2 * (g) > (to)) ? vi_srl(v, (2 * (g) - (to)) & 31) : vi_sll(v, ((to) - 2 * (g)) & 31), vi_set1_8(3 << (to)))

/* One (half) block into the sums. */
INLINE void take(vf *s, vf *e, vi sum, vf scale, const kern_screen_col *c) {
    *s = vf_fma(vf_add(vf_i32(sum), vf_bcast(&c->center)), vf_mul(scale, vf_bcast(&c->step)), *s);
    *e = vf_fma(vf_abs(scale), vf_bcast(&c->bound), *e);
}

/* Integer sums of a block's first and last 16 columns; p: the strip's first lane in its planes. */
#define HIGH_GROUP(g)                                                                                         \
    v = vi_load(p + 64 * (g));                                                                                \
    lo = vi_dot7(lo, NIBBLE(v), q + 4 * (g));                                                                 \
    hi = vi_dot7(hi, NIBBLE(vi_srl(v, 4)), q + 16 + 4 * (g));
#define PAIR_GROUP(g)                                                                                         \
    lo = vi_dot7(lo, PAIR_AT(v, g, 0), q + 4 * (g));                                                          \
    hi = vi_dot7(hi, PAIR_AT(w, g, 0), q + 16 + 4 * (g));

/* The strip of row `lane` of one panel. rest: its pair of bits, or NULL for the high part. */
INLINE bool strip(const kern_screen *a, const unsigned char *high, const unsigned char *rest, size_t lane,
                  const bool by_16, float *s_out, float *u_out) {
    const size_t nb = a->k / KERN_BLOCK, in_group = by_16 ? 8 : 2, scale_bytes = by_16 ? 320 : 64;
    const kern_screen_col *c = a->cols;
    const int8_t *q = a->q;
    const unsigned char *group = high;
    vf s = rest ? vf_load(s_out) : vf_zero(), e = vf_zero();
    for (size_t b = 0; b < nb; group += scale_bytes + in_group * 256) {
        const unsigned char *p = group + scale_bytes + 4 * lane;
        for (size_t j = 0; j < in_group && b < nb; j++, b++, p += 256, q += KERN_BLOCK, c += by_16 ? 2 : 1) {
            vi lo = vi_zero(), hi = vi_zero(), v, w;
            if (rest) {
                v = vi_load(rest + 128 * b + 4 * lane);
                w = vi_load(rest + 128 * b + 64 + 4 * lane);
                PAIR_GROUP(0) PAIR_GROUP(1) PAIR_GROUP(2) PAIR_GROUP(3)
            } else {
                if (lane == 0)
                    for (int i = 0; i < 256; i += 64) __builtin_prefetch(p + i + AHEAD_BYTES);
                HIGH_GROUP(0) HIGH_GROUP(1) HIGH_GROUP(2) HIGH_GROUP(3)
            }
            if (by_16) {
                vf d = vf_f16(group + 2 * lane);
                take(&s, &e, lo, vf_mul(d, vf_i32(vi_s8(group + 32 + 32 * j + lane))), c);
                take(&s, &e, hi, vf_mul(d, vf_i32(vi_s8(group + 48 + 32 * j + lane))), c + 1);
            } else {
                take(&s, &e, vi_add(lo, hi), vf_f16(group + 32 * j + 2 * lane), c);
            }
        }
    }
    const float tiny = 1e-30f;
    vf_store(s_out, s);
    const vf u = vf_add(s, vf_add(e, vf_bcast(&tiny)));
    vf_store(u_out, u);
    return vf_any_reach(vf_mul(u, vf_bcast(&a->scale)), vf_bcast(&a->floor));
}

INLINE void panels(const kern_screen *a, const bool refine, const bool by_16) {
    const size_t high_bytes = kern_split_high_bytes(a->split, a->k);
    const size_t rest_bytes = refine ? kern_split_rest_bytes(a->split, a->k) : 0;
    for (size_t i = 0; i < a->n_panels; i++) {
        a->reach[i] = false;
        for (size_t lane = 0; lane < KERN_PANEL; lane += VL)
            a->reach[i] |= strip(a, a->high + i * high_bytes, refine ? a->rest + i * rest_bytes : NULL, lane, by_16,
                                 a->s + i * KERN_PANEL + lane, a->u + i * KERN_PANEL + lane);
    }
}
static void NAME(screen)(const kern_screen *a) {
    if (kern_scales_16(a->split->high.scales)) panels(a, false, true);
    else panels(a, false, false);
}
static void NAME(refine)(const kern_screen *a) {
    if (kern_scales_16(a->split->high.scales)) panels(a, true, true);
    else panels(a, true, false);
}

/* ---- one token times split panels, without putting them together first ---- */
/* k-groups g and g + 4 of a block, all bits of them. */
#define WHOLE_8(g)                                                                                            \
    v = vi_load(h + 64 * (g));                                                                                \
    w0 = vi_or(vi_sll(NIBBLE(v), 4), vi_or(PAIR_AT(m0, g, 2), PAIR_AT(l0, g, 0)));                            \
    w1 = vi_or(vi_and(v, vi_set1_8((char)0xf0)), vi_or(PAIR_AT(m1, g, 2), PAIR_AT(l1, g, 0)));                \
    lo = dot_8(lo, w0, q + 4 * (g));                                                                          \
    hi = dot_8(hi, w1, q + 16 + 4 * (g));
#define WHOLE_6(g)                                                                                            \
    v = vi_load(h + 64 * (g));                                                                                \
    lo = vi_dot7(lo, vi_or(vi_sll(NIBBLE(v), 2), PAIR_AT(m0, g, 0)), q + 4 * (g));                            \
    hi = vi_dot7(hi, vi_or(vi_sll(NIBBLE(vi_srl(v, 4)), 2), PAIR_AT(m1, g, 0)), q + 16 + 4 * (g));
INLINE vi dot_8(vi acc, vi u, const void *x) {
    return VI_SIGNED ? vi_dot_signed(acc, vi_xor(u, vi_set1_8((char)0x80)), x) : vi_dot(acc, u, x);
}
INLINE vf split_strip(const kern_split_mul *a, const kern_acts *x, const unsigned char *high, const unsigned char *rest,
                      size_t lane, const bool six) {
    const size_t nb = a->k / KERN_BLOCK, in_group = six ? 8 : 2, scale_bytes = six ? 320 : 64, pair_bytes = 128 * nb;
    const size_t ahead = (nb + in_group - 1) / in_group * scale_bytes + nb * 256, rest_ahead = six ? pair_bytes : 2 * pair_bytes;
    const unsigned char *group = high, *r = rest + 4 * lane;
    const int8_t *q = x->q;
    vf y = vf_zero();
    for (size_t b = 0; b < nb; group += scale_bytes + in_group * 256) {
        const unsigned char *h = group + scale_bytes + 4 * lane;
        for (size_t j = 0; j < in_group && b < nb; j++, b++, h += 256, r += 128, q += KERN_BLOCK) {
            if (lane == 0) { /* the next panel */
                for (size_t i = 0; i < 256; i += 64) __builtin_prefetch(h + ahead + i);
                for (size_t i = rest_ahead; i < 2 * rest_ahead; i += pair_bytes) {
                    __builtin_prefetch(r + i);
                    __builtin_prefetch(r + i + 64);
                }
            }
            vi lo, hi, v, w0, w1, m0 = vi_load(r), m1 = vi_load(r + 64);
            if (six) {
                lo = vi_sll(vi_bcast(x->n16 + 2 * b), 5);
                hi = vi_sll(vi_bcast(x->n16 + 2 * b + 1), 5);
                WHOLE_6(0) WHOLE_6(1) WHOLE_6(2) WHOLE_6(3)
                const vf d = vf_f16(group + 2 * lane), d0 = vf_mul(d, vf_i32(vi_s8(group + 32 + 32 * j + lane)));
                const vf d1 = vf_mul(d, vf_i32(vi_s8(group + 48 + 32 * j + lane)));
                y = vf_fma(vf_fma(vf_i32(hi), d1, vf_mul(vf_i32(lo), d0)), vf_bcast(x->d + b), y);
            } else {
                const vi l0 = vi_load(r + pair_bytes), l1 = vi_load(r + pair_bytes + 64);
                lo = VI_SIGNED ? vi_zero() : vi_sll(vi_bcast(x->n + b), 7);
                hi = vi_zero();
                WHOLE_8(0) WHOLE_8(1) WHOLE_8(2) WHOLE_8(3)
                y = vf_fma(vf_i32(vi_add(lo, hi)), vf_mul(vf_f16(group + 32 * j + 2 * lane), vf_bcast(x->d + b)), y);
            }
        }
    }
    return vf_mul(y, vf_bcast(&a->scale));
}
INLINE void split_rows(const kern_split_mul *a, const bool six) {
    const kern_acts x = kern_acts_at_const(a->x, a->k);
    const size_t high_bytes = kern_split_high_bytes(a->split, a->k), rest_bytes = kern_split_rest_bytes(a->split, a->k);
    for (size_t r = 0; r < a->n_rows; r += VL) {
        const size_t i = r / KERN_PANEL;
        const vf y = split_strip(a, &x, a->high + i * high_bytes, a->rest + i * rest_bytes, r % KERN_PANEL, six);
        if (r + VL <= a->n_rows) {
            vf_store(a->y + r, y);
            continue;
        }
        float part[VL];
        vf_store(part, y);
        memcpy(a->y + r, part, (a->n_rows - r) * sizeof *part);
    }
}
static void NAME(split_mul)(const kern_split_mul *a) {
    if (a->split->n_low == 2) split_rows(a, true);
    else split_rows(a, false);
}

/* k-groups g and g + 4 of a block of 8 bits: v, m[0], m[1]: its high planes and pairs. */
#define MERGE_8(g)                                                                                            \
    v = vi_load(h + 64 * (g));                                                                                \
    vi_store(planes + 64 * (g), vi_or(vi_sll(NIBBLE(v), 4), vi_or(PAIR_AT(m0, g, 2), PAIR_AT(l0, g, 0))));    \
    vi_store(planes + 256 + 64 * (g),                                                                         \
             vi_or(vi_and(v, vi_set1_8((char)0xf0)), vi_or(PAIR_AT(m1, g, 2), PAIR_AT(l1, g, 0))));
/* … of 6 bits: the lower two of the high nibble join the pair, the upper two go to the planes behind. */
#define MERGE_6(g)                                                                                            \
    v = vi_load(h + 64 * (g));                                                                                \
    lo = vi_or(vi_and(vi_sll(v, 2), vi_set1_8(12)), PAIR_AT(m0, g, 0));                                       \
    hi = vi_or(vi_and(vi_sll(v, 2), vi_set1_8((char)0xc0)), PAIR_AT(m1, g, 4));                               \
    vi_store(planes + 64 * (g), vi_or(lo, hi));                                                               \
    top0 = vi_or(top0, vi_sll(vi_and(vi_srl(v, 2), vi_set1_8(3)), 2 * (g)));                                  \
    top1 = vi_or(top1, vi_sll(vi_and(vi_srl(v, 6), vi_set1_8(3)), 2 * (g)));

INLINE void merge_block(unsigned char *planes, const unsigned char *h, const unsigned char *rest, size_t pair_bytes,
                        const bool six) {
    vi v, m0 = vi_load(rest), m1 = vi_load(rest + 64);
    if (six) {
        vi lo, hi, top0 = vi_zero(), top1 = vi_zero();
        MERGE_6(0) MERGE_6(1) MERGE_6(2) MERGE_6(3)
        vi_store(planes + 256, top0);
        vi_store(planes + 320, top1);
    } else {
        vi l0 = vi_load(rest + pair_bytes), l1 = vi_load(rest + pair_bytes + 64);
        MERGE_8(0) MERGE_8(1) MERGE_8(2) MERGE_8(3)
    }
}
INLINE void merge_panel(unsigned char *panel, const unsigned char *high, const unsigned char *rest, size_t k,
                        const bool six) {
    const size_t nb = k / KERN_BLOCK, pair_bytes = 128 * nb, in_group = six ? 8 : 2, scale_bytes = six ? 320 : 64;
    const size_t ahead = (nb + in_group - 1) / in_group * scale_bytes + nb * 256, rest_ahead = six ? pair_bytes : 2 * pair_bytes;
    for (size_t b = 0; b < nb;) {
        memcpy(panel, high, scale_bytes);
        panel += scale_bytes;
        high += scale_bytes;
        for (size_t j = 0; j < in_group && b < nb; j++, b++, panel += six ? 384 : 512, high += 256, rest += 128) {
            for (size_t i = 0; i < 256; i += 64) __builtin_prefetch(high + ahead + i); /* most often the next panel follows */
            for (size_t i = 0; i < rest_ahead; i += pair_bytes) {
                __builtin_prefetch(rest + rest_ahead + i);
                __builtin_prefetch(rest + rest_ahead + i + 64);
            }
            for (size_t at = 0; at < 64; at += 4 * VL) merge_block(panel + at, high + at, rest + at, pair_bytes, six);
        }
    }
}
static void NAME(merge)(const kern_split *s, unsigned char *panel, const unsigned char *high,
                        const unsigned char *rest, size_t k) {
    if (s->n_low == 2) merge_panel(panel, high, rest, k, true);
    else merge_panel(panel, high, rest, k, false);
}

void NAME(kern_init_screen)(kern_table *t) {
    t->screen = NAME(screen);
    t->refine = NAME(refine);
    t->merge = NAME(merge);
    t->split_mul = NAME(split_mul);
}
