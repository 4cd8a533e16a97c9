/* distil_run_test.c: runs of distillation from their options to the file, on small made-up models: every way to get rows, every loss, a
 * run in two parts, and what is refused. */
#include "../tiny_model.h"
#include "base/base.h"
#include "compress/distill_run.h"
#include "compress/pruning.h"
#include "model/model.h"
#include "token/token.h"
#include "train/distil_int.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"

#include "ok.h"

static char student[256], teacher[256], other[256], text[256], out[256], again[256], cache[256];
static const mote_train_source files[] = {{.path = text}};

static mote_distill_options options(const char *to) {
    return (mote_distill_options){.settings = {.steps = 6, .n_ctx = 32, .batch = 4, .micro_batch = 2, .lr = 3e-3, .seed = 3, .precision = "f32", .n_threads = 1, .dir = ""},
                                  .student = student, .teacher = teacher, .out = to, .out_type = "f32", .data = files, .n_data = 1, .held_out = 0.2};
}

static void expect_better(const mote_distill_options *o, const char *what) {
    mote_distill_report r;
    OK(compress_distill(o, &r, &e_));
    assert_true(r.finished && r.steps == o->settings.steps && r.bytes > 0);
    if (!(r.divergence < r.divergence_before)) fail_msg("%s: divergence from %.5f to %.5f", what, r.divergence_before, r.divergence);
}

static void every_loss_brings_the_student_nearer(void **unused) {
    (void)unused;
    static const char *const losses[] = {"kl", "rkl", "jsd", "kl=1,ce=0.2", "kl,hidden=0.5@0-0.5", "kl,cosine=0.5,relation=0.5", "hidden@0-0.3,kl@0.3-0.7,rkl@0.7-1", "kl,attn=0.2,ffn=0.2", "attn=0.5,ffn=0.5@0-0.5,kl"};
    for (size_t i = 0; i < COUNT_OF(losses); i++) {
        mote_distill_options o = options(out);
        o.loss = losses[i];
        o.temperature = i == 0 ? 2 : 1;
        if (strstr(losses[i], "attn")) o.layer_map = "1:1,2:2";
        expect_better(&o, losses[i]);
    }
}

struct losses {
    double first, last;
};
static void note_loss(void *ctx, const mote_train_progress *p) {
    struct losses *l = ctx;
    if (p->step == 1) l->first = p->loss;
    l->last = p->loss;
}

/* By themselves feature maps bring the student's nearer to the teacher's, with a projection where widths differ. */
static void feature_maps_come_nearer(void **unused) {
    (void)unused;
    char wide[256];
    (void)snprintf(wide, sizeof wide, "%s/maps.gguf", folder);
    OK(tiny_model_write(wide, &(tiny_opts){.times = 2, .seed = 4}, &e_));
    const char *const teachers[] = {teacher, wide}, *const losses[] = {"attn", "ffn"};
    for (size_t i = 0; i < 4; i++) {
        mote_distill_options o = options(out);
        struct losses l = {0};
        o.teacher = teachers[i / 2];
        o.loss = losses[i % 2];
        o.settings.steps = 12;
        o.callbacks = (mote_train_callbacks){.ctx = &l, .progress = note_loss};
        OK(compress_distill(&o, NULL, &e_));
        if (!(l.last < 0.95 * l.first)) fail_msg("%s: from %.5f to %.5f", losses[i % 2], l.first, l.last);
    }
}

static void every_source_of_rows_teaches(void **unused) {
    (void)unused;
    mote_distill_options o = options(out);
    o.on_policy = 1;
    o.loss = "jsd";
    o.on_policy_ahead = 2;
    expect_better(&o, "on-policy");
    o = options(out);
    o.generate = 600;
    char dir[300];
    (void)snprintf(dir, sizeof dir, "%s/generated.run", folder);
    o.settings.dir = dir;
    expect_better(&o, "generated");
    static const char *const selects[] = {"loss", "diverse", "both", "random", "active"};
    for (size_t i = 0; i < COUNT_OF(selects); i++) {
        o = options(out);
        o.select = selects[i];
        o.select_every = 3;
        o.keep = 0.5;
        expect_better(&o, selects[i]);
    }
}

