/* vocabulary.c: the files' texts through the trainer, and a look at what the result makes of them. */
#include "train/vocabulary.h"

#include "token/tok_train.h"
#include "train/data.h"

#define SAMPLE_BYTES ((size_t)1 << 20)
#define FEED_SHARE 0.5 /* of the progress shown */

struct teller {
    const mote_tokenizer_options *o;
};

static bool merging(void *ctx, size_t done, size_t total) {
    const struct teller *t = ctx;
    double share = FEED_SHARE + (1 - FEED_SHARE) * (double)done / (double)total;
    return !t->o->progress || t->o->progress(t->o->progress_ctx, share, "merging pairs");
}

static mote_status feed_all(tok_train *t, data *d, const mote_tokenizer_options *o, buf *sample, mote_error *err) {
    buf text;
    buf_init(&text, (size_t)1 << 30);
    mote_status st = MOTE_OK;
    for (size_t i = 0; i < data_n_items(d); i++) {
        buf_clear(&text);
        TRYG(st, data_item_text(d, i, &text, err));
        if (sample->n < SAMPLE_BYTES) buf_put(sample, text.p, MIN(text.n, SAMPLE_BYTES - sample->n));
        TRYG(st, tok_train_feed(t, buf_str(&text), err));
        double share = FEED_SHARE * (double)i / (double)data_n_items(d);
        if (i % 64 == 0 && o->progress && !o->progress(o->progress_ctx, share, "counting words"))
            FAILG(st, err, MOTE_E_CANCELLED, "cancelled while counting words");
    }
out:
    buf_free(&text);
    return st;
}

/* How many bytes of the sample a token stands for: the file that was written is opened as anyone would. */
static mote_status measure(const char *path, str sample, double *bytes_per_token, mote_error *err) {
    char name[4096];
    bool is_gguf = str_ends(str_of(path), STR(".gguf")), is_json = str_ends(str_of(path), STR(".json"));
    (void)snprintf(name, sizeof name, "%s%s", path, is_gguf || is_json ? "" : "/tokenizer.json");
    model_file *f = NULL;
    file_map map = {0};
    tok_vocab *v = NULL;
    tok_ids ids = {0};
    mote_status st = MOTE_OK;
    if (is_gguf) {
        TRYG(st, model_file_open(&f, path, MODEL_FILE_NO_TENSORS_OK, err));
        TRYG(st, tok_open(&v, f, NULL, err));
    } else {
        TRYG(st, file_open(&map, name, FILE_MAP, err));
        TRYG(st, tok_open_json(&v, (str){(const char *)map.p, map.n}, (str){NULL, 0}, NULL, err));
    }
    TRYG(st, tok_encode(v, sample, 0, &ids, err));
    *bytes_per_token = ids.n ? (double)sample.n / (double)ids.n : 0;
out:
    tok_ids_free(&ids);
    tok_close(&v);
    file_close(&map);
    model_file_close(&f);
    return st;
}

mote_status vocabulary_train(const char *const *paths, size_t n_paths, const char *out, const mote_tokenizer_options *o,
                             mote_tokenizer_report *report, mote_error *err) {
    uint64_t began = clock_ns();
    mote_status st = MOTE_OK;
    data *d = NULL;
    tok_train *t = NULL;
    struct teller teller = {o};
    mote_tokenizer_report r = {0};
    buf sample;
    buf_init(&sample, SAMPLE_BYTES + 1);
    data_source *sources = MEM_NEW_N(data_source, n_paths ? n_paths : 1);
    if (!sources) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu files", n_paths);
    for (size_t i = 0; i < n_paths; i++) sources[i].path = paths[i];
    const tok_train_opts to = {.vocab_size = o->vocab_size, .min_count = o->min_count, .pre = o->pre, .special = o->special,
                               .n_special = o->n_special, .progress = merging, .progress_ctx = &teller};
    TRYG(st, tok_train_open(&t, &to, err));
    TRYG(st, data_open(&d, &(data_opts){.sources = sources, .n_sources = n_paths, .strict = o->strict}, err));
    TRYG(st, feed_all(t, d, o, &sample, err));
    TRYG(st, tok_train_finish(t, err));
    TRYG(st, tok_train_write(t, out, err));
    TRYG(st, measure(out, buf_str(&sample), &r.bytes_per_token, err));
    data_stats s = data_get_stats(d, SIZE_MAX);
    r.n_tokens = tok_train_count(t);
    r.n_merges = tok_train_n_merges(t);
    r.n_words = tok_train_n_words(t);
    r.bytes = s.bytes;
    r.n_skipped = s.too_long + s.not_utf8 + s.not_json + s.lacking;
    r.seconds = (double)(clock_ns() - began) * 1e-9;
    if (report) *report = r;
out:
    buf_free(&sample);
    tok_train_close(&t);
    data_close(&d);
    mem_free(sources);
    return st;
}
