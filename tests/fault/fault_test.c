/* fault_test.c: everything a user does with a small model, again and again, each time with another call
 * failing: the n-th allocation (once, and from then on), the n-th open, read or map, the n-th write, sync or
 * rename, for every n until all succeeds. Each run must end with a clean status, without a leak, and without
 * half a file. */
#include "fault.h"
#include "mote/mote.h"
#include "tiny_model.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/mote-fault-XXXXXX", model_path[64], saved_path[64];

static mote_status generate(mote_session *s, mote_sampler *smp, mote_error *err) {
    const char *stops[] = {"never"};
    mote_gen_opts o = mote_gen_opts_default();
    o.n_predict = 3;
    o.stops = stops;
    o.n_stops = 1;
    o.sampler = smp;
    TRY(mote_complete(s, 0, "hello world", 11, &o, NULL, err));
    return mote_infill(s, 0, "he", 2, "lo", 2, &o, NULL, err);
}

static mote_status speculate(mote_session *s, mote_sampler *smp, mote_model *m, mote_error *err) {
    mote_speculator *sp = NULL;
    mote_spec_opts so = mote_spec_opts_default();
    mote_gen_opts o = mote_gen_opts_default();
    mote_status st;
    so.draft = m;
    so.always = true;
    TRYG(st, mote_speculator_open(&sp, s, &so, err));
    o.n_predict = 5;
    o.sampler = smp;
    o.speculator = sp;
    st = mote_complete(s, 0, "hello world hello", 17, &o, NULL, err);
out:
    mote_speculator_close(&sp);
    return st;
}

static mote_status chat(mote_session *s, mote_error *err) {
    mote_chat *c = NULL;
    mote_chat_opts co = mote_chat_opts_default();
    mote_gen_opts o = mote_gen_opts_default();
    mote_status st;
    o.n_predict = 3;
    co.system = "hello";
    TRYG(st, mote_chat_open(&c, s, 0, &co, err));
    TRYG(st, mote_chat_say(c, "the world", 9, &o, NULL, err));
    TRYG(st, mote_chat_regenerate(c, &o, NULL, err));
    char text[512];
    size_t n;
    TRYG(st, mote_chat_messages(c, text, sizeof text, &n, err));
    TRYG(st, mote_chat_set_messages(c, text, n, err));
out:
    mote_chat_close(&c);
    return st;
}

static mote_status evaluate(mote_session *s, mote_error *err) {
    static const char *text = "the hello world in the world hello the world in hello the world";
    mote_ppl_opts o = mote_ppl_opts_default();
    mote_ppl_result r = {.size = sizeof r};
    o.n_ctx = 8;
    o.n_chunks = 1;
    TRY(mote_perplexity(s, text, strlen(text), &o, &r, err));
    mote_bench_opts b = mote_bench_opts_default();
    mote_bench_sample sample;
    b.n_prompt = 4;
    b.n_reps = 1;
    return mote_bench(s, &b, &sample, err);
}

static mote_status embed(mote_model *m, mote_error *err) {
    mote_session *s = NULL;
    static float v[256];
    const char *text = "hello";
    const size_t n = 5;
    mote_status st;
    TRYG(st, mote_embed_session_open(&s, m, err));
    st = mote_embed(s, &text, &n, 1, NULL, v, NULL, err);
out:
    mote_session_close(&s);
    return st;
}