static void likeliest_tokens_in_a_file_serve_as_well(void **unused) {
    (void)unused;
    mote_distill_options o = options(NULL);
    mote_distill_report r;
    o.student = NULL;
    o.write_cache = cache;
    o.top_k = 40;
    OK(compress_distill(&o, &r, &e_));
    assert_true(r.cached_tokens > 500 && r.bytes > r.rows * 40 * 4);
    o = options(out);
    o.teacher = NULL;
    o.cache = cache;
    o.n_data = 0;
    OK(compress_distill(&o, &r, &e_));
    /* how near it came: by the text itself */
    mote_distill_options look = options(again);
    mote_distill_report before, after;
    look.settings.steps = 1;
    look.settings.lr = 1e-12;
    OK(compress_distill(&look, &before, &e_));
    look.student = out;
    OK(compress_distill(&look, &after, &e_));
    assert_true(after.divergence < before.divergence);
    o.temperature = 2;
    mote_error e;
    assert_int_equal(compress_distill(&o, NULL, &e), MOTE_E_MISMATCH);
    o.temperature = 1;
    o.loss = "rkl";
    assert_int_equal(compress_distill(&o, NULL, &e), MOTE_E_USAGE);
}

static void same_bytes(const char *a, const char *b) {
    file_map x, y;
    OK(file_open(&x, a, FILE_READ, &e_));
    OK(file_open(&y, b, FILE_READ, &e_));
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.p, y.p, x.n);
    file_close(&x);
    file_close(&y);
}

struct stopping {
    uint64_t at, step;
};
static void count_step(void *ctx, const mote_train_progress *p) { ((struct stopping *)ctx)->step = p->step; }
static bool stop_there(void *ctx) {
    const struct stopping *s = ctx;
    return s->step == s->at;
}

static void a_run_in_two_parts_is_the_same_run(void **unused) {
    (void)unused;
    for (int kind = 0; kind < 3; kind++) {
        mote_distill_options o = options(out);
        o.loss = "kl,hidden=0.2";
        if (kind == 1) o.qat = (mote_qat_options){.type = "Q4_0"};
        if (kind == 2) {
            o.on_policy = 0.6;
            o.select = "active";
            o.select_every = 2;
            o.loss = "jsd";
        }
        if (kind == 1) o.out_type = NULL;
        OK(compress_distill(&o, NULL, &e_));
        char dir[300];
        (void)snprintf(dir, sizeof dir, "%s/parts%d.run", folder, kind);
        struct stopping s = {.at = 3};
        mote_distill_report r;
        o.settings.dir = dir;
        o.out = again;
        o.callbacks = (mote_train_callbacks){.ctx = &s, .progress = count_step, .stop = stop_there};
        assert_int_equal(compress_distill(&o, NULL, NULL), MOTE_E_CANCELLED);
        o.callbacks = (mote_train_callbacks){0};
        OK(compress_distill(&o, &r, &e_));
        assert_int_equal(r.resumed_at, 3);
        same_bytes(out, again);
        o.temperature = 3;
        assert_int_equal(compress_distill(&o, NULL, NULL), MOTE_E_MISMATCH); /* another run's checkpoint */
    }
}

static mote_distill_options stable_options(void) {
    mote_distill_options o = options(out);
    o.settings.schedule = "wsd";
    o.settings.warmup = 1;
    o.settings.decay = 2;
    return o;
}

/* Before the learning rate falls, a run may be made shorter or longer: it is the run of that length. */
static void the_length_is_open_until_the_decay(void **unused) {
    (void)unused;
    mote_distill_options o = stable_options();
    char dir[300];
    struct stopping s = {.at = 3};
    mote_distill_report r;
    OK(compress_distill(&o, NULL, &e_)); /* of 6 steps */
    (void)snprintf(dir, sizeof dir, "%s/open.run", folder);
    o.settings.dir = dir;
    o.settings.steps = 40;
    o.out = again;
    o.callbacks = (mote_train_callbacks){.ctx = &s, .progress = count_step, .stop = stop_there};
    assert_int_equal(compress_distill(&o, NULL, NULL), MOTE_E_CANCELLED);
    o.callbacks = (mote_train_callbacks){0};
    o.settings.steps = 4; /* at step 3 the rate would fall already */
    assert_int_equal(compress_distill(&o, NULL, NULL), MOTE_E_MISMATCH);
    o.settings.steps = 6;
    OK(compress_distill(&o, &r, &e_));
    assert_int_equal(r.resumed_at, 3);
    same_bytes(out, again);
    o.settings.steps = 40; /* its end is behind it */
    assert_int_equal(compress_distill(&o, NULL, NULL), MOTE_E_MISMATCH);
}

