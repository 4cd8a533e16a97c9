/* trainer_begin.c: a run that begins where another one's weights are. */
#include "train/trainer_int.h"

#include <string.h>

/* All parameters are there and of the right size, or nothing is copied. */
static mote_status copy_values(trainer *t, const ckpt *c, mote_error *err) {
    for (int copy = 0; copy < 2; copy++)
        for (size_t i = 0; i < t->n; i++) {
            const train_param *p = &t->params[i];
            if (p->formatted) continue;
            const size_t bytes = p->v->rows * p->v->cols * sizeof(float);
            char name[sizeof((ckpt_section *)NULL)->name];
            (void)snprintf(name, sizeof name, TRAINER_VALUES, STR_ARG(p->name));
            const str found = ckpt_find(c, name);
            if (found.n != bytes) FAIL(err, MOTE_E_MISMATCH, "%s: %zu bytes of '%.*s', %zu expected: it is the run of another model or format", ckpt_path(c), found.n, STR_ARG(p->name), bytes);
            if (copy) memcpy(p->v->x, found.p, bytes);
        }
    return MOTE_OK;
}

mote_status trainer_begin(trainer *t, const char *dir, mote_error *err) {
    enum { KEEP_ALL = 1 << 30 };
    ckpt_dir *d = NULL;
    ckpt *c = NULL;
    if (!file_is_dir(dir)) FAIL(err, MOTE_E_NOT_FOUND, "%s: there is no such folder: the run whose weights are wanted has left none", dir);
    TRY(ckpt_dir_open(&d, dir, KEEP_ALL, t->o.log, err));
    mote_status s = ckpt_dir_latest(d, &c, err);
    if (s == MOTE_OK && !c) s = ERR(err, MOTE_E_NOT_FOUND, "%s: there is no checkpoint in it", dir);
    if (s == MOTE_OK) s = copy_values(t, c, err);
    ckpt_close(&c);
    ckpt_dir_close(&d);
    return s;
}

void trainer_begun(trainer *t) {
    for (size_t i = 0; i < t->n; i++) {
        const var *v = t->params[i].v;
        if (t->averages[i]) memcpy(t->averages[i], v->x, v->rows * v->cols * sizeof(float));
    }
    optim_values_changed(t->optim);
}
