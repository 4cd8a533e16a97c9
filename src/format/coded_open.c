/* coded_open.c: a file's coded tensors (coded.h) become tensors like any other when it is opened, all chunks side by side. */
#include "base/cpu.h"
#include "base/file.h"
#include "base/pool.h"
#include "format/coded.h"
#include "format/format_int.h"

#include <pthread.h>
#include <stdatomic.h>

enum { GROWTH_MAX = 256 /* decoded tensors may take so many times the file's bytes */ };

typedef struct coded_job {
    const tensor_info *from; /* the bytes */
    tensor_info *to;
    unsigned char *dst;
    size_t first, n_chunks;     /* the number of its first chunk among all */
    _Atomic size_t n_done;
} coded_job;

typedef struct coded_jobs {
    coded_job *v;
    size_t n, n_chunks, next; /* next: chunk to take */
    size_t failed;            /* number of the first chunk that failed */
    mote_status status;
    mote_error err;
    pthread_mutex_t lock;
} coded_jobs;

static void work(void *arg, int ith, int nth) {
    coded_jobs *j = arg;
    (void)ith, (void)nth;
    for (size_t job = 0;;) {
        size_t chunk = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED);
        if (chunk >= j->n_chunks) return;
        while (job + 1 < j->n && j->v[job + 1].first <= chunk) job++;
        coded_job *c = &j->v[job];
        mote_error e = {0};
        mote_status s = coded_read_chunk(c->from->data, c->from->size, c->to, chunk - c->first, c->dst, &e);
        if (atomic_fetch_add(&c->n_done, 1) + 1 == c->n_chunks) file_drop(c->from->data, c->from->size); /* not both forms of all at once */
        if (s == MOTE_OK) continue;
        (void)pthread_mutex_lock(&j->lock);
        if (chunk < j->failed) j->failed = chunk, j->status = s, j->err = e; /* the same one whatever the threads do */
        (void)pthread_mutex_unlock(&j->lock);
    }
}

static mote_status run(coded_jobs *j, mote_error *err) {
    pool *p;
    TRY(pool_open(&p, j->n_chunks < 4 ? 1 : (int)MIN((size_t)cpu_threads_default(), j->n_chunks), err));
    j->failed = SIZE_MAX;
    (void)pthread_mutex_init(&j->lock, NULL);
    pool_run(p, work, j);
    (void)pthread_mutex_destroy(&j->lock);
    pool_close(&p);
    if (j->status != MOTE_OK && err) *err = j->err;
    return j->status;
}

static bool is_coded(const tensor_info *t) { return t->type == QUANT_I8 && t->n_dims == 1 && str_ends(t->name, STR(CODED_SUFFIX)) && t->name.n > sizeof CODED_SUFFIX - 1; }

/* What entry i becomes, and room for it. */
static mote_status plan(model_file *f, size_t i, coded_jobs *j, bool data, size_t *grown, mote_error *err) {
    tensor_info *t = &f->tensors[i], was = *t;
    t->name = str_sub(was.name, 0, was.name.n - (sizeof CODED_SUFFIX - 1));
    t->origin = t->name;
    TRY(coded_read_head(was.data, was.size, t, err));
    if (!ckd_add_size(grown, *grown, t->size) || *grown / GROWTH_MAX > f->bytes)
        FAIL(err, MOTE_E_LIMIT, "coded tensor '%.*s' would be %zu bytes of weights in a file of %llu", STR_ARG(t->name), t->size, (unsigned long long)f->bytes);
    t->coded = (str){(const char *)was.data, was.size};
    t->data = NULL;
    if (!data) return MOTE_OK;
    tensor_info *from = ARENA_NEW_N(&f->mem, tensor_info, 1);
    void *dst;
    if (!from) FAIL(err, MOTE_E_MEMORY, "out of memory for tensor '%.*s'", STR_ARG(t->name));
    *from = was;
    TRY(model_file_own(f, t->size, &dst, err));
    t->data = dst;
    coded_job *c = &j->v[j->n++];
    *c = (coded_job){.from = from, .to = t, .dst = dst, .first = j->n_chunks, .n_chunks = coded_chunks(was.data)};
    j->n_chunks += c->n_chunks;
    return MOTE_OK;
}

mote_status model_file_uncode(model_file *f, bool data, mote_error *err) {
    coded_jobs j = {0};
    size_t n = 0, grown = 0;
    for (size_t i = 0; i < f->n_tensors; i++) n += is_coded(&f->tensors[i]);
    if (n == 0) return MOTE_OK;
    j.v = ARENA_NEW_N(&f->mem, coded_job, n);
    if (!j.v) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu coded tensors", n);
    for (size_t i = 0; i < f->n_tensors; i++)
        if (is_coded(&f->tensors[i])) TRY(plan(f, i, &j, data, &grown, err));
    if (data) TRY(run(&j, err));
    return model_file_index(f, err);
}
