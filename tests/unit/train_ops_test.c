/* train_ops_test.c: every op of train/ops.h against finite differences, and the tape's own promises. */
#include "grad_check.h"
#include "model/arch.h"
#include "report.h"
#include "train/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static bool report;

enum { N = 21 };
static const uint32_t starts[] = {0, 1, 9, N};
static int32_t positions[N];
static float turns[N * 8];
static ad_seqs seqs = {.n = N, .n_seq = 3, .start = starts, .pos = positions};

static void lay_out(void) {
    for (size_t q = 0; q < 3; q++)
        for (uint32_t i = starts[q]; i < starts[q + 1]; i++) positions[i] = (int32_t)(i - starts[q]);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < 4; j++) {
            turns[i * 8 + 2 * j] = cosf((float)positions[i] / (float)(1 + j));
            turns[i * 8 + 2 * j + 1] = sinf((float)positions[i] / (float)(1 + j));
        }
}

#define OP(name, call)                                              \
    static var *f_##name(tape *t, var *const *x, const void *arg) { \
        (void)arg;                                                  \
        return call;                                                \
    }
static const int32_t some_rows[] = {3, 0, 3, 4, 1, 3};
static const ad_attn attn_full = {.n_head = 4, .n_head_kv = 2, .dim_k = 8, .dim_v = 6, .scale = 0.4f, .causal = true};
static const ad_attn attn_odd = {.n_head = 3, .n_head_kv = 1, .dim_k = 8, .dim_v = 8, .scale = 0.4f, .softcap = 2, .window = 5, .causal = true};
static const float slopes[] = {0.5f, 0.25f, 0.1f};
static const ad_attn attn_alibi = {.n_head = 3, .n_head_kv = 3, .dim_k = 8, .dim_v = 8, .scale = 0.4f, .alibi = slopes};
static const attn_blocks some_blocks = {.size = 3, .window = 1, .top = 1};
static const ad_attn attn_some = {.n_head = 4, .n_head_kv = 2, .dim_k = 8, .dim_v = 6, .scale = 0.4f, .causal = true, .blocks = &some_blocks};
static const ad_linattn_shape linear_all = {4, 2, 6, 0, 30}, linear_far = {3, 1, 16, 5, 30};
static const ad_ssd_shape ssd = {.n_head = 4, .dim = 5, .n_group = 2, .n_state = 7};