/* A run after another one begins with its unrounded weights: without a step of its own to speak of, it writes the same model. */
static void a_run_begins_after_another(void **unused) {
    (void)unused;
    char first[300], dir[320];
    (void)snprintf(first, sizeof first, "%s/first.gguf", folder);
    (void)snprintf(dir, sizeof dir, "%s.run", first);
    for (int packed = 0; packed < 2; packed++) {
        mote_distill_options o = options(first);
        mote_distill_report r;
        if (packed) o.qat = (mote_qat_options){.type = "Q2_0", .pure = true};
        if (packed) o.out_type = NULL;
        o.settings.dir = dir;
        OK(compress_distill(&o, &r, &e_));
        const double reached = r.divergence;
        o.settings.dir = "";
        o.settings.steps = 1;
        o.settings.lr = 1e-12;
        o.out = again;
        OK(compress_distill(&o, &r, &e_));
        assert_true(fabs(r.divergence - reached) > 1e-6);
        o.after = first;
        OK(compress_distill(&o, &r, &e_));
        assert_true(fabs(r.divergence_before - reached) < 1e-6 && fabs(r.divergence - reached) < 1e-6);
        if (packed) same_bytes(first, again);
        o.after = out; /* left no folder */
        assert_int_equal(compress_distill(&o, NULL, NULL), MOTE_E_NOT_FOUND);
        o.after = first;
        o.qat = (mote_qat_options){.type = packed ? "Q4_0" : "Q2_0", .pure = true};
        o.out_type = NULL;
        OK(compress_distill(&o, &r, &e_)); /* the weights are taken over, other formats' scales fitted to them */
        assert_true(fabs(r.divergence_before - reached) > 1e-6);
        char command[400];
        (void)snprintf(command, sizeof command, "rm -rf %s", dir);
        assert_int_equal(system(command), 0);
    }
}

/* Formats of more bits begin where those of fewer bits ended: exactly where they have all of their levels, else nearly; those of fewer bits with what they can hold. */
static void more_bits_begin_where_fewer_ended(void **unused) {
    (void)unused;
    static const struct {
        const char *first, *then;
        bool wide;
        double most; /* of what the first run gained */
    } cases[] = {{"Q4_0", "Q5_0", false, 1e-6}, {"Q3_96", "Q4_96", true, 1e-6}, {"Q4_1", "Q8_0", false, 0.05}, {"Q2_96", "Q4_96", true, 0.3}, {"Q4_96", "Q3_96", true, 1e9}, {"Q4_0", "Q6_K", true, 1e9}};
    char wide[300], dir[320];
    (void)snprintf(wide, sizeof wide, "%s/wide.gguf", folder);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        mote_distill_report r, next;
        char path[300];
        (void)snprintf(path, sizeof path, "%s/bits.gguf", folder);
        OK(tiny_model_write(wide, &(tiny_opts){.seed = 1, .times = strcmp(cases[i].then, "Q6_K") == 0 ? 4 : 3}, &e_));
        mote_distill_options o = options(path);
        if (cases[i].wide) o.student = wide;
        o.out_type = NULL;
        o.qat = (mote_qat_options){.type = cases[i].first, .pure = true};
        (void)snprintf(dir, sizeof dir, "%s.run", path);
        o.settings.dir = dir;
        OK(compress_distill(&o, &r, &e_));
        o.settings.dir = "";
        o.settings.steps = 1;
        o.settings.lr = 1e-12;
        o.qat.type = cases[i].then;
        o.after = path;
        o.out = again;
        OK(compress_distill(&o, &next, &e_));
        const double far = fabs(next.divergence_before - r.divergence), most = cases[i].most * (cases[i].most < 1e-3 ? 1 : fabs(r.divergence_before - r.divergence));
        if (!(far <= most)) fail_msg("%s after %s: %.6f, where that ended at %.6f (before: %.6f)", cases[i].then, cases[i].first, next.divergence_before, r.divergence, r.divergence_before);
        char command[400];
        (void)snprintf(command, sizeof command, "rm -rf %s", dir);
        assert_int_equal(system(command), 0);
    }
}

