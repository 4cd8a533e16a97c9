/* kernel.h: the inner loops, behind one table of function pointers. No allocation, no I/O, no threads.
 *
 * kern_table_init fills the table with the scalar versions (`_ref`), then every ISA the mask allows
 * overwrites what it does better, weakest first.
 *
 * Numeric contract, for every entry and every rung: a result element depends on its own inputs only, never
 * on how many rows or tokens are computed together; the int8 products are bit-equal on all rungs.
 *
 * Quantized weights are multiplied as *panels* of 16 rows (packed.h tells the layout), activations as int8
 * with a scale per 32 columns. For one row r and one token t, blocks b of 32 columns in ascending order:
 *     y = fma(float(sum_k (u - offset) q), dw_b dx_b, y)   then, for formats with a min,
 *     y = fma(m_b, dx_b sum_k q, y)
 * and for formats with a scale per 16, s and s' the sums over the halves of a block, dw, dw' and m, m' their scales and mins:
 *     y = fma(fma(float(s'), dw', float(s) dw), dx, y)      then
 *     y = fma(m, dx sum q, y), y = fma(m', dx sum' q, y)
 * The sums are exact integers. Starts at 0; at the end scale · y + bias (+ old y), rounded at each step. */
#ifndef MOTE_KERNEL_KERNEL_H
#define MOTE_KERNEL_KERNEL_H

#include "base/cpu.h"
#include "quant/quant.h"

#include <stdbool.h>

enum { KERN_PANEL = 16, KERN_BLOCK = 32 };

typedef enum act_fn {
    ACT_NONE,
    ACT_SILU,
    ACT_GELU,      /* exact: x/2 (1 + erf(x / sqrt 2)) */
    ACT_GELU_TANH, /* its tanh approximation */
    ACT_RELU,
    ACT_RELU2, /* relu(x)^2 */
    ACT_SIGMOID,
    ACT_SOFTPLUS,
    ACT_TANH,
    ACT_GELU_QUICK, /* x sigmoid(1.702 x) */
    ACT_SWIGLU_OAI, /* gpt-oss, only as GLU: clamp(gate, ≤7) · sigmoid(1.702 gate) · (clamp(up, ±7) + 1) */
    ACT_COUNT
} act_fn;

/* ---- activations in int8 ---- */
enum { KERN_STEPS = 3 };
static const float kern_steps[KERN_STEPS] = {127.49f /* rounds to 127 */, 125.0f, 122.3f};
static const float kern_steps_inverse[KERN_STEPS] = {1 / 127.49f, 1 / 125.0f, 1 / 122.3f};

/* One row of k columns: kp = k rounded up to 32, nb = kp / 32 blocks; x ≈ d[b] q[32 b + i]. A block is rounded to
 * each of kern_steps levels of max|x|, with the scale that fits the rounded levels best, and the best of the three
 * is kept: a tenth less error than d = max|x| / 127 (SmolLM2 on WikiText: mean KLD to exact activations 0.0024, not
 * 0.0026). With y = x · steps / max|x| and q = round(y): the scale is sum y q / sum q² steps, and what is left of
 * sum y² smallest where (sum y q / steps)² / sum q² is largest. The pad is zero. The sums of q that levels with an offset
 * or formats with a min need are kept with it: n = minus the sum, ds = d times the sum. */
typedef struct kern_acts {
    int8_t *q;            /* [kp] */
    float *d, *ds, *ds16; /* [nb], [nb], [2 nb] for halves of blocks */
    int32_t *n, *n16;     /* [nb], [2 nb] */
} kern_acts;
static inline size_t kern_acts_blocks(size_t k) { return (k + KERN_BLOCK - 1) / KERN_BLOCK; }
static inline size_t kern_acts_bytes(size_t k) {
    return (kern_acts_blocks(k) * (KERN_BLOCK + 7 * 4) + 63) / 64 * 64;
}
/* The parts of a row that lies at `row` (64-byte aligned, kern_acts_bytes(k) long). */
static inline kern_acts kern_acts_at(void *row, size_t k) {
    size_t nb = kern_acts_blocks(k);
    int8_t *q = (int8_t *)row;
    float *d = (float *)row + nb * (KERN_BLOCK / 4);
    int32_t *n = (int32_t *)row + nb * (KERN_BLOCK / 4 + 4);
    return (kern_acts){q, d, d + nb, d + 2 * nb, n, n + nb};
}
/* Many rows are interleaved for the matrix kernels, KERN_TILE tokens together, block after block: */
enum { KERN_TILE = 12 };
typedef struct kern_acts_block {
    int32_t q[8][KERN_TILE]; /* the four columns of a k-group of one token are one word */
    float d[KERN_TILE], ds[KERN_TILE];
    int32_t n[KERN_TILE], n16[2][KERN_TILE];
    float ds16[2][KERN_TILE];
} kern_acts_block;