static var *attend(tape *t, var *const *x, const void *arg) { return ad_attention(t, x[0], x[1], x[2], arg, &seqs); }
static var *attend_sinks(tape *t, var *const *x, const void *arg) {
    ad_attn o = *(const ad_attn *)arg;
    o.sinks = x[3];
    return ad_attention(t, x[0], x[1], x[2], &o, &seqs);
}
/* Rows and the logarithms of their denominators side by side. */
static var *attend_lse(tape *t, var *const *x, const void *arg) {
    ad_attn o = *(const ad_attn *)arg;
    var *two[2];
    o.lse = &two[1];
    if (o.n_head == 4) o.sinks = x[3];
    two[0] = ad_attention(t, x[0], x[1], x[2], &o, &seqs);
    return two[0] ? ad_join(t, two, 2) : NULL;
}
static var *attend_linearly(tape *t, var *const *x, const void *arg) {
    var *two[2];
    two[0] = ad_linattn(t, x[0], x[1], x[2], arg, &seqs, &two[1]);
    return two[0] ? ad_join(t, (var *[]){two[0], ad_softcap(t, two[1], 30)}, 2) : NULL;
}
static var *act(tape *t, var *const *x, const void *arg) { return ad_act(t, *(const act_fn *)arg, x[0]); }
static var *act_mul(tape *t, var *const *x, const void *arg) { return ad_act_mul(t, *(const act_fn *)arg, x[0], x[1]); }
static var *halves(tape *t, var *const *x, const void *arg) {
    (void)arg;
    var *two[2] = {ad_cols(t, x[0], 3, 4), ad_cols(t, x[0], 0, 5)};
    return ad_join(t, two, 2);
}
static var *stacked(tape *t, var *const *x, const void *arg) {
    (void)arg;
    var *three[3] = {x[0], x[1], x[0]};
    return ad_stack(t, three, 3);
}
static var *square(tape *t, var *x) { return ad_mul(t, x, x); }
/* Each expert scales its tokens by a row of its own. */
static var *experts(tape *t, var *const *x, const void *arg) {
    const ad_route_opts *o = arg;
    static int32_t who[64];
    ad_route *r = ad_router(t, x[0], o);
    if (!r) return NULL;
    for (size_t e = 0, at = 0; e < x[0]->cols; e++)
        for (size_t k = 0; k < r->count[e]; k++) who[at++] = (int32_t)e;
    size_t n = x[0]->rows * o->n_used;
    return ad_gather(t, ad_mul(t, ad_rows(t, x[1], r->token, n), ad_rows(t, x[2], who, n)), r, x[0]->rows);
}
static var *cross_entropy(tape *t, var *const *x, const void *arg) {
    static const int32_t targets[] = {2, -1, 0, 9, 5, 5};
    static const float weights[] = {1, 1, 0.5f, 0, 2, 1};
    const ad_head *shape = arg;
    ad_head head = {.w = x[1], .b = x[2], .scale = shape->scale, .softcap = shape->softcap};
    return ad_cross_entropy(t, x[0], &head, &(ad_targets){.target = targets, .weights = weights, .z_loss = 0.01f, .fused = shape->softcap > 0 ? 1 : 0});
}
static var *segment(tape *t, const void *arg, var *x) {
    var *const *w = arg;
    return ad_add(t, x, ad_act(t, ACT_SILU, ad_linear(t, x, *w)));
}
static var *again(tape *t, var *const *x, const void *arg) {
    (void)arg;
    var *y = x[0];
    for (int i = 0; i < 3; i++) y = tape_checkpoint(t, segment, &x[1], sizeof x[1], y);
    return y;
}
OP(linear, ad_linear(t, x[0], x[1]))
OP(matmul, ad_matmul(t, x[0], x[1]))
OP(add_row, ad_add_row(t, x[0], x[1]))
OP(rows, ad_rows(t, x[0], some_rows, COUNT_OF(some_rows)))
OP(rms, ad_rms_norm(t, x[0], x[1], NULL, x[0]->cols, 1e-5f))
OP(rms_heads, ad_rms_norm(t, x[0], x[1], NULL, 6, 1e-5f))
OP(rms_groups, ad_rms_norm(t, x[0], x[1], x[2], 6, 1e-5f))
OP(rms_bare, ad_rms_norm(t, x[0], NULL, NULL, 6, 1e-5f))
OP(layer, ad_layer_norm(t, x[0], x[1], x[2], x[0]->cols, 1e-5f))
OP(sum, ad_add_scaled(t, x[0], x[1], -0.7f))
OP(scaled, ad_scale(t, x[0], -0.7f))
OP(product, ad_mul(t, x[0], x[1]))
OP(square, square(t, x[0]))
OP(by_row, ad_mul_row(t, x[0], x[1]))
OP(by_col, ad_mul_col(t, x[0], x[1]))
OP(cap, ad_softcap(t, x[0], 1.5f))
OP(clamp, ad_clamp(t, x[0], 1))
OP(view, ad_linear(t, x[0], tape_view(t, x[1], 6, 3, 6)))
OP(rope, ad_rope(t, x[0], 10, 8, turns, false))
OP(rope_halves, ad_rope(t, x[0], 10, 8, turns, true))
OP(conv, ad_conv(t, x[0], x[1], x[2], &seqs))
OP(ssd, ad_ssd(t, x[0], ad_act(t, ACT_SOFTPLUS, x[1]), x[2], x[3], x[4], x[5], &ssd, &seqs))

static const act_fn acts[] = {ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACT_RELU, ACT_RELU2, ACT_SIGMOID, ACT_SOFTPLUS, ACT_TANH, ACT_GELU_QUICK, ACT_SWIGLU_OAI};
static const ad_route_opts softmax_norm = {.n_used = 2, .gating = GATE_SOFTMAX, .norm = true, .scale = 1.5f}, sigmoid_plain = {.n_used = 3, .gating = GATE_SIGMOID, .scale = 1},
                           topk = {.n_used = 2, .gating = GATE_SOFTMAX_TOPK, .scale = 1}, softmax_plain = {.n_used = 2, .gating = GATE_SOFTMAX, .scale = 1};