/* Quantization-aware: frozen tensors are written rounded, as others are, and only once. */
static void what_is_frozen_is_rounded_too(void **unused) {
    (void)unused;
    mote_distill_options o = options(out);
    o.qat = (mote_qat_options){.type = "Q4_1", .pure = true};
    o.out_type = NULL;
    o.settings.freeze = "attn_q|ffn_down";
    OK(compress_distill(&o, NULL, &e_));
    model_file *was, *is;
    OK(model_file_open(&was, student, 0, &e_));
    OK(model_file_open(&is, out, 0, &e_));
    for (size_t i = 0; i < model_file_n_tensors(is); i++) {
        const tensor_info *t = model_file_tensor(is, i);
        char name[128];
        (void)snprintf(name, sizeof name, "%.*s", STR_ARG(t->name));
        if (!strstr(name, ".attn_q.") && !strstr(name, "ffn_down")) continue;
        const tensor_info *u = model_file_find_tensor(was, name);
        assert_int_equal(t->type, QUANT_Q4_1);
        assert_true(u && u->type == QUANT_F32);
        unsigned char *row = malloc(t->size);
        quant_get(QUANT_Q4_1)->encode(row, (const float *)(const void *)u->data, (size_t)(t->ne[0] * t->ne[1]), NULL);
        assert_memory_equal(row, t->data, t->size);
        free(row);
    }
    model_file_close(&was), model_file_close(&is);
}

/* So are its rates: a stage that has not begun may be given, taken away or changed. */
static void later_rates_are_open(void **unused) {
    (void)unused;
    mote_distill_options o = stable_options();
    char dir[300];
    struct stopping s = {.at = 3};
    o.settings.lr_steps = "3=1e-3,5=5e-4";
    OK(compress_distill(&o, NULL, &e_));
    (void)snprintf(dir, sizeof dir, "%s/rates.run", folder);
    o.settings.dir = dir;
    o.out = again;
    o.settings.lr_steps = "4=1";
    o.callbacks = (mote_train_callbacks){.ctx = &s, .progress = count_step, .stop = stop_there};
    assert_int_equal(compress_distill(&o, NULL, NULL), MOTE_E_CANCELLED);
    o.callbacks = (mote_train_callbacks){0};
    o.settings.lr_steps = "2=1e-3"; /* step 3 was done at another rate */
    assert_int_equal(compress_distill(&o, NULL, NULL), MOTE_E_MISMATCH);
    o.settings.lr_steps = "3=1e-3,5=5e-4";
    OK(compress_distill(&o, NULL, &e_));
    same_bytes(out, again);
    static const char *const wrong[] = {"3", "3=", "=1", "-3=1e-3", "3=0", "3=-1", "3=nan", "3=1e-3,", "3=1e-3;4=1", "4=1,3=1", "3=1e9", "1=1,2=1,3=1,4=1,5=1,6=1,7=1,8=1,9=1"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        o.settings.lr_steps = wrong[i];
        const mote_status why = compress_distill(&o, NULL, NULL);
        if (why != MOTE_E_USAGE && why != MOTE_E_LIMIT) fail_msg("'%s' gave %d", wrong[i], (int)why);
    }
}

static void quantization_aware_training_gains_on_rounding(void **unused) {
    (void)unused;
    for (int scales = 0; scales < 2; scales++) {
        mote_distill_options o = options(out);
        o.teacher = NULL;
        o.out_type = NULL;
        o.qat = (mote_qat_options){.type = "Q2_0", .pure = true, .only_scales = scales};
        expect_better(&o, scales ? "scales" : "weights");
        model_file *f;
        OK(model_file_open(&f, out, 0, &e_));
        assert_int_equal(model_file_find_tensor(f, "blk.0.ffn_down.weight")->type, QUANT_Q2_0);
        model_file_close(&f);
    }
}

