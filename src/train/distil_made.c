/* distil_made.c: text that a model makes up, to learn from. It is kept with the run, so that a run that goes on has the same rows. */
#include "train/distil.h"

#include <math.h>
#include <unistd.h>

static mote_status load(distil_rows *out, const char *path, mote_error *err) {
    ckpt *c;
    TRY(ckpt_open(&c, path, err));
    str ids = ckpt_find(c, "ids"), counts = ckpt_find(c, "counts"), start = ckpt_find(c, "start");
    mote_status s = MOTE_OK;
    const size_t *at = (const size_t *)(const void *)start.p;
    size_t n = start.n / sizeof *at;
    bool good = ids.p && counts.p && n > 1 && ids.n / 4 == at[n - 1] && counts.n == at[n - 1];
    if (!good) s = ERR(err, MOTE_E_FORMAT, "%s is not what this run made up; remove it", path);
    for (size_t i = 0; good && i + 1 < n && s == MOTE_OK; i++) {
        if (at[i] > at[i + 1] || at[i + 1] > at[n - 1]) s = ERR(err, MOTE_E_FORMAT, "%s is damaged; remove it", path);
        else s = distil_rows_add(out, (const int32_t *)(const void *)ids.p + at[i], (const bool *)counts.p + at[i], at[i + 1] - at[i], err);
    }
    ckpt_close(&c);
    return s;
}

static mote_status save(const distil_rows *r, const char *path, mote_error *err) {
    size_t n = r->start[r->n];
    ckpt_section sections[3] = {{"ids", r->ids, n * sizeof(int32_t)}, {"counts", r->counts, n}, {"start", r->start, (r->n + 1) * sizeof(size_t)}};
    json_t *meta = json_object();
    mote_status s = meta ? ckpt_write(path, meta, sections, 3, err) : ERR(err, MOTE_E_MEMORY, "out of memory");
    json_decref(meta);
    return s;
}

static mote_status make(distil_rows *out, const distil_made *o, mote_error *err) {
    distil_rows prompts = {0};
    mote_status s = MOTE_OK;
    size_t prompt = o->prompt ? o->prompt : MAX(o->n_ctx / 4, (size_t)1), want = (size_t)ceil(o->tokens / (double)MAX(o->n_ctx - prompt, (size_t)1));
    while (prompts.n < want) {
        data_step_info info;
        TRYG(s, data_step(o->from, 8, 0, 1, &info, err));
        TRYG(s, distil_prompts(&prompts, &info.mine, prompt, err));
    }
    log_line(o->log, LOG_INFO, "the model goes on with %zu beginnings", prompts.n);
    distil_roll roll = {.path = o->model, .n_ctx = o->n_ctx, .temperature = o->temperature > 0 ? o->temperature : 1, .seed = o->seed, .n_threads = o->n_threads,
                        .stop = o->stop, .ctx = o->ctx};
    s = distil_roll_out(&roll, &prompts, out, err);
    if (s == MOTE_OK && out->n == 0) s = ERR(err, MOTE_E_FORMAT, "the data hold no text that the model could go on with");
    if (s == MOTE_OK) log_line(o->log, LOG_INFO, "%zu sequences, %zu tokens", out->n, out->start[out->n]);
out:
    distil_rows_free(&prompts);
    return s;
}

mote_status distil_make_rows(distil_rows *out, const distil_made *o, const char *keep, mote_error *err) {
    if (access(keep, R_OK) == 0) return load(out, keep, err);
    TRY(make(out, o, err));
    return save(out, keep, err);
}
