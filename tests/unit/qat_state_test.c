/* qat_state_test.c: training in slots that keep the packed file and a small state: against the same run in one piece, and against slots that
 * keep the packed file alone; the places of weights in every format; what does not belong together. */
#include "../report.h"
#include "../tiny_model.h"
#include "base/base.h"
#include "compress/distill_run.h"
#include "model/model.h"
#include "quant/grid.h"
#include "train/distil.h"
#include "train/qat_state.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"

#include "ok.h"

enum { STEPS = 50, SLOT = 10 };
static char model_path[256], text[256], out[256], small[256], again[256];
static const mote_train_source files[] = {{.path = text}};
static bool reporting;

static mote_distill_options options(const char *to, const char *type) {
    return (mote_distill_options){.settings = {.steps = STEPS, .n_ctx = 32, .batch = 4, .micro_batch = 4, .lr = 2e-4, .seed = 3, .precision = "f32", .n_threads = 1, .dir = "",
                                               .eval_every = 1000},
                                  .student = model_path, .out = to, .data = files, .n_data = 1, .held_out = 0.06, .qat = {.type = type, .pure = true}};
}

static void forget(void) {
    (void)unlink(out);
    (void)unlink(small);
}

/* Slot after slot to the end. Returns the divergence on held-out text. */
static double in_slots(const char *type, int bits, bool keep_state, mote_distill_report *r) {
    forget();
    for (uint64_t at = 0; at < STEPS; at += SLOT) {
        mote_distill_options o = options(out, type);
        o.qat.state = small;
        o.qat.state_bits = bits;
        o.qat.slot_steps = SLOT;
        if (!keep_state && at > 0) { /* the packed file is all there is: a run that begins with it */
            o.student = out;
            o.teacher = model_path;
            (void)unlink(small);
            o.settings.steps = STEPS - at;
            o.settings.warmup = -1;
        }
        OK(compress_distill(&o, r, &e_));
        assert_int_equal(r->steps, (keep_state ? at : 0) + SLOT);
        assert_int_equal(r->resumed_at, keep_state ? at : 0);
    }
    return r->divergence;
}

static void slots_are_nearly_the_run_in_one_piece(void **unused) {
    (void)unused;
    static const char *const types[] = {"Q4_0", "Q2_0"};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        mote_distill_report whole, little, four, naive;
        mote_distill_options o = options(again, types[i]);
        OK(compress_distill(&o, &whole, &e_));
        double gain = whole.divergence_before - whole.divergence;
        double six = in_slots(types[i], 0, true, &little), bits4 = in_slots(types[i], 4, true, &four), alone = in_slots(types[i], 0, false, &naive);
        double lost = (six - whole.divergence) / gain, lost4 = (bits4 - whole.divergence) / gain, lost_alone = (alone - whole.divergence) / gain;
        printf("%s: before %.5f, one piece %.5f, %d slots: 6 bits %.5f, 4 bits %.5f, packed file alone %.5f\n", types[i], whole.divergence_before,
               whole.divergence, STEPS / SLOT, six, bits4, alone);
        if (!(lost < 0.1 && lost4 < 0.8 * lost_alone)) fail_msg("%s: %.3f and %.3f of what was gained are lost", types[i], lost, lost4);
        if (!(lost_alone > 0.2)) fail_msg("%s: the packed file alone loses %.3f: the test sees nothing", types[i], lost_alone);
        char item[80], measured[96], naively[64];
        (void)snprintf(item, sizeof item, "QAT %s in %d slots, packed file and state", types[i], STEPS / SLOT);
        (void)snprintf(measured, sizeof measured, "%.1f %% of the gain lost (4 bits: %.1f %%)", 100 * lost, 100 * lost4);
        (void)snprintf(naively, sizeof naively, "packed file alone: %.0f %% lost", 100 * lost_alone);
        if (reporting) report_row("qat", item, measured, "10 %", "ok", naively, "mote distill --state");
    }
}

static int copy(const char *from, const char *to) {
    char command[600];
    (void)snprintf(command, sizeof command, "cp %s %s", from, to);
    return system(command);
}

static bool same_bytes(const char *a, const char *b) {
    file_map x, y;
    OK(file_open(&x, a, FILE_READ, &e_));
    OK(file_open(&y, b, FILE_READ, &e_));
    bool same = x.n == y.n && memcmp(x.p, y.p, x.n) == 0;
    file_close(&x);
    file_close(&y);
    return same;
}