/* The other vocabulary is the same text in other pieces: what a border means is seen on the tokens themselves. */
static void borders_are_where_the_bytes_are(void **unused) {
    (void)unused;
    model_file *fa, *fb;
    tok_vocab *a, *b;
    OK(model_file_open(&fa, student, 0, &e_));
    OK(model_file_open(&fb, other, 0, &e_));
    OK(tok_open(&a, fa, NULL, &e_));
    OK(tok_open(&b, fb, NULL, &e_));
    assert_true(distil_same_vocab(a, b)); /* one is longer by tokens that are not used */
    distil_align *al;
    OK(distil_align_open(&al, a, b, &e_));
    assert_true(distil_align_shared(al) > 0.99);
    tok_ids ids = {0};
    OK(tok_encode(a, STR("hello the world, the end"), TOK_BOS, &ids, &e_));
    const uint32_t start[2] = {0, (uint32_t)ids.n};
    int32_t *pos = mem_calloc(ids.n, sizeof *pos);
    data_batch batch = {.seqs = {.n = ids.n, .n_seq = 1, .start = start, .pos = pos}, .ids = ids.p};
    distil_aligned x;
    OK(distil_align_batch(al, &batch, &x, &e_));
    assert_true(x.n + 2 >= ids.n && x.theirs.seqs.n >= ids.n - 1);
    for (size_t i = 0; i < x.n; i++) { /* the bytes up to both rows are the same */
        size_t ours = 0, theirs = 0;
        for (int32_t k = 0; k <= x.ours_at[i]; k++) ours += tok_piece(a, ids.p[k], 0).n;
        for (int32_t k = 0; k <= x.theirs_at[i]; k++) theirs += tok_piece(b, x.theirs.ids[k], 0).n;
        assert_true(theirs == ours || theirs == ours + 1);
    }
    mem_free(pos);
    tok_ids_free(&ids);
    distil_align_close(&al);
    tok_close(&a);
    tok_close(&b);
    model_file_close(&fa);
    model_file_close(&fb);
    mote_distill_options o = options(out);
    mote_distill_report r;
    o.teacher = other;
    o.align = true;
    o.loss = "kl=1,ce=0.1";
    OK(compress_distill(&o, &r, &e_));
    assert_true(r.finished && r.ce > 0 && r.shared_vocab > 0.99);
    o.loss = "uld=1,ce=0.1";
    OK(compress_distill(&o, &r, &e_));
    o.loss = "gold=1,ce=0.1";
    OK(compress_distill(&o, &r, &e_));
    assert_true(r.ce > 0);
}

/* Pieces of two tokens against one, one against three, two against two: the value by hand, the slopes by finite differences. */
static void spans_are_compared_by_the_chain_rule(void **unused) {
    (void)unused;
    enum { ROWS = 6, WIDE = 5, VOCAB = 9, THEIR_VOCAB = 7 };
    static const distil_span spans[] = {{0, 2, 0, 1}, {2, 1, 1, 3}, {3, 2, 4, 2}};
    const int32_t ours[ROWS + 1] = {1, 3, 8, 2, 0, 5, 4}, theirs[ROWS + 2] = {2, 6, 1, 0, 3, 3, 5, 1};
    float hx[ROWS * WIDE], wx[VOCAB * WIDE], tx[(ROWS + 1) * WIDE], vx[THEIR_VOCAB * WIDE];
    float *all[] = {hx, wx, tx, vx};
    size_t counts[] = {COUNT_OF(hx), COUNT_OF(wx), COUNT_OF(tx), COUNT_OF(vx)};
    rng r;
    rng_seed(&r, 9, 1);
    for (size_t k = 0; k < COUNT_OF(all); k++)
        for (size_t i = 0; i < counts[k]; i++) all[k][i] = (float)(2 * rng_double(&r) - 1);
    float room[ROWS * WIDE];
    var h = {.rows = ROWS, .cols = WIDE, .x = hx, .wants = true, .room = room}, w = {.rows = VOCAB, .cols = WIDE, .x = wx};
    var th = {.rows = ROWS + 1, .cols = WIDE, .x = tx}, tw = {.rows = THEIR_VOCAB, .cols = WIDE, .x = vx};
    ad_head head = {.w = &w, .scale = 1}, their_head = {.w = &tw, .scale = 1};
    data_batch b = {.ids = ours};
    distil_aligned a = {.theirs = {.ids = theirs}, .spans = spans, .n_spans = COUNT_OF(spans)};
    pool *p;
    tape *t;
    OK(pool_open(&p, 1, &e_));
    const kern_table *kern = tensor_kernels_open(CPU_ALL);
    OK(tape_open(&t, &(tape_opts){.pool = p, .kern = kern}, &e_));
    var *l = distil_span_loss(t, &h, &head, &th, &their_head, &b, &a, 2);
    assert_non_null(l);
    double by_hand = 0;
    for (size_t i = 0; i < COUNT_OF(spans); i++) {
        double log_of[2] = {0, 0};
        for (int side = 0; side < 2; side++) {
            size_t from = side ? spans[i].theirs : spans[i].ours, n = side ? spans[i].n_theirs : spans[i].n_ours, vocab = side ? THEIR_VOCAB : VOCAB;
            for (size_t k = from; k < from + n; k++) {
                double sum = 0, own = 0;
                for (size_t c = 0; c < vocab; c++) {
                    double z = 0;
                    for (size_t d = 0; d < WIDE; d++) z += (double)((side ? tx : hx)[k * WIDE + d] * (side ? vx : wx)[c * WIDE + d]);
                    sum += exp(z);
                    if ((int32_t)c == (side ? theirs : ours)[k + 1]) own = z;
                }
                log_of[side] += own - log(sum);
            }
        }
        double q = exp(log_of[0]), ph = exp(log_of[1]);
        by_hand += ph * log(ph / q) + (1 - ph) * log((1 - ph) / (1 - q));
    }
    assert_true(fabs((double)l->x[0] - by_hand / 2) < 1e-6);
    tape_back(t, l, 1);
    OK(tape_status(t, &e_));
    float slopes[ROWS * WIDE];
    memcpy(slopes, h.g, sizeof slopes);
    for (size_t i = 0; i < COUNT_OF(slopes); i++) {
        double side[2];
        float was = hx[i];
        for (int k = 0; k < 2; k++) {
            hx[i] = was + (k ? -0.01f : 0.01f);
            tape_reset(t);
            side[k] = (double)distil_span_loss(t, &h, &head, &th, &their_head, &b, &a, 2)->x[0];
        }
        hx[i] = was;
        double want = (side[0] - side[1]) / 0.02;
        if (!(fabs(want - (double)slopes[i]) < 1e-4 + 1e-2 * fabs(want))) fail_msg("slope %zu: %g, by differences %g", i, (double)slopes[i], want);
    }
    tape_close(&t);
    tensor_kernels_close(&kern);
    pool_close(&p);
}

