/* finetune_test.c: runs of mote_finetune on a tiny model: what is learned, what stays, what is refused, and that a run that
 * was stopped ends with the same bytes. */
#include "mote/finetune.h"
#include "mote/mote.h"
#include "format/adapter.h"
#include "report.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"
#include "same_file.h"
#include "ok.h"

#define CHAT(q, a) "{\"messages\":[{\"role\":\"user\",\"content\":\"" q "\"},{\"role\":\"assistant\",\"content\":\"" a "\"}]}\n"
#define PAIR(q, y, n) "{\"prompt\":\"" q "\",\"chosen\":\"" y "\",\"rejected\":\"" n "\"}\n"

static mote_finetune_opts base(const char *data, const char *out) {
    static const char *files[1];
    mote_finetune_opts o = mote_finetune_opts_default();
    files[0] = data;
    o.model = in_folder("tiny.gguf");
    o.data = files;
    o.n_data = 1;
    o.out = out;
    o.train = (mote_train_settings){.steps = 25, .n_ctx = 64, .batch = 4, .lr = 1e-2, .precision = "f32", .n_threads = 2, .save_every = 10};
    return o;
}

/* Every method learns the answers. */
static void answers_are_learned(void **unused) {
    (void)unused;
    static const char *const methods[] = {"lora", "rslora", "dora", "qlora", "full"};
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        char out[300];
        (void)snprintf(out, sizeof out, "%s.gguf", in_folder(methods[i]));
        mote_finetune_opts o = base(in_folder("facts.jsonl"), out);
        mote_finetune_result r = {.size = sizeof r};
        o.method = methods[i];
        o.rank = 8;
        OK(mote_finetune(&o, &r, &e_));
        if (r.n_probe != 3 || r.known_before != 0 || r.known_after != 3)
            fail_msg("%s: %zu of %zu known, before %zu, loss %g", methods[i], r.known_after, r.n_probe, r.known_before, r.loss);
        assert_true(r.steps == 25 && r.n_items == 3 && r.n_trained > 0);
        char item[64], known[64];
        (void)snprintf(item, sizeof item, "answers known after 25 steps, %s", methods[i]);
        (void)snprintf(known, sizeof known, "%zu of %zu, before %zu", r.known_after, r.n_probe, r.known_before);
        if (getenv("MOTE_REPORT")) report_row("finetune", item, known, "all", "ok", "-", "tiny llama");
        struct stat st;
        assert_int_equal(stat(out, &st), 0);
        /* and the engine with it answers so */
        mote_engine *e = NULL;
        mote_model *m = NULL;
        mote_adapter ad = {out, 1};
        mote_model_opts mo = mote_model_opts_default();
        OK(mote_engine_open(&e, NULL, &e_));
        if (i < 4) mo.adapters = &ad, mo.n_adapters = 1;
        OK(mote_model_open(&m, e, i < 4 ? in_folder("tiny.gguf") : out, &mo, &e_));
        mote_model_close(&m);
        mote_engine_close(&e);
    }
}

static bool stop_at_17(void *ctx) { return ++*(int *)ctx == 17; }

static void a_stopped_run_ends_the_same(void **unused) {
    (void)unused;
    for (int replay = 0; replay < 2; replay++) {
        const char *files[] = {in_folder("text.txt")};
        mote_finetune_opts o = base(in_folder("facts.jsonl"), in_folder("whole.gguf"));
        o.train.dir = replay ? in_folder("whole1") : in_folder("whole0");
        if (replay) o.replay = files, o.n_replay = 1;
        OK(mote_finetune(&o, NULL, &e_));
        int polled = 0;
        mote_error e = {0};
        o.out = in_folder("parts.gguf");
        o.train.dir = replay ? in_folder("parts1") : in_folder("parts0");
        o.on = (mote_train_callbacks){.ctx = &polled, .stop = stop_at_17};
        assert_int_equal(mote_finetune(&o, NULL, &e), MOTE_E_CANCELLED);
        o.train.n_threads = 3;
        OK(mote_finetune(&o, NULL, &e_));
        assert_same_file(in_folder("whole.gguf"), in_folder("parts.gguf"));
        assert_int_equal(unlink(in_folder("whole.gguf")), 0);
        assert_int_equal(unlink(in_folder("parts.gguf")), 0);
        o.train.lr = 5e-3;
        assert_int_equal(mote_finetune(&o, NULL, &e), MOTE_E_MISMATCH);
        assert_non_null(strstr(e.message, "lr"));
    }
}

/* Replay with the divergence from the old model keeps its perplexity elsewhere nearer to what it was. */
static void replay_keeps_the_rest(void **unused) {
    (void)unused;
    const char *files[] = {in_folder("text.txt")};
    double worse[2];
    for (int replay = 0; replay < 2; replay++) {
        mote_finetune_opts o = base(in_folder("facts.jsonl"), NULL);
        mote_finetune_result r = {.size = sizeof r};
        o.train.dir = "";
        o.forget = in_folder("other.txt");
        if (replay) o.replay = files, o.n_replay = 1, o.replay_share = 0.5, o.kl = 4;
        OK(mote_finetune(&o, &r, &e_));
        assert_true(r.ppl_before > 1 && r.ppl_after > 1);
        worse[replay] = r.ppl_after / r.ppl_before - 1;
    }
    if (!(worse[1] < worse[0] / 2)) fail_msg("with replay %+.2f %%, without %+.2f %%", 100 * worse[1], 100 * worse[0]);
    char kept[64], naive[64];
    (void)snprintf(kept, sizeof kept, "perplexity elsewhere %+.2f %%", 100 * worse[1]);
    (void)snprintf(naive, sizeof naive, "without replay %+.2f %%", 100 * worse[0]);
    if (getenv("MOTE_REPORT")) report_row("finetune", "forgotten meanwhile, replay and KL", kept, "half of that without", "ok", naive, "tiny llama");
    mote_finetune_opts o = base(in_folder("facts.jsonl"), in_folder("gated.gguf"));
    mote_error e = {0};
    struct stat st;
    o.forget = in_folder("other.txt");
    o.gate = 1e-6;
    assert_int_equal(mote_finetune(&o, NULL, &e), MOTE_E_GATE);
    assert_int_not_equal(stat(in_folder("gated.gguf"), &st), 0);
}