/* ---- matrix products ---- */
/* Rows n_rows of y (and their bias) from row `row0` of the product; tokens t go to row yi[t·step] of y
 * and come from row xi[t·step] of x (identity when NULL). */
typedef struct kern_out {
    float *y; /* element of the first row of the product in y's row 0 */
    size_t ld;
    const float *bias; /* [n_rows] or NULL */
    float scale;
    bool add;
} kern_out;
typedef struct kern_index {
    const int32_t *xi, *yi;
    size_t step;
} kern_index;

struct kern_packing;
/* y[t, r] for n_rows rows of packed panels and n_x tokens. x: rows of kern_acts, x_bytes apart; or, when
 * `tiles` is set, that: for each KERN_TILE tokens one kern_acts_block per block of columns (the tokens past n_x
 * in the last are zeros), and index.xi is not used. scratch: kern_mul_scratch(k) bytes of this thread's own, 64-byte aligned. */
typedef struct kern_mul {
    const struct kern_packing *pk;
    const unsigned char *panels; /* 64-byte aligned */
    size_t panel_bytes, n_rows, k;
    size_t group_bytes; /* 0: the groups of a panel (packed.h) follow one another; else they lie so far apart, and those of the same columns
                         * of all panels side by side, panel_bytes each. Then k is a multiple of a group's columns; not for 2:4 */
    const unsigned char *x;
    size_t x_bytes, n_x;
    const kern_acts_block *tiles;
    bool zeros; /* blocks of activations that are 0 (scale 0) are common: with one token, weights that meet them are not read */
    const unsigned char *end; /* with one token: what is fetched ahead from here on is `jump` further on, where this thread's next */
    size_t jump;              /* product begins; NULL, 0: it is what follows */
    kern_index index;
    kern_out out;
    void *scratch;
} kern_mul;
typedef void kern_mul_fn(const kern_mul *a);
size_t kern_mul_scratch(size_t k);

/* The screen of a matrix in split form (split.h): for the 16 rows of each of n_panels panels s, the sum over what is
 * read of the levels, and u ≥ what the product would give, NaN where that cannot be said. screen reads the high
 * parts alone; refine adds the next pair of bits, from rest, to the s that screen gave (n_low 4 only). */
struct kern_split;
struct kern_screen_col;
typedef struct kern_screen {
    const struct kern_split *split;
    const unsigned char *high, *rest; /* of the first panel; 64-byte aligned; screen does not use rest */
    size_t n_panels, k;
    const int8_t *q;                     /* [k] the activations */
    const struct kern_screen_col *cols;  /* of kern_screen_x, from the level that is meant on */
    float *s, *u;                        /* [n_panels · 16] */
    float scale, floor;                  /* reach[i]: whether scale · u ≥ floor, or is NaN, for a row of panel i */
    bool *reach;                         /* [n_panels] */
} kern_screen;
typedef void kern_screen_fn(const kern_screen *a);
/* y[r] = scale · (W x)[r] for n_rows rows of split panels and one token, a row of kern_acts: the bits that mul gives. */
typedef struct kern_split_mul {
    const struct kern_split *split;
    const unsigned char *high, *rest; /* of the first panel; 64-byte aligned */
    size_t n_rows, k;
    const unsigned char *x;
    float scale, *y;
} kern_split_mul;
typedef void kern_split_mul_fn(const kern_split_mul *a);
/* The panel of which high and rest are the parts. */
typedef void kern_merge_fn(const struct kern_split *s, unsigned char *panel, const unsigned char *high,
                           const unsigned char *rest, size_t k);

/* The same for row-major float weights and f32 activations: 16 partial sums an element, column i fused into partial
 * sum i mod 16, in order; they are added pairwise from the outside in. bmul, for BF16 weights and bf16 activations, takes
 * pairs of columns, pair i into partial sum i mod 16: the second column's product first, each rounded, denormals zero. */
typedef struct kern_fmul {
    const unsigned char *w;
    size_t row_bytes, n_rows, k;
    const float *x;
    size_t ldx, n_x;
    kern_index index;
    kern_out out;
    const uint16_t *xb; /* bmul: bf16 activations, ldx apart, instead of x */
} kern_fmul;
typedef void kern_fmul_fn(const kern_fmul *a);