/* Layers 0 and 1 of the student share their matrices, with an addition of rank 4 each or without one. */
static void layers_that_share_still_do(void **unused) {
    (void)unused;
    static const char *const ways[] = {"first", "lora"};
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        char shared[300];
        mote_prune_opts p = {.size = sizeof p, .share = "0-1", .share_by = ways[i], .share_rank = 4, .n_threads = 1};
        mote_prune_report pr = {.size = sizeof pr};
        mote_distill_report r;
        (void)snprintf(shared, sizeof shared, "%s/shared.gguf", folder);
        OK(compress_prune(student, shared, &p, &pr, &e_));
        mote_distill_options o = options(out);
        o.student = shared;
        o.settings.weight_decay = -1;
        OK(compress_distill(&o, &r, &e_));
        assert_true(r.divergence < r.divergence_before);
        file_map a, b;
        model_file *was, *is, *opened;
        OK(file_open(&a, shared, FILE_MAP, &e_));
        OK(file_open(&b, out, FILE_MAP, &e_));
        OK(gguf_parse(&was, a.p, a.n, &e_));
        OK(gguf_parse(&is, b.p, b.n, &e_));
        assert_int_equal(model_file_n_tensors(was), model_file_n_tensors(is)); /* as many tensors as before: it shares as it did */
        assert_non_null(model_file_find(is, "mote.share.layers"));
        assert_null(model_file_find_tensor(is, "blk.1.ffn_up.weight"));
        assert_memory_not_equal(model_file_find_tensor(was, "blk.0.ffn_up.weight")->data, model_file_find_tensor(is, "blk.0.ffn_up.weight")->data, 64);
        /* what was trained is what is written: the loss of the file is the loss of the run */
        OK(model_file_open(&opened, out, 0, &e_));
        assert_non_null(model_file_find_tensor(opened, "blk.1.ffn_up.weight"));
        model_file_close(&opened);
        model_file_close(&was);
        model_file_close(&is);
        file_close(&a);
        file_close(&b);
        double end = r.divergence;
        o.student = out, o.out = again, o.settings.steps = 1, o.settings.lr = 1e-12;
        OK(compress_distill(&o, &r, &e_));
        if (!(fabs(r.divergence_before - end) < 2e-3 * fabs(end))) fail_msg("%s: %g in the run, %g in the file", ways[i], end, r.divergence_before);
        compress_prune_report_free(&pr);
        (void)unlink(shared);
    }
}

