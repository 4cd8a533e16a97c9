/* trainer_small.c: a run's state in little. See trainer.h. */
#include "train/trainer_int.h"

#include <inttypes.h>
#include <stdio.h>

static void name_of(char *dst, size_t cap, const train_param *p) { (void)snprintf(dst, cap, "r:%.*s", STR_ARG(p->name)); }

mote_status trainer_save_small(trainer *t, const char *path, const ckpt_section *more, size_t n_more, mote_error *err) {
    const train_param *bad = optim_bad_value(t->optim);
    if (bad) FAIL(err, MOTE_E_OUTPUT, "step %" PRIu64 ": '%.*s' has values that are not finite: no state is made of them", t->at, STR_ARG(bad->name));
    size_t bytes = 0, n = 0;
    for (size_t i = 0; i < t->n; i++) bytes += optim_condensed(t->optim, i, NULL);
    unsigned char *room = mem_alloc_aligned(bytes ? bytes : 1), *at = room;
    ckpt_section *s = MEM_NEW_N(ckpt_section, t->n + n_more + 1);
    json_t *meta = trainer_meta(t);
    mote_status st = MOTE_OK;
    if (!room || !s || !meta) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < t->n; i++) {
        size_t size = optim_condensed(t->optim, i, NULL);
        if (size == 0) continue;
        if (optim_condensed(t->optim, i, at) != size) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
        name_of(s[n].name, sizeof s[n].name, &t->params[i]);
        s[n].p = at;
        s[n++].n = size;
        at += size;
    }
    if (n_more) memcpy(s + n, more, n_more * sizeof *s);
    st = ckpt_write(path, meta, s, n + n_more, err);
out:
    json_decref(meta);
    mem_free_aligned(room);
    mem_free(s);
    return st;
}

mote_status trainer_load_small(trainer *t, const ckpt *c, mote_error *err) {
    TRY(trainer_same_run(t, c, err));
    const json_t *m = ckpt_meta(c);
    t->updates = (uint64_t)json_get_int(m, "updates", 0);
    for (size_t i = 0; i < t->n; i++) {
        char name[sizeof((ckpt_section *)NULL)->name];
        name_of(name, sizeof name, &t->params[i]);
        str part = ckpt_find(c, name);
        if (!optim_expand(t->optim, i, t->updates, (const unsigned char *)part.p, part.n))
            FAIL(err, MOTE_E_MISMATCH, "%s: %zu bytes for '%.*s', %zu expected", ckpt_path(c), part.n, STR_ARG(t->params[i].name),
                 optim_condensed(t->optim, i, NULL));
    }
    if (t->source.seek) TRY(t->source.seek(t->source.ctx, json_object_get(m, "cursor"), err));
    t->at = (uint64_t)json_get_int(m, "step", 0);
    t->tokens = (uint64_t)json_get_int(m, "tokens", 0);
    t->skipped = (uint64_t)json_get_int(m, "skipped", 0);
    optim_values_changed(t->optim);
    return MOTE_OK;
}