/* C[m, n] = A[m, k] B[k, n] (+ C when add): one accumulator per element, k in order. Small, L1-resident. */
typedef struct kern_tile {
    float *c;
    const float *a, *b;
    size_t ldc, lda, ldb, m, n, k;
    bool add;
} kern_tile;

/* The same in bf16 with f32 sums, for attention. A *pair word* holds two 16-bit floats that are summed over together,
 * the first in its low half: C[m, n] = sum over l < k of both products of A's word [m, l] and B's word [l, n]
 * (+ C when add), l in order, within a word the high half first. B's word of l and column j lies at
 * b[l · ldb + j / 16 · ldv + j % 16]; with f16, B's halves are f16 and are rounded to bf16 first. What lies `ahead`
 * words further is prefetched when that is not 0. */
enum { KERN_PAIRS_ROWS = 6 }; /* rows of A that B is read once for */
typedef struct kern_pairs {
    float *c;
    const uint32_t *a, *b;
    size_t ldc, lda, ldb, ldv, m, n, k, ahead;
    bool add, f16;
} kern_pairs;

/* One token of a recurrence, on a tile of w ≤ KERN_SCAN_W channels whose state is s[n, w]. Row i of the state decays
 * by g_i = decay[i · decay_step] (step 0: one number for all), takes in[i] · x and gives out[i] · s_i:
 *   scan_each   g = exp(decay · pace), each element its own: decay is [n, w], pace [w]; s_i = g_i s_i + in_i x;
 *               y = sum out_i s_i
 *   scan_delta  x' = beta (x - sum probe_i g_i s_i);  s_i = g_i s_i + in_i x';  y likewise
 *   scan_back   k = sum probe_i s_i;  s_i = g_i s_i + in_i x + back_i k;        y likewise
 * y[w] is added to when `add`. Source: Gu and Dao 2023 (Mamba), alg. 2; Kimi Team 2025, §3; Peng et al. 2025
 * (RWKV-7), §4. Recurrences with one decay per head are computed in chunks instead (kern_recall, kern_absorb). */
enum { KERN_SCAN_W = 64 };
typedef struct kern_scan {
    float *s;
    size_t n, w;
    const float *decay;
    size_t decay_step;
    const float *in, *out;      /* [n] */
    const float *x, *pace;      /* [w] */
    const float *probe, *back;  /* [n] */
    float beta;
    float *y;
    bool add;
} kern_scan;

/* The parts of a recurrence in chunks of KERN_CHUNK tokens (model/ssm.h). Rows of w columns, t = 0 … m-1 in order:
 *   y[t] = (pre[t] read[t] + by x[t] + sum_{u < first + t} coef[t][u] past[u]) · post[t]
 * each step fused or rounded as written, the sum in ascending u. x, past, post: NULL leaves that part out. read[t] may
 * be y[t], and a row of past may be an earlier row of y: that is how the delta rule feeds on itself. */
enum { KERN_CHUNK = 16 };
typedef struct kern_recall {
    float *y;
    const float *read, *x, *past;
    size_t ldy, ld_read, ldx, ld_past;
    const float *pre, *post;    /* [m] */
    const float *coef;          /* [m, KERN_CHUNK]; a single row may be longer */
    float by;
    size_t first, m, w;
} kern_recall;
/* s[i] = decay s[i] + sum_{u < k} in[u][i] x[u], for n rows i of w columns; u ascending, fused. */
typedef struct kern_absorb {
    float *s;
    size_t n, w, ld;
    float decay;
    const float *const *in;     /* [k] rows of n */
    const float *x;             /* [k, w] at stride ldx */
    size_t ldx, k;
} kern_absorb;

/* One row of a depthwise convolution: y[n] = act(x[0] w[0] + x[1] w[1] + … (k taps, the first rounded, the others
 * fused) + bias). x: k rows of n; w: [k, n] at stride ldw; bias may be NULL. */
typedef struct kern_conv {
    float *y;
    const float *const *x;
    const float *w, *bias;
    size_t ldw, k, n;
    act_fn act;
} kern_conv;

/* ---- matrix products for training (tensor/gemm.h) ---- */
/* Both operands lie in panels of 32-bit words: one step of `rows` words of A, or `cols` of B, after the other. A word is one
 * float, or a pair word of bf16 for two steps of the sum (`step` 2; an odd one's partner is zero). */