static void what_cannot_be_is_refused_by_name(void **unused) {
    (void)unused;
    const struct {
        const char *loss, *select, *word;
        mote_status want;
    } cases[] = {{"kl,rkl", NULL, "same time", MOTE_E_USAGE},  {"kl=x", NULL, "NAME=WEIGHT", MOTE_E_USAGE}, {"klx", NULL, "expected ce", MOTE_E_USAGE},
                 {"kl@0.5-0.2", NULL, "shares", MOTE_E_USAGE}, {"", "best", "expected loss", MOTE_E_USAGE}, {",", NULL, "loss", MOTE_E_USAGE}, {"kl,span", NULL, "--align", MOTE_E_USAGE}, {"gold", NULL, "--align", MOTE_E_USAGE}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        mote_distill_options o = options(out);
        mote_error e = {0};
        o.loss = cases[i].loss;
        o.select = cases[i].select;
        assert_int_equal(compress_distill(&o, NULL, &e), cases[i].want);
        if (!strstr(e.message, cases[i].word)) fail_msg("case %zu: %s", i, e.message);
    }
    mote_distill_options o = options(out);
    mote_error e = {0};
    char wide[256];
    (void)snprintf(wide, sizeof wide, "%s/wide.gguf", folder);
    OK(tiny_model_write(wide, &(tiny_opts){.times = 4, .seed = 4}, &e_));
    o.teacher = wide; /* other widths: hidden states through a learned projection */
    o.loss = "kl,hidden=0.5,relation=0.1,attn=0.2,ffn=0.2";
    o.layer_map = "2:1";
    OK(compress_distill(&o, NULL, &e_));
    o.layer_map = "2:9";
    assert_int_equal(compress_distill(&o, NULL, &e), MOTE_E_USAGE);
    assert_non_null(strstr(e.message, "STUDENT:TEACHER"));
    o.layer_map = NULL;
    o.settings.recompute = true;
    assert_int_equal(compress_distill(&o, NULL, &e), MOTE_E_USAGE);
    o = options(out);
    o.teacher = NULL;
    assert_int_equal(compress_distill(&o, NULL, &e), MOTE_E_USAGE);
    o = options(out);
    o.data = (const mote_train_source[]){{.path = "/nowhere/text"}};
    assert_int_equal(compress_distill(&o, NULL, &e), MOTE_E_NOT_FOUND);
}

static int make_files(void **unused) {
    (void)unused;
    if (!mkdtemp(folder)) return -1;
    char *paths[] = {student, teacher, other, text, out, again, cache};
    static const char *const names[] = {"student.gguf", "teacher.gguf", "other.gguf", "text.txt", "out.gguf", "again.gguf", "cache.kd"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) (void)snprintf(paths[i], 256, "%s/%s", folder, names[i]);
    if (tiny_model_write(student, &(tiny_opts){.seed = 1}, NULL) != MOTE_OK || tiny_model_write(teacher, &(tiny_opts){.seed = 2}, NULL) != MOTE_OK ||
        tiny_model_write(other, &(tiny_opts){.seed = 3, .n_more_unused = 30}, NULL) != MOTE_OK)
        return -1;
    return tiny_text_write(text) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_loss_brings_the_student_nearer),
        cmocka_unit_test(feature_maps_come_nearer),
        cmocka_unit_test(every_source_of_rows_teaches),
        cmocka_unit_test(likeliest_tokens_in_a_file_serve_as_well),
        cmocka_unit_test(a_run_in_two_parts_is_the_same_run),
        cmocka_unit_test(the_length_is_open_until_the_decay), cmocka_unit_test(later_rates_are_open), cmocka_unit_test(a_run_begins_after_another),
        cmocka_unit_test(more_bits_begin_where_fewer_ended),
        cmocka_unit_test(what_is_frozen_is_rounded_too),
        cmocka_unit_test(quantization_aware_training_gains_on_rounding),
        cmocka_unit_test(borders_are_where_the_bytes_are),
        cmocka_unit_test(spans_are_compared_by_the_chain_rule),
        cmocka_unit_test(layers_that_share_still_do),
        cmocka_unit_test(what_cannot_be_is_refused_by_name),
    };
    return cmocka_run_group_tests_name("distil runs", tests, make_files, remove_folder);
}