/* Read back, every weight stands on its level, and in its place to one part of the cell. */
static void places_come_back(void **unused) {
    (void)unused;
    static const char *const types[] = {"Q4_0", "Q4_1", "Q2_0", "IQ4_NL", "Q4_K", "Q6_K", "Q2_96", "TQ1_192", "Q1_0", "MXFP4", "NVFP4", "F16"};
    char wide[2][256];
    for (unsigned k = 0; k < 2; k++) {
        (void)snprintf(wide[k], sizeof wide[k], "%s/wide%u.gguf", folder, k);
        OK(tiny_model_write(wide[k], &(tiny_opts){.times = k ? 3 : 4, .seed = 5}, &e_));
    }
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        for (int scales = 0; scales < 2; scales++) {
            forget();
            mote_distill_options o = options(out, types[i]);
            mote_distill_report r;
            o.student = wide[quant_by_name(types[i])->block % 96 == 0];
            o.settings.steps = 4;
            o.settings.lr = 1e-12; /* nothing moves: what was packed is packed again */
            o.qat.state = small;
            o.qat.slot_steps = 2;
            o.qat.only_scales = scales;
            if (scales && !quant_grid_of((int)quant_by_name(types[i])->type)) continue;
            OK(compress_distill(&o, &r, &e_));
            model_file *f;
            OK(model_file_open(&f, out, 0, &e_));
            size_t weights = 0;
            for (size_t k = 0; k < model_file_n_tensors(f); k++)
                if (model_file_tensor(f, k)->n_dims > 1) weights += model_file_tensor(f, k)->ne[0] * model_file_tensor(f, k)->ne[1];
            model_file_close(&f);
            /* six bits, second moments of scales, and tables that a tiny model makes large */
            if (!scales && !((double)r.state_bytes * 8 < 8.5 * (double)weights)) fail_msg("%s: a state of %.2f bits a weight", types[i], (double)r.state_bytes * 8 / (double)weights);
            double was = r.divergence;
            assert_int_equal(rename(out, again), 0);
            assert_int_equal(copy(again, out), 0);
            OK(compress_distill(&o, &r, &e_));
            assert_int_equal(r.resumed_at, 2);
            assert_int_equal(r.steps, 4);
            bool grid = quant_grid_of((int)quant_by_name(types[i])->type);
            if (!grid && !(r.divergence < was * 1.05 + 1e-4)) fail_msg("%s: from %.5f to %.5f", types[i], was, r.divergence);
            if (grid && !same_bytes(out, again)) fail_msg("%s: the file after a slot in which nothing moved is another", types[i]);
        }
    }
}

/* Killed between two of the three steps of saving: state.next belongs to the packed file that is there. */
static void a_pair_is_always_there(void **unused) {
    (void)unused;
    char next[300], command[2400];
    mote_distill_report r;
    (void)snprintf(next, sizeof next, "%s.next", small);
    forget();
    mote_distill_options o = options(out, "Q4_0");
    o.qat.state = small;
    o.qat.slot_steps = 3;
    OK(compress_distill(&o, &r, &e_));
    (void)snprintf(command, sizeof command, "cp %s %s.old && cp %s %s.old", small, small, out, out);
    assert_int_equal(system(command), 0);
    OK(compress_distill(&o, &r, &e_));
    /* before the packed file was there: the old pair, and a newer state beside it */
    (void)snprintf(command, sizeof command, "mv %s %s && cp %s.old %s && cp %s %s.new && cp %s.old %s", small, next, small, small, out, out, out, out);
    assert_int_equal(system(command), 0);
    OK(compress_distill(&o, &r, &e_));
    assert_int_equal(r.resumed_at, 3);
    /* after it, and before the state got its name */
    (void)snprintf(command, sizeof command, "mv %s %s && cp %s.old %s", small, next, small, small);
    assert_int_equal(system(command), 0);
    mote_error e = {0};
    o.temperature = 3; /* which ends the run before anything is written: by then the state has its name, so that the next one is not written over it */
    assert_int_equal(compress_distill(&o, &r, &e), MOTE_E_MISMATCH);
    o.temperature = 0;
    assert_int_not_equal(access(next, F_OK), 0);
    OK(compress_distill(&o, &r, &e_));
    assert_int_equal(r.resumed_at, 6);
    /* another packed file */
    (void)snprintf(command, sizeof command, "cp %s.old %s", out, out);
    assert_int_equal(system(command), 0);
    assert_int_equal(compress_distill(&o, &r, &e), MOTE_E_MISMATCH);
    assert_non_null(strstr(e.message, "belongs to another packed file"));
    /* another run, a damaged state, none of what it needs */
    (void)snprintf(command, sizeof command, "cp %s.old %s", small, small);
    assert_int_equal(system(command), 0);
    o.temperature = 3;
    assert_int_equal(compress_distill(&o, &r, &e), MOTE_E_MISMATCH);
    o.temperature = 0;
    (void)snprintf(command, sizeof command, "head -c 5000 %s.old > %s", small, small);
    assert_int_equal(system(command), 0);
    assert_int_equal(compress_distill(&o, &r, &e), MOTE_E_FORMAT);
    (void)snprintf(command, sizeof command, "cp %s.old %s", small, small);
    assert_int_equal(system(command), 0);
    o.student = out; /* the packed student as its own teacher */
    assert_int_equal(compress_distill(&o, &r, &e), MOTE_E_USAGE);
    o.teacher = model_path;
    OK(compress_distill(&o, &r, &e_));
    assert_int_equal(r.resumed_at, 3);
    o.settings.ema = 0.9;
    assert_int_equal(compress_distill(&o, &r, &e), MOTE_E_USAGE);
    o = options(out, NULL);
    o.teacher = model_path;
    o.qat.state = small;
    assert_int_equal(compress_distill(&o, &r, &e), MOTE_E_USAGE);
}

static int make_files(void **unused) {
    (void)unused;
    if (!mkdtemp(folder)) return -1;
    char *paths[] = {model_path, text, out, small, again};
    static const char *const names[] = {"model.gguf", "text.txt", "out.gguf", "small.state", "again.gguf"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) (void)snprintf(paths[i], 256, "%s/%s", folder, names[i]);
    if (tiny_model_write(model_path, &(tiny_opts){.seed = 1}, NULL) != MOTE_OK) return -1;
    return tiny_text_write(text) ? 0 : -1;
}

int main(int argc, char **argv) {
    reporting = report_wanted(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_nearly_the_run_in_one_piece),
        cmocka_unit_test(places_come_back),
        cmocka_unit_test(a_pair_is_always_there),
    };
    return cmocka_run_group_tests_name("qat state", tests, make_files, remove_folder);
}