typedef struct kern_gemm_tile {
    const uint32_t *a, *b; /* one panel of each; 64-byte aligned */
    float *c;
    size_t ldc, m, n, k;   /* m ≤ rows and n ≤ cols are stored; k words are summed */
    bool add;
    const float *ahead;    /* NULL, or where of c the next tile will be: its m rows are fetched meanwhile */
} kern_gemm_tile;
typedef struct kern_gemm {
    size_t rows, cols, step;
    /* C[m, n] = A B (+ C when add): one accumulator per element, in order: f32 fused, bf16 as kern_pairs. The sum may so be cut
     * anywhere between two words and go on with `add`: the same bits. f32 is the same bits on every rung. */
    void (*tile)(const kern_gemm_tile *t);
    /* Fills panels `width` words wide, `next` words apart, from n lines of k floats; the last has zeros for the lines that lack.
     * pack: element l of line i is src[i · ld + l]; pack_across: src[l · ld + i]. */
    void (*pack)(uint32_t *dst, size_t width, size_t next, const float *src, size_t ld, size_t n, size_t k);
    void (*pack_across)(uint32_t *dst, size_t width, size_t next, const float *src, size_t ld, size_t n, size_t k);
} kern_gemm;
enum { KERN_GEMM_WIDTH = 32 }; /* no panel is wider */

/* ---- rows of training ---- */
/* A row of attention going back: p holds scores, dp the gradients of probabilities; with q = exp(by · p - lse):
 * dp = q (dp - own) · scale, p = q. */
typedef struct kern_soft_back {
    float *p, *dp;
    size_t n;
    float by, lse, own, scale;
} kern_soft_back;

/* An activation going back, d f(x): gx (+)= dy f'(x) · up, gup (+)= dy f(x); up NULL: 1. gx, gup: NULL where it is not wanted. */
typedef struct kern_act_back {
    act_fn f; /* not ACT_SWIGLU_OAI */
    const float *x, *up, *dy;
    float *gx, *gup;
    size_t n;
    bool add_x, add_up;
} kern_act_back;

/* A norm of n numbers: y = x̂ w + b, x̂ = (x - mean) r, r = 1 / sqrt(mean((x - mean)²) + eps); mean 0 unless centred. w, b may be
 * NULL. Going back, g (+)= r (d - mean(d) - x̂ mean(d x̂)) with d = dy w, without the first mean unless centred; sums: gw += dy x̂,
 * gb += dy, each where it is not NULL. */
typedef struct kern_norm {
    const float *x, *w;
    size_t n;
    bool centred;
    float mean, r;
} kern_norm;

/* AdamW's update of n numbers, with g · by as gradients, in PyTorch's order of operations, each rounded:
 * m = m + rest1 (g - m); v = v · beta2 + rest2 g g; x = x keep - size m / (sqrt(v) / bias + eps). */
typedef struct kern_adamw {
    float *x, *m, *v;
    const float *g;
    size_t n;
    float by, keep, rest1, beta2, rest2, bias, eps, size;
} kern_adamw;

typedef struct kern_train {
    /* x[n] = exp(by · x - shift) in place; returns their sum. */
    float (*exp_scaled)(float *x, float by, float shift, size_t n);
    void (*soft_back)(const kern_soft_back *a);
    void (*act_back)(const kern_act_back *a);
    void (*norm)(kern_norm *a, float *y, const float *b, float eps); /* sets mean and r */
    void (*norm_back)(const kern_norm *a, float *g, const float *dy, bool add);
    void (*norm_sums)(const kern_norm *a, float *gw, float *gb, const float *dy);
    void (*sum)(float *y, const float *a, const float *b, float by, size_t n); /* y = a + by · b, rounded twice */
    void (*adamw)(const kern_adamw *a);
} kern_train;

