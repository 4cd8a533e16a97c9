/* kern_train_test.c: rows of training on every rung against the scalar ones: odd sizes, adding and setting, parts that are not
 * wanted, buffers that end at a guard page. Sums and AdamW's update must be the same bits on all rungs. */
#include "kern/check.h"
#include "kernel/generic/ref.h"

static const size_t sizes[] = {1, 5, 15, 16, 17, 33, 64, 100, 129};
enum { ROWS = 8, WAYS = 16 };

/* Rows of n numbers, twice the same. */
typedef struct rows {
    guarded a[ROWS], b[ROWS];
    size_t n;
} rows;
static rows make_rows(size_t n, float scale) {
    rows s = {.n = n};
    rng r;
    rng_seed(&r, check.seed, n);
    for (int i = 0; i < ROWS; i++) {
        s.a[i] = guarded_floats(n, &r, scale);
        s.b[i] = guarded_new(n * sizeof(float));
        memcpy(s.b[i].p, s.a[i].p, n * sizeof(float));
    }
    return s;
}
/* The worst error of rows [0, n_out); all are dropped. */
static double end_rows(rows *s, int n_out) {
    double worst = 0;
    for (int i = 0; i < ROWS; i++) {
        if (i < n_out) worst = fmax(worst, error_of(floats(&s->b[i]), floats(&s->a[i]), s->n));
        guarded_free(&s->a[i]);
        guarded_free(&s->b[i]);
    }
    return worst;
}

static void soft_rows(const kern_train *t, guarded *r, size_t n) {
    floats(&r[2])[0] = t->exp_scaled(floats(&r[1]), 0.3f, 0.7f, n);
    t->soft_back(&(kern_soft_back){floats(&r[0]), floats(&r[3]), n, 0.4f, 1.1f, 0.2f, 0.5f});
}
static double check_soft(const kern_train *ref, const kern_train *t) {
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        rows s = make_rows(sizes[i], 4);
        soft_rows(ref, s.a, s.n);
        soft_rows(t, s.b, s.n);
        worst = fmax(worst, end_rows(&s, 4));
    }
    return worst;
}

/* Ways: up or not, add or set, either gradient not wanted. */
static void act_rows(const kern_train *t, guarded *r, size_t n, act_fn f, int way) {
    t->act_back(&(kern_act_back){.f = f, .x = floats(&r[2]), .up = way & 1 ? floats(&r[3]) : NULL, .dy = floats(&r[4]), .n = n,
                                 .gx = way & 2 ? NULL : floats(&r[0]), .gup = way & 4 ? NULL : floats(&r[1]), .add_x = way & 8, .add_up = way & 8});
}
/* Where a slope is nearly 0, as 1 - tanh^2 far out, the last bit of tanh is 1e-5 of it and more, and a row of one number
 * may be just that: hence the bar of 1e-8 (an error of 1e-4 of the number). */
static double check_act(const kern_train *ref, const kern_train *t, act_fn f) {
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (int way = 0; way < WAYS; way++) {
            rows s = make_rows(sizes[i], 3);
            act_rows(ref, s.a, s.n, f, way);
            act_rows(t, s.b, s.n, f, way);
            worst = fmax(worst, end_rows(&s, 2));
        }
    return worst;
}

static void norm_rows(const kern_train *t, guarded *r, size_t n, int way) {
    kern_norm k = {.x = floats(&r[4]), .w = way & 1 ? floats(&r[5]) : NULL, .n = n, .centred = way & 2};
    t->norm(&k, floats(&r[0]), way & 4 ? floats(&r[6]) : NULL, 1e-5f);
    t->norm_back(&k, floats(&r[1]), floats(&r[7]), way & 8);
    t->norm_sums(&k, way & 4 ? NULL : floats(&r[2]), way & 8 ? NULL : floats(&r[3]), floats(&r[7]));
}
static double check_norm(const kern_train *ref, const kern_train *t) {
    double worst = 0;
    for (size_t i = 2; i < COUNT_OF(sizes); i++)
        for (int way = 0; way < WAYS; way++) {
            rows s = make_rows(sizes[i], 2);
            norm_rows(ref, s.a, s.n, way);
            norm_rows(t, s.b, s.n, way);
            worst = fmax(worst, end_rows(&s, 4));
        }
    return worst;
}

