#include "compress/budget_known.h"

#include <math.h>
#include <stdlib.h>

#define EVERY_NS (UINT64_C(5) * 1000000000)

mote_status budget_known_open(budget_known *k, const char *path, const char *key, mote_error *err) {
    file_map f;
    *k = (budget_known){.path = path, .saved_ns = clock_ns()};
    if (path && file_open(&f, path, FILE_READ, NULL) == MOTE_OK) {
        if (json_parse(&k->root, (str){(const char *)f.p, f.n}, path, NULL) != MOTE_OK) k->root = NULL;
        file_close(&f);
    }
    if (k->root && str_is(json_get_str(k->root, "key"), key) && json_is_object(json_object_get(k->root, "tensors"))) return MOTE_OK;
    json_decref(k->root);
    k->root = json_pack("{s:s, s:{}}", "key", key, "tensors");
    if (!k->root) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

void budget_known_close(budget_known *k) {
    json_decref(k->root);
    *k = (budget_known){0};
}

/* The map `what` of a tensor; make: it is made when it is not there. NULL: it is not there, or there is no memory. */
static json_t *map_of(const budget_known *k, str tensor, const char *what, bool make) {
    char name[512];
    (void)snprintf(name, sizeof name, "%.*s", STR_ARG(tensor));
    json_t *all = json_object_get(k->root, "tensors"), *t = json_object_get(all, name);
    if (!t && make && json_object_set_new(all, name, t = json_object()) != 0) return NULL;
    json_t *m = json_object_get(t, what);
    if (!m && make && json_object_set_new(t, what, m = json_object()) != 0) return NULL;
    return m;
}

static mote_status put(budget_known *k, str tensor, const char *what, const char *format, json_t *v, mote_error *err) {
    json_t *m = map_of(k, tensor, what, true);
    k->changed = true;
    if (m && json_object_set(m, format, v) == 0) {
        json_decref(v);
        return MOTE_OK;
    }
    json_decref(v);
    FAIL(err, MOTE_E_MEMORY, "out of memory");
}

static bool number(const json_t *v, double *out) {
    *out = json_number_value(v);
    return json_is_number(v) && isfinite(*out) && *out >= 0;
}

bool budget_known_error(const budget_known *k, str tensor, const char *format, double *e) {
    return number(json_object_get(map_of(k, tensor, "errors", false), format), e);
}

mote_status budget_known_put_error(budget_known *k, str tensor, const char *format, double e, mote_error *err) {
    return put(k, tensor, "errors", format, json_real(e), err);
}

bool budget_known_probe(const budget_known *k, str tensor, const char *format, double *e, double *kld) {
    const json_t *pair = json_object_get(map_of(k, tensor, "probes", false), format);
    return number(json_array_get(pair, 0), e) && number(json_array_get(pair, 1), kld);
}

mote_status budget_known_put_probe(budget_known *k, str tensor, const char *format, double e, double kld, mote_error *err) {
    return put(k, tensor, "probes", format, json_pack("[f, f]", e, kld), err);
}

mote_status budget_known_save(budget_known *k, bool now, mote_error *err) {
    if (!k->path || !k->changed || (!now && clock_ns() - k->saved_ns < EVERY_NS)) return MOTE_OK;
    char *text = json_dumps(k->root, JSON_COMPACT);
    if (!text) FAIL(err, MOTE_E_MEMORY, "%s: out of memory", k->path);
    file_writer w;
    mote_status st = file_writer_open(&w, k->path, err);
    if (st == MOTE_OK) st = file_write(&w, text, strlen(text), err);
    if (st == MOTE_OK) st = file_writer_commit(&w, err);
    file_writer_abort(&w);
    free(text); /* jansson's */
    k->saved_ns = clock_ns();
    k->changed = k->changed && st != MOTE_OK;
    return st;
}