static const ad_head plain_head = {.scale = 1.3f}, capped_head = {.scale = 1.3f, .softcap = 3};

#define IN(r, c) {.rows = (r), .cols = (c)}
static const grad_case cases[] = {
    {.name = "linear", .fn = f_linear, .n = 2, .in = {IN(5, 37), IN(19, 37)}},
    {.name = "matmul", .fn = f_matmul, .n = 2, .in = {IN(5, 37), IN(37, 19)}},
    {.name = "add row", .fn = f_add_row, .n = 2, .in = {IN(5, 33), IN(1, 33)}},
    {.name = "rows, some twice", .fn = f_rows, .n = 1, .in = {IN(5, 33)}},
    {.name = "view of a weight", .fn = f_view, .n = 2, .in = {IN(5, 6), IN(7, 6)}},
    {.name = "rms norm", .fn = f_rms, .n = 2, .in = {IN(9, 30), IN(1, 30)}},
    {.name = "rms norm of heads", .fn = f_rms_heads, .n = 2, .in = {IN(9, 30), IN(1, 6)}},
    {.name = "rms norm, own weights for each head", .fn = f_rms_groups, .n = 3, .in = {IN(9, 30), IN(1, 30), IN(1, 30)}},
    {.name = "rms norm without weights", .fn = f_rms_bare, .n = 1, .in = {IN(9, 30)}},
    {.name = "layer norm", .fn = f_layer, .n = 3, .in = {IN(9, 30), IN(1, 30), IN(1, 30)}},
    {.name = "silu", .fn = act, .arg = &acts[0], .n = 1, .in = {IN(3, 700)}},
    {.name = "gelu", .fn = act, .arg = &acts[1], .n = 1, .in = {IN(3, 700)}},
    {.name = "gelu tanh", .fn = act, .arg = &acts[2], .n = 1, .in = {IN(3, 700)}},
    {.name = "relu", .fn = act, .arg = &acts[3], .n = 1, .in = {IN(3, 300)}, .step = 1e-3f, .bar = 2e-2},
    {.name = "relu2", .fn = act, .arg = &acts[4], .n = 1, .in = {IN(3, 700)}},
    {.name = "sigmoid", .fn = act, .arg = &acts[5], .n = 1, .in = {IN(3, 700)}},
    {.name = "softplus", .fn = act, .arg = &acts[6], .n = 1, .in = {IN(3, 700)}},
    {.name = "tanh", .fn = act, .arg = &acts[7], .n = 1, .in = {IN(3, 700)}},
    {.name = "quick gelu", .fn = act, .arg = &acts[8], .n = 1, .in = {IN(3, 700)}},
    {.name = "silu · up", .fn = act_mul, .arg = &acts[0], .n = 2, .in = {IN(3, 700), IN(3, 700)}},
    {.name = "gpt-oss's gate · up", .fn = act_mul, .arg = &acts[9], .n = 2, .in = {IN(3, 700), IN(3, 700)}},
    {.name = "sum", .fn = f_sum, .n = 2, .in = {IN(3, 500), IN(3, 500)}},
    {.name = "scale", .fn = f_scaled, .n = 1, .in = {IN(3, 500)}},
    {.name = "product", .fn = f_product, .n = 2, .in = {IN(3, 500), IN(3, 500)}},
    {.name = "product with itself", .fn = f_square, .n = 1, .in = {IN(3, 500)}},
    {.name = "product with a row", .fn = f_by_row, .n = 2, .in = {IN(9, 50), IN(1, 50)}},
    {.name = "product with a column", .fn = f_by_col, .n = 2, .in = {IN(9, 50), IN(9, 1)}},
    {.name = "soft cap", .fn = f_cap, .n = 1, .in = {IN(3, 500)}},
    {.name = "clamp", .fn = f_clamp, .n = 1, .in = {IN(3, 300)}, .step = 1e-3f, .bar = 2e-2},
    {.name = "columns", .fn = halves, .n = 1, .in = {IN(9, 8)}},
    {.name = "stack", .fn = stacked, .n = 2, .in = {IN(3, 8), IN(4, 8)}},
    {.name = "rope, pairs", .fn = f_rope, .n = 1, .in = {IN(N, 20)}},
    {.name = "rope, halves", .fn = f_rope_halves, .n = 1, .in = {IN(N, 20)}},
    {.name = "attention, grouped queries", .fn = attend, .arg = &attn_full, .n = 3, .in = {IN(N, 32), IN(N, 16), IN(N, 12)}},
    {.name = "attention, window and cap", .fn = attend, .arg = &attn_odd, .n = 3, .in = {IN(N, 24), IN(N, 8), IN(N, 8)}},
    {.name = "attention, alibi, all seen", .fn = attend, .arg = &attn_alibi, .n = 3, .in = {IN(N, 24), IN(N, 24), IN(N, 24)}},
    {.name = "attention with sinks", .fn = attend_sinks, .arg = &attn_full, .n = 4, .in = {IN(N, 32), IN(N, 16), IN(N, 12), IN(1, 4)}},
    {.name = "attention and its logarithms, with sinks", .fn = attend_lse, .arg = &attn_full, .n = 4, .in = {IN(N, 32), IN(N, 16), IN(N, 12), IN(1, 4)}},
    {.name = "attention and its logarithms, window and cap", .fn = attend_lse, .arg = &attn_odd, .n = 3, .in = {IN(N, 24), IN(N, 8), IN(N, 8)}},
    {.name = "attention, blocks chosen by the query", .fn = attend, .arg = &attn_some, .n = 3, .in = {IN(N, 32), IN(N, 16), IN(N, 12)}, .step = 1e-3f, .bar = 5e-3},
    {.name = "linear attention", .fn = attend_linearly, .arg = &linear_all, .n = 3, .in = {IN(N, 28), IN(N, 14), IN(N, 12)}},
    {.name = "linear attention behind a window", .fn = attend_linearly, .arg = &linear_far, .n = 3, .in = {IN(N, 21), IN(N, 7), IN(N, 16)}},
    {.name = "convolution", .fn = f_conv, .n = 3, .in = {IN(N, 40), IN(40, 4), IN(1, 40)}},
    {.name = "mamba-2", .fn = f_ssd, .n = 6, .in = {IN(N, 20), IN(N, 4), {.rows = 1, .cols = 4, .scale = 0.3f, .offset = -1}, IN(N, 14), IN(N, 14), IN(1, 4)}, .bar = 3e-3},
    {.name = "experts, softmax, normed", .fn = experts, .arg = &softmax_norm, .n = 3, .in = {IN(8, 5), IN(8, 9), IN(5, 9)}, .step = 1e-3f, .bar = 5e-3},
    {.name = "experts, softmax", .fn = experts, .arg = &softmax_plain, .n = 3, .in = {IN(8, 5), IN(8, 9), IN(5, 9)}, .step = 1e-3f, .bar = 5e-3},
    {.name = "experts, sigmoid", .fn = experts, .arg = &sigmoid_plain, .n = 3, .in = {IN(8, 5), IN(8, 9), IN(5, 9)}, .step = 1e-3f, .bar = 5e-3},
    {.name = "experts, softmax of the chosen", .fn = experts, .arg = &topk, .n = 3, .in = {IN(8, 5), IN(8, 9), IN(5, 9)}, .step = 1e-3f, .bar = 5e-3},
    {.name = "head and cross-entropy", .fn = cross_entropy, .arg = &plain_head, .n = 3, .in = {IN(6, 14), IN(11, 14), IN(1, 11)}},
    {.name = "head, cap, cross-entropy, made forward", .fn = cross_entropy, .arg = &capped_head, .n = 3, .in = {IN(6, 14), IN(11, 14), IN(1, 11)}},
    {.name = "layers computed again", .fn = again, .n = 2, .in = {IN(5, 16), {.rows = 16, .cols = 16, .scale = 0.3f}}},
};

