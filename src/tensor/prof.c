#include "tensor/prof.h"

#include <stdlib.h>
#include <string.h>

const char *prof_op_name(prof_op op) {
    static const char *const names[PROF_OPS] = {
#define PROF(id, name) [PROF_##id] = name,
        PROF_TABLE(PROF)
#undef PROF
    };
    return op < PROF_OPS ? names[op] : "";
}

void prof_clear(prof *p) {
    memset(p->threads, 0, (size_t)p->n_threads * sizeof *p->threads);
    for (int i = 0; i < p->n_threads; i++)
        for (int ph = 0; ph < PROF_PHASES; ph++) {
            for (prof_op op = 0; op < PROF_OPS; op++) p->threads[i].slots[ph][op] = (prof_slot){.op = op, .format = -1};
            p->threads[i].n[ph] = PROF_OPS;
        }
    for (int ph = 0; ph < PROF_PHASES; ph++) p->passes[ph] = p->tokens[ph] = p->pass_ns[ph] = 0;
}

prof *prof_open(int n_threads) {
    prof *p = MEM_NEW(prof);
    if (!p) return NULL;
    p->n_threads = n_threads;
    p->threads = mem_alloc_aligned((size_t)n_threads * sizeof *p->threads);
    if (!p->threads) {
        mem_free(p);
        return NULL;
    }
    prof_clear(p);
    return p;
}

void prof_close(prof **p) {
    if (!*p) return;
    mem_free_aligned((*p)->threads);
    mem_free(*p);
    *p = NULL;
}

static unsigned find(prof_thread *t, prof_op op, const char *label, int format) {
    if (!label && format < 0) return (unsigned)op;
    prof_slot *s = t->slots[t->phase];
    unsigned n = t->n[t->phase];
    for (unsigned i = PROF_OPS; i < n; i++)
        if (s[i].op == op && s[i].label == label && s[i].format == format) return i;
    if (n == PROF_SLOTS) return (unsigned)op; /* no room: counted together */
    s[n] = (prof_slot){.op = op, .label = label, .format = format};
    t->n[t->phase] = n + 1;
    return n;
}

static void leave(prof_thread *t) {
    const uint64_t now = clock_ns();
    t->slots[t->phase][t->current].ns += now - t->last;
    t->last = now;
}

prof_thread *prof_begin(prof *p, int ith, prof_phase phase) {
    prof_thread *t = &p->threads[ith];
    t->phase = phase;
    t->current = PROF_OTHER;
    t->last = clock_ns();
    return t;
}

void prof_end(prof_thread *t) { leave(t); }

void prof_enter(prof_thread *t, prof_op op, const char *label, int format) {
    leave(t);
    t->current = find(t, op, label, format);
    t->slots[t->phase][t->current].calls++;
}

void prof_count(prof_thread *t, prof_unit unit, uint64_t bytes, uint64_t ops) {
    prof_slot *s = &t->slots[t->phase][t->current];
    s->unit = unit;
    s->bytes += bytes;
    s->ops += ops;
}

/* ---- reading ---- */

static bool same_text(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

static void add(prof_slot *rows, size_t *n, size_t cap, const prof_slot *s) {
    size_t i = 0;
    while (i < *n && !(rows[i].op == s->op && rows[i].format == s->format && same_text(rows[i].label, s->label))) i++;
    if (i == *n) {
        if (i == cap) return;
        rows[(*n)++] = (prof_slot){.op = s->op, .label = s->label, .format = s->format};
    }
    prof_slot *r = &rows[i];
    r->calls = MAX(r->calls, s->calls);
    r->ns += s->ns;
    r->bytes += s->bytes;
    r->ops += s->ops;
    if (s->unit) r->unit = s->unit;
}

static int longer_first(const void *a, const void *b) {
    const prof_slot *x = a, *y = b;
    return x->ns < y->ns ? 1 : x->ns > y->ns ? -1 : (int)x->op - (int)y->op;
}

size_t prof_rows(const prof *p, prof_phase phase, prof_slot *rows, size_t cap) {
    size_t n = 0;
    for (int i = 0; i < p->n_threads; i++)
        for (unsigned j = 0; j < p->threads[i].n[phase]; j++) {
            const prof_slot *s = &p->threads[i].slots[phase][j];
            if (s->calls || s->ns) add(rows, &n, cap, s);
        }
    for (size_t i = 0; i < n; i++) rows[i].ns /= (uint64_t)p->n_threads;
    qsort(rows, n, sizeof *rows, longer_first);
    return n;
}
