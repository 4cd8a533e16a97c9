/* make_provenance.c: what a model's file says about how it was made. No path is noted, only names of files and their hashes; no
 * time either, so that the same recipe makes the same bytes. */
#include "compress/maker.h"

#include "format/provenance.h"
#include "mote/version.h"

#include <stdlib.h>
#include <sys/stat.h>

/* Of a stage: its command's words, files by their names, and the hashes of those that went in. */
static mote_status put_stage(maker *m, size_t i, const json_t *done, json_t *stages, mote_error *err) {
    const mote_make_stage *s = &m->r->stages[i];
    json_t *words = json_array(), *files = json_object();
    mote_status st = MOTE_OK;
    size_t k;
    json_t *word;
    json_array_foreach(json_object_get(done, "arguments"), k, word) {
        const char *text = json_string_value(word);
        char path[MAKE_PATH_MAX], hex[SHA256_HEX];
        struct stat file;
        (void)json_array_append_new(words, json_string(basename(text)));
        if (st != MOTE_OK || !make_is_there(text, path) || stat(path, &file) != 0 || !S_ISREG(file.st_mode)) continue;
        st = make_hash(m, path, hex, err);
        if (st == MOTE_OK) (void)json_object_set_new(files, basename(path), json_string(hex));
    }
    json_t *v = json_pack("{s:s, s:o, s:o}", "command", s->name, "arguments", words, "files", files);
    if (v && s->ppl > 0) {
        (void)json_object_set_new(v, "perplexity", json_real(s->ppl));
        (void)json_object_set_new(v, "kld", json_real(s->kld));
        (void)json_object_set_new(v, "same_top", json_real(s->top));
    }
    if (json_array_append_new(stages, v) != 0 && st == MOTE_OK) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return st;
}

static mote_status describe(maker *m, json_t **out, mote_error *err) {
    const mote_make_report *r = m->r;
    char recipe[SHA256_HEX], source[SHA256_HEX], text[SHA256_HEX] = "", path[MAKE_PATH_MAX + 32];
    TRY(sha256_file(m->recipe_path, recipe, err));
    TRY(make_hash(m, m->source, source, err));
    if (m->eval_text[0]) TRY(make_hash(m, m->eval_text, text, err));
    json_t *stages = json_array();
    *out = json_pack("{s:s, s:{s:s, s:s}, s:{s:s, s:s}, s:o}", "mote", MOTE_VERSION, "recipe", "name", basename(m->recipe_path), "sha256", recipe, "source", "name",
                     basename(m->source), "sha256", source, "stages", stages);
    if (!*out || (m->included && json_object_set(json_object_get(*out, "recipe"), "included", m->included) != 0)) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < r->n_stages; i++) {
        (void)snprintf(path, sizeof path, "%.*s/%s/done.json", MAKE_PATH_MAX - 96, m->work, r->stages[i].folder);
        json_t *done = make_load_json(path);
        mote_status st = put_stage(m, i, done, stages, err);
        json_decref(done);
        TRY(st);
    }
    if (!(r->ppl_to > 0)) return MOTE_OK;
    json_t *figures = json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f}", "text_sha256", text, "windows", (json_int_t)m->eval_chunks, "window_tokens", (json_int_t)m->eval_ctx,
                                "perplexity_from", r->ppl_from, "perplexity", r->ppl_to, "kld", r->kld, "same_top", r->top);
    if (json_object_set_new(*out, "figures", figures) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

/* The recipe's 'sampling', as llama.cpp's metadata. */
static size_t sampling_kvs(const maker *m, kv *out) {
    const json_t *given = json_object_get(m->recipe, "sampling");
    size_t n = 0;
    for (size_t i = 0; make_sampling_keys[i].name; i++) {
        const make_sampling_key *k = &make_sampling_keys[i];
        const json_t *v = json_object_get(given, k->name);
        if (v) out[n++] = (kv){.key = str_of(k->key), .type = k->whole ? KV_I32 : KV_F32, .i = k->whole ? json_integer_value(v) : 0, .f = (double)(float)json_number_value(v)};
    }
    return n;
}

mote_status make_note(maker *m, const char *out, mote_error *err) {
    json_t *made = NULL;
    kv more[MAKE_SAMPLING_MAX];
    mote_status st = describe(m, &made, err);
    char *text = st == MOTE_OK ? json_dumps(made, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    if (st == MOTE_OK && !text) st = ERR(err, MOTE_E_MEMORY, "out of memory");
    if (st == MOTE_OK) st = provenance_write(m->model, out, str_of(text), more, sampling_kvs(m, more), err);
    free(text); /* jansson's */
    json_decref(made);
    return st;
}