static void test_gradients(void **unused) {
    (void)unused;
    lay_out();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const grad_case *c = &cases[i];
        double bar = c->bar > 0 ? c->bar : 1e-3, worst = grad_check(c, 3);
        char got[40], want[40];
        (void)snprintf(got, sizeof got, "off by %.1e", worst);
        (void)snprintf(want, sizeof want, "%.0e", bar);
        if (report) report_row("gradient", c->name, got, want, worst <= bar ? "ok" : "FAIL", "-", "finite differences");
        if (!(worst <= bar)) fail_msg("%s: %s, bar %s", c->name, got, want);
    }
}

/* ---- the tape ---- */
struct world {
    pool *p;
    const struct kern_table *kern;
    tape *t;
};

static struct world open_world(size_t max_bytes) {
    struct world w = {0};
    w.kern = tensor_kernels_open(CPU_ALL);
    assert_int_equal(pool_open(&w.p, 2, NULL), MOTE_OK);
    assert_int_equal(tape_open(&w.t, &(tape_opts){.pool = w.p, .kern = w.kern, .max_bytes = max_bytes}, NULL), MOTE_OK);
    return w;
}

static void close_world(struct world *w) {
    tape_close(&w->t);
    pool_close(&w->p);
    tensor_kernels_close(&w->kern);
}