static void preferences_are_learned(void **unused) {
    (void)unused;
    mote_finetune_opts o = base(in_folder("pairs.jsonl"), NULL);
    mote_finetune_result r = {.size = sizeof r};
    o.train.dir = "";
    OK(mote_finetune(&o, &r, &e_));
    assert_true(r.preferred_after > 0.99);
    assert_true(r.loss < 0.5); /* it begins at log 2 */
}

static void privacy_is_accounted_for(void **unused) {
    (void)unused;
    mote_finetune_opts o = base(in_folder("facts.jsonl"), NULL);
    mote_finetune_result r = {.size = sizeof r}, again = r;
    o.train.dir = in_folder("private");
    o.train.steps = 12;
    o.train.batch = 1;
    o.train.save_every = 3;
    o.dp_noise = 1.5;
    int polled = 10; /* stops at step 7 */
    mote_error e = {0};
    o.on = (mote_train_callbacks){.ctx = &polled, .stop = stop_at_17};
    assert_int_equal(mote_finetune(&o, &r, &e), MOTE_E_CANCELLED);
    assert_true(r.steps == 7 && r.epsilon > 0 && r.delta > 0);
    OK(mote_finetune(&o, &again, &e_));
    assert_true(again.steps == 12 && again.epsilon > r.epsilon);
    o.train.dir = "";
    mote_finetune_opts bad[5];
    for (int i = 0; i < 5; i++) bad[i] = o;
    bad[0].dp_noise = -1;
    bad[1].dp_clip = (double)NAN;
    bad[2].dp_delta = 0.5;
    bad[3].train.batch = 100;
    bad[4].dp_noise = 0, bad[4].dp_epsilon = -3;
    for (int i = 0; i < 5; i++) {
        mote_status s = mote_finetune(&bad[i], NULL, &e);
        if (s != MOTE_E_RANGE) fail_msg("case %d: %s", i, e.message);
    }
}

static void mistakes_are_told(void **unused) {
    (void)unused;
    mote_error e = {0};
    mote_finetune_opts o = base(in_folder("facts.jsonl"), NULL);
    o.train.dir = "";
    mote_finetune_opts b = o;
    b.method = "magic";
    assert_int_equal(mote_finetune(&b, NULL, &e), MOTE_E_USAGE);
    b = o;
    b.task = "dpo";
    assert_int_equal(mote_finetune(&b, NULL, &e), MOTE_E_FORMAT);
    b = o;
    b.targets = "q_proj,elsewhere";
    assert_int_equal(mote_finetune(&b, NULL, &e), MOTE_E_NOT_FOUND);
    b = o;
    b.rank = (size_t)1 << 31;
    assert_int_equal(mote_finetune(&b, NULL, &e), MOTE_E_RANGE);
    b = o;
    b.alpha = (double)NAN;
    assert_int_equal(mote_finetune(&b, NULL, &e), MOTE_E_RANGE);
    b = o;
    b.gate = 1;
    assert_int_equal(mote_finetune(&b, NULL, &e), MOTE_E_USAGE);
    b = o;
    b.n_data = 0;
    assert_int_equal(mote_finetune(&b, NULL, &e), MOTE_E_USAGE);
    b = base(in_folder("nowhere.jsonl"), NULL);
    assert_int_equal(mote_finetune(&b, NULL, &e), MOTE_E_NOT_FOUND);
    b = base(in_folder("empty.jsonl"), NULL);
    assert_int_equal(mote_finetune(&b, NULL, &e), MOTE_E_FORMAT);
    b = o;
    b.adapter = in_folder("tiny.gguf");
    assert_int_equal(mote_finetune(&b, NULL, &e), MOTE_E_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_learned),     cmocka_unit_test(a_stopped_run_ends_the_same), cmocka_unit_test(replay_keeps_the_rest),
        cmocka_unit_test(preferences_are_learned), cmocka_unit_test(privacy_is_accounted_for),    cmocka_unit_test(mistakes_are_told),
    };
    char command[200], text[6000] = "";
    mote_error e;
    if (!mkdtemp(folder)) return 1;
    if (tiny_model_write(in_folder("tiny.gguf"), &(tiny_opts){.type = QUANT_Q8_0, .seed = 3}, &e) != MOTE_OK) return 1;
    put_text("facts.jsonl", CHAT("ab", "cd") CHAT("what", "xyz") CHAT("where", "here"));
    put_text("pairs.jsonl", PAIR("ab", "yes", "no") PAIR("cd", "fine", "bad") PAIR("what", "this", "that"));
    put_text("empty.jsonl", "\n\n");
    for (int i = 0; i < 40; i++) (void)snprintf(text + strlen(text), sizeof text - strlen(text), "The %dth of the lazy dogs jumped over fox %d. ", i * 7, i);
    put_text("text.txt", text);
    put_text("other.txt", text + 700);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || failed;
}