static double check_sum(const kern_train *ref, const kern_train *t) {
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        rows s = make_rows(sizes[i], 2);
        ref->sum(floats(&s.a[0]), floats(&s.a[1]), floats(&s.a[2]), 0.3f, s.n);
        t->sum(floats(&s.b[0]), floats(&s.b[1]), floats(&s.b[2]), 0.3f, s.n);
        worst = fmax(worst, end_rows(&s, 1));
    }
    return worst;
}

static void adamw_rows(const kern_train *t, guarded *r, size_t n) {
    for (size_t i = 0; i < n; i++) floats(&r[2])[i] = fabsf(floats(&r[2])[i]);
    t->adamw(&(kern_adamw){floats(&r[0]), floats(&r[1]), floats(&r[2]), floats(&r[3]), n, 0.7f, 0.999f, 0.1f, 0.95f, 0.05f, 0.31f, 1e-8f, 3e-3f});
}
static double check_adamw(const kern_train *ref, const kern_train *t) {
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        rows s = make_rows(sizes[i], 2);
        adamw_rows(ref, s.a, s.n);
        adamw_rows(t, s.b, s.n);
        worst = fmax(worst, end_rows(&s, 3));
    }
    return worst;
}

/* ns of a row of 4096. */
static double time_of(const kern_train *t, const char *name, act_fn f) {
    enum { N = 4096 };
    static float x[8][N];
    double ns = 0;
    kern_norm k = {.x = x[0], .w = x[1], .n = N};
    for (int i = 0; i < N; i++) x[0][i] = (float)(i % 7) - 3, x[1][i] = 1;
    if (strcmp(name, "softmax back") == 0) TIME_NS(ns, t->soft_back(&(kern_soft_back){x[2], x[3], N, 0.1f, 1, 0, 1}));
    else if (strncmp(name, "act", 3) == 0)
        TIME_NS(ns, t->act_back(&(kern_act_back){f, x[0], x[1], x[1], x[4], x[5], N, false, false}));
    else if (strcmp(name, "norm back") == 0) TIME_NS(ns, t->norm_back(&k, x[4], x[0], false));
    else if (strcmp(name, "sum") == 0) TIME_NS(ns, t->sum(x[4], x[0], x[1], 1, N));
    else if (strcmp(name, "adamw") == 0) TIME_NS(ns, t->adamw(&(kern_adamw){x[4], x[5], x[6], x[0], N, 1, 1, 0.1f, 0.9f, 0.1f, 1, 1e-8f, 1e-9f}));
    return ns;
}

static void judge(const kern_train *ref, const kern_train *t, const char *name, act_fn f, double error, double bar) {
    char speed[64] = "", full[64];
    double ratio = 0;
    (void)snprintf(full, sizeof full, "train %s", name);
    if (check.bench || check.report) {
        const double ns = time_of(t, name, f);
        ratio = time_of(ref, name, f) / ns;
        (void)snprintf(speed, sizeof speed, "%9.0f ns, %.1fx scalar", ns, ratio);
    }
    verdict(full, error, bar, ratio, speed);
}

static void check_rung(const kern_table *ref, const kern_table *before, const kern_table *t) {
    static const char *const acts[] = {"none", "silu",    "gelu",     "gelu tanh", "relu",       "relu2",
                                       "sigmoid", "softplus", "tanh", "gelu quick"};
    const kern_train *r = &ref->train, *k = &t->train;
    if (k->adamw == r->adamw || k->adamw == before->train.adamw) return;
    (void)snprintf(check.what, sizeof check.what, "rows of training, %s", check.rung);
    judge(r, k, "softmax back", ACT_NONE, check_soft(r, k), 1e-12);
    for (size_t f = 0; f < COUNT_OF(acts); f++) {
        char name[40];
        (void)snprintf(name, sizeof name, "act %s back", acts[f]);
        judge(r, k, name, (act_fn)f, check_act(r, k, (act_fn)f), 1e-8);
    }
    judge(r, k, "norm back", ACT_NONE, check_norm(r, k), 1e-11);
    judge(r, k, "sum", ACT_NONE, check_sum(r, k), 0);
    judge(r, k, "adamw", ACT_NONE, check_adamw(r, k), 0);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    return each_rung(check_rung);
}