/* Beyond its limit the tape says so, once, and goes on after a reset. */
static void test_memory(void **unused) {
    (void)unused;
    struct world w = open_world((size_t)64 << 20);
    mote_error err = {0};
    var *x = tape_var(w.t, 1024, 1024, true);
    assert_non_null(x);
    for (int i = 0; i < 100 && x; i++) x = ad_scale(w.t, x, 1);
    assert_null(x);
    assert_null(ad_add(w.t, x, x));
    assert_int_equal(tape_status(w.t, &err), MOTE_E_MEMORY);
    assert_non_null(strstr(err.message, "checkpointing"));
    tape_back(w.t, x, 1);
    tape_reset(w.t);
    assert_int_equal(tape_status(w.t, &err), MOTE_OK);
    assert_non_null(tape_var(w.t, 1024, 1024, true));
    close_world(&w);
}

/* Paused, nothing is noted; a loss whose weight was declared otherwise is a fault, never a wrong gradient. */
static void test_pause_and_fault(void **unused) {
    (void)unused;
    struct world w = open_world(0);
    static const int32_t target[] = {1, 0};
    float room[64];
    var *x = tape_var(w.t, 2, 8, true);
    assert_non_null(x);
    memset(x->x, 0, 16 * sizeof(float));
    tape_pause(w.t);
    var *y = ad_scale(w.t, x, 2);
    assert_false(y->wants);
    tape_resume(w.t);
    assert_true(ad_scale(w.t, x, 2)->wants);
    var table = {.rows = 4, .cols = 8, .x = room, .room = room + 32, .wants = true};
    memset(room, 0, sizeof room);
    ad_head head = {.w = &table, .scale = 1};
    var *loss = ad_cross_entropy(w.t, x, &head, &(ad_targets){.target = target, .fused = 1});
    assert_float_equal(*loss->x, logf(4), 1e-6);
    tape_back(w.t, loss, 0.5f);
    assert_int_equal(tape_status(w.t, NULL), MOTE_E_INTERNAL);
    close_world(&w);
}

/* Gradients of two passes add up in a parameter's own room. */
static void test_accumulation(void **unused) {
    (void)unused;
    struct world w = open_world(0);
    float values[3] = {1, 2, 3}, room[3];
    var p = {.rows = 1, .cols = 3, .x = values, .room = room, .wants = true};
    for (int pass = 1; pass <= 2; pass++) {
        tape_reset(w.t);
        var *one = tape_var(w.t, 1, 3, false);
        for (int i = 0; i < 3; i++) one->x[i] = 1;
        tape_back(w.t, ad_linear(w.t, one, &p), 1);
        for (int i = 0; i < 3; i++) assert_float_equal(room[i], (float)pass, 0);
    }
    assert_ptr_equal(p.g, room);
    close_world(&w);
}

int main(int argc, char **argv) {
    report = report_wanted(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_pause_and_fault),
        cmocka_unit_test(test_accumulation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