typedef struct kern_table {
    uint32_t flags;
    const char *rung;
    kern_mul_fn *mul[QUANT_TYPE_MAX];   /* by weight type; NULL when it has no packed form */
    kern_fmul_fn *fmul[QUANT_TYPE_MAX]; /* F32, F16, BF16 */
    kern_fmul_fn *bmul;                 /* BF16 by bf16; NULL on rungs without its instructions */
    kern_screen_fn *screen, *refine;
    kern_merge_fn *merge;
    kern_split_mul_fn *split_mul;
    /* dst: a row of kern_acts made from x[k]. Non-finite x gives a zero block. */
    void (*quantize)(void *dst, const float *x, size_t k);
    /* dst: one tile from n ≤ KERN_TILE rows of kern_acts, x_bytes apart; the tokens from n on are zeros. */
    void (*interleave)(kern_acts_block *dst, const unsigned char *x, size_t x_bytes, size_t n, size_t k);
    /* Rotates n pairs (x, y) to (x cos - y sin, x sin + y cos), each product rounded: pair i is v[2i], v[2i + 1], or
     * v[i], v[i + n] when `halves`. cs[2n]: cosine, sine of each. Source: Su et al. 2021 (RoFormer), eq. 34. */
    void (*rotate)(float *v, const float *cs, size_t n, bool halves);
    /* y[n] = x / sqrt(mean(x²) + eps) · w (+ b); w, b may be NULL. May be in place. */
    void (*rms_norm)(float *y, const float *x, const float *w, const float *b, float eps, size_t n);
    /* y[n] = (x - mean) / sqrt(var + eps) · w (+ b). */
    void (*layer_norm)(float *y, const float *x, const float *w, const float *b, float eps, size_t n);
    /* y[n] = f(x) (· up). May be in place. */
    void (*act)(act_fn f, float *y, const float *x, const float *up, size_t n);
    /* y[n] += scale · x */
    void (*axpy)(float *y, const float *x, float scale, size_t n);
    float (*dot)(const float *x, const float *y, size_t n);
    float (*max)(const float *x, size_t n); /* -inf for n 0; NaN is passed over */
    /* x[n] = exp(x - shift) in place; returns their sum. -inf gives 0. */
    float (*exp_sum)(float *x, float shift, size_t n);
    /* y[n] = x · by, may be in place; y[n] = a y + b x */
    void (*scale)(float *y, const float *x, float by, size_t n);
    void (*mix)(float *y, float a, const float *x, float b, size_t n);
    /* A step of an online softmax (FlashAttention, Dao 2022, algorithm 1): s[n] = exp(s - m), m = the larger of *max and
     * the largest s. Returns by what the sums so far shrink, keep = exp(*max - m); *sum = *sum · keep + sum of s,
     * *max = m. While all is -inf: zeros, and 1 is returned. n % 16 == 0. */
    float (*soften)(float *s, size_t n, float *max, float *sum);
    void (*tile)(const kern_tile *t);
    /* Pair words in bf16. bf16: this rung has the instructions, so that they are faster than f32. */
    bool bf16;
    void (*pairs)(const kern_pairs *t);
    /* dst[n] bf16 = src · by; = f16 halves src; pair words dst[n] of a (low) and b */
    void (*bf16_of_f32)(void *dst, const float *src, float by, size_t n);
    void (*bf16_of_f16)(void *dst, const void *src, size_t n);
    void (*bf16_zip)(void *dst, const float *a, const float *b, size_t n);
    /* As soften, with the results in bf16 in p, from an exponential as precise as that needs. s may be overwritten. */
    float (*soften_bf16)(void *p, float *s, size_t n, float *max, float *sum);
    kern_gemm gemm, gemm_bf16; /* gemm_bf16.tile is NULL on rungs without its instructions */
    kern_train train;
    void (*recall)(const kern_recall *a);
    void (*absorb)(const kern_absorb *a);
    void (*conv)(const kern_conv *a);
    void (*scan_each)(const kern_scan *a);
    void (*scan_delta)(const kern_scan *a);
    void (*scan_back)(const kern_scan *a);
    /* dst[n] f32 from a row of F32, F16, BF16, and (n % 32 == 0) Q8_0, Q4_0; NULL for others */
    void (*widen[QUANT_TYPE_MAX])(float *dst, const void *src, size_t n);
    /* The same from Q8_0 or Q4_0 turned by 90 degrees, 32 numbers of each of 16 columns under f16 scales: Q8_0 i8[32][16], Q4_0
     * u8[16][16] with number j in the low nibbles of row j and j + 16 in the high ones; then f16[16]. dst[32] rows of 16 at
     * stride ld; NULL for others. */
    void (*widen_columns[QUANT_TYPE_MAX])(float *dst, size_t ld, const void *src);
    /* the halves of n pair words of F16 or BF16 as f32; NULL for others */
    void (*unzip[QUANT_TYPE_MAX])(float *even, float *odd, const void *words, size_t n);
    /* the way back from widen, to nearest even */
    void (*narrow[QUANT_TYPE_MAX])(void *dst, const float *src, size_t n);
} kern_table;

/* Thread: any. mask: CPU_ALL, or from cpu_mask_by_name. */
void kern_table_init(kern_table *t, uint32_t mask);

/* Scalar definitions. ACT_SWIGLU_OAI without up gives its gate part. */
float kern_act_ref(act_fn f, float x);

#endif