static mote_status everything(mote_error *err) {
    mote_engine *e = NULL;
    mote_model *m = NULL;
    mote_session *s = NULL;
    mote_sampler *smp = NULL;
    mote_engine_opts eo = mote_engine_opts_default();
    mote_session_opts so = mote_session_opts_default();
    mote_sample_opts po = mote_sample_opts_default();
    static char info[32768];
    size_t n;
    mote_status st;
    eo.n_threads = 1;
    so.n_ctx = 64;
    po.seed = 1;
    po.repeat_penalty = 1.1f;
    po.dry_multiplier = 0.5f;
    po.ignore_end = true;
    TRYG(st, mote_engine_open(&e, &eo, err));
    TRYG(st, mote_model_open(&m, e, model_path, NULL, err));
    TRYG(st, mote_model_info(m, MOTE_INFO_TENSORS | MOTE_INFO_TEMPLATE, info, sizeof info, &n, err));
    TRYG(st, mote_session_open(&s, m, &so, err));
    TRYG(st, mote_sampler_open(&smp, m, &po, err));
    TRYG(st, generate(s, smp, err));
    TRYG(st, speculate(s, smp, m, err));
    TRYG(st, mote_session_save(s, 0, saved_path, err));
    TRYG(st, mote_session_load(s, 0, saved_path, err));
    TRYG(st, chat(s, err));
    TRYG(st, evaluate(s, err));
    st = embed(m, err);
out:
    mote_sampler_close(&smp);
    mote_session_close(&s);
    mote_model_close(&m);
    mote_engine_close(&e);
    return st;
}

/* Only the model and, perhaps, the saved sequence may lie in the folder. */
static bool folder_clean(void) {
    DIR *d = opendir(dir);
    if (!d) return false;
    bool clean = true;
    for (struct dirent *x; (x = readdir(d));)
        clean &= x->d_name[0] == '.' || strcmp(x->d_name, "m.gguf") == 0 || strcmp(x->d_name, "saved") == 0;
    (void)closedir(d);
    return clean;
}

/* A budget that was used up, and JSON that jansson could not read, may both be meant when memory runs out. */
static bool tells_of_memory(const mote_error *err) {
    return err->code == MOTE_E_MEMORY || err->code == MOTE_E_LIMIT ||
           (err->code == MOTE_E_FORMAT && strstr(err->message, "bad JSON"));
}

static int torture(enum fault_kind kind, bool sticky, const char *what) {
    size_t tolerated = 0;
    for (size_t n = 1;; n++) {
        mote_error err = {0};
        size_t before = fault_live();
        fault_arm(kind, n, sticky);
        mote_status st = everything(&err);
        fault_disarm();
        bool was = fault_happened();
        const char *wrong = NULL;
        if (fault_live() != before) wrong = "a leak";
        else if (!folder_clean()) wrong = "a file left behind";
        else if (!was && st != MOTE_OK) wrong = "an error though nothing failed";
        else if (st != MOTE_OK && (!err.message[0] || err.code != st)) wrong = "no message";
        else if (st != MOTE_OK && kind == FAULT_ALLOC && !tells_of_memory(&err))
            wrong = "another error than out of memory";
        else if (st != MOTE_OK && kind != FAULT_ALLOC && st != MOTE_E_IO)
            wrong = "another error than I/O";
        if (wrong) {
            printf("FAIL %s %zu%s: %s: %s %s (%s:%d)\n", what, n, sticky ? " and on" : "", wrong,
                   mote_status_name(st), err.message, err.file ? err.file : "", err.line);
            return 1;
        }
        tolerated += was && st == MOTE_OK;
        if (!was) {
            printf("%s%s: each of %zu failed, %zu were done without\n", what, sticky ? " and on" : "", n - 1,
                   tolerated);
            return 0;
        }
    }
}

int main(void) {
    mote_error err;
    fault_init();
    if (!mkdtemp(dir)) return 1;
    (void)snprintf(model_path, sizeof model_path, "%s/m.gguf", dir);
    (void)snprintf(saved_path, sizeof saved_path, "%s/saved", dir);
    int bad =
        tiny_model_write(model_path, &(tiny_opts){.seed = 1}, &err) != MOTE_OK || everything(&err) != MOTE_OK;
    if (bad) printf("FAIL %s\n", err.message);
    bad = bad || torture(FAULT_ALLOC, false, "allocation") || torture(FAULT_ALLOC, true, "allocation") ||
          torture(FAULT_READ, false, "open, read or map") || torture(FAULT_READ, true, "open, read or map") ||
          torture(FAULT_WRITE, false, "write, sync or rename");
    (void)unlink(model_path);
    (void)unlink(saved_path);
    (void)rmdir(dir);
    return bad;
}
