/* distil_maps.c: feature maps: what goes into two matrices of every layer; and which layers are compared. */
#include "train/distil_int.h"

#include <stdio.h>
#include <string.h>

mote_status distil_layers(int32_t *dst, size_t n_student, size_t n_teacher, const char *text, mote_error *err) {
    for (size_t i = 0; i < n_student; i++) dst[i] = -1;
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, ","), colon = strcspn(p, ":");
        double ours = 0, theirs = 0;
        bool good = colon < len && str_to_double((str){p, colon}, &ours) && str_to_double((str){p + colon + 1, len - colon - 1}, &theirs);
        good = good && ours >= 1 && ours <= (double)n_student && theirs >= 1 && theirs <= (double)n_teacher;
        if (!good)
            FAIL(err, MOTE_E_USAGE, "layers '%.*s': expected STUDENT:TEACHER, as in 1:2,2:4, from 1:1 to %zu:%zu", (int)MIN(len, (size_t)60), p, n_student, n_teacher);
        dst[(size_t)ours - 1] = (int32_t)theirs - 1;
        p += len + (p[len] == ',');
    }
    return MOTE_OK;
}

mote_status distil_maps_open(distil_maps *m, net *n, mote_error *err) {
    static const char *const names[DISTIL_MAPS] = {"attn_output", "ffn_down"};
    size_t layers = net_model(n)->hp.n_layer;
    *m = (distil_maps){.n = n, .n_layer = layers, .w = MEM_NEW_N(const param *, DISTIL_MAPS * layers + 1), .seen = MEM_NEW_N(var *, DISTIL_MAPS * layers + 1)};
    if (!m->w || !m->seen) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t k = 0; k < DISTIL_MAPS; k++) {
        for (size_t il = 0; il < layers; il++) {
            char name[64];
            (void)snprintf(name, sizeof name, "blk.%zu.%s.weight", il, names[k]);
            m->w[k * layers + il] = net_find(n, name);
        }
    }
    return MOTE_OK;
}

void distil_maps_close(distil_maps *m) {
    mem_free(m->w);
    mem_free(m->seen);
    *m = (distil_maps){0};
}

static void see(void *ctx, tape *t, const param *w, size_t mat, var *x) {
    const distil_maps *m = ctx;
    (void)t;
    (void)mat;
    for (size_t i = 0; i < DISTIL_MAPS * m->n_layer; i++)
        if (m->w[i] == w) m->seen[i] = x;
}

void distil_maps_watch(distil_maps *m) {
    memset(m->seen, 0, DISTIL_MAPS * m->n_layer * sizeof(var *));
    net_set_seen(m->n, see, m);
}
void distil_maps_unwatch(distil_maps *m) { net_set_seen(m->n, NULL, NULL); }

const param *distil_maps_weight(const distil_maps *m, size_t kind, size_t il) { return il < m->n_layer ? m->w[kind * m->n_layer + il] : NULL; }
var *distil_maps_seen(const distil_maps *m, size_t kind, size_t il) { return il < m->n_layer ? m->seen[kind * m->n_layer + il] : NULL; }
