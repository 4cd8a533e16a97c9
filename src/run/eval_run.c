/* eval_run.c: a task over a file: examples, items, means and standard errors. */
#include "run/conversation.h"
#include "run/eval_tasks.h"

#include <math.h>
#include <string.h>

/* Sums of a metric: over items, or over the instructions of all items (ifeval's inst_level). Of documents: sum of log-likelihoods, n of
 * words or bytes. */
typedef struct tally {
    double sum, squares, n;
    double n_squares, products; /* of documents */
} tally;

typedef struct evaluation {
    mote_session *s;
    const mote_task_opts *o;
    const eval_task *task;
    json_t *docs, *examples; /* examples: where few-shot ones are drawn from; may be docs */
    size_t n_fewshot, n_metrics;
    py_random draw;
    arena mem;               /* an item's texts */
    tally tallies[MOTE_TASK_METRICS_MAX];
    size_t n_tokens, n_skipped;
} evaluation;

/* ---- few-shot examples ---- */
static mote_status put_example(evaluation *e, const json_t *doc, buf *out, mote_error *err) {
    eval_item it = {.doc = doc};
    TRY(e->task->item(doc, &e->mem, &it, err));
    buf_put_str(out, it.prompts[e->task->many_prompts ? it.gold : 0]);
    buf_puts(out, " ");
    buf_put_str(out, e->task->kind == EVAL_ANSWER ? it.answer : it.choices[it.gold]);
    buf_puts(out, "\n\n");
    return MOTE_OK;
}

/* Examples before an item. From the item's own file, one more is drawn, so that the item itself can be left out. */
static mote_status put_examples(evaluation *e, const json_t *doc, buf *out, mote_error *err) {
    size_t have = json_array_size(e->examples), put = 0;
    bool own = e->examples == e->docs, first = e->task->first_fewshot;
    size_t k = first ? have : e->n_fewshot + own;
    if (e->n_fewshot == 0) return MOTE_OK;
    if (have < e->n_fewshot + own) FAIL(err, MOTE_E_USAGE, "%zu examples are wanted, but there are %zu", e->n_fewshot, have - (own && have));
    size_t *chosen = MEM_NEW_N(size_t, k);
    if (!chosen || (!first && !py_sample(&e->draw, have, k, chosen))) {
        mem_free(chosen);
        FAIL(err, MOTE_E_MEMORY, "out of memory");
    }
    mote_status s = MOTE_OK;
    for (size_t i = 0; i < k && put < e->n_fewshot && s == MOTE_OK; i++) {
        const json_t *d = json_array_get(e->examples, first ? i : chosen[i]);
        if (own && json_equal(d, doc)) continue;
        s = put_example(e, d, out, err);
        put++;
    }
    mem_free(chosen);
    return s;
}

/* ---- chat ---- */
/* The prompt as a user's message through the model's template, ready for the answer. */
static mote_status through_template(evaluation *e, str prompt, buf *out, mote_error *err) {
    mote_chat *c = NULL;
    mote_chat_opts o = mote_chat_opts_default();
    tok_ids ids = {0};
    size_t dropped;
    mote_status s;
    o.system = e->o->system;
    TRY(run_chat_open(&c, e->s, 0, &o, err));
    buf_clear(out);
    TRYG(s, run_chat_add(c, "user", prompt, err));
    s = run_chat_prompt(c, &ids, out, &dropped, err);
out:
    tok_ids_free(&ids);
    run_chat_close(c);
    return s;
}

/* ---- items ---- */
/* v: one item's value; or the mean of its n parts, which are zeros and ones and so their own squares. */
static void add(tally *t, double v, double n) {
    t->sum += v * n;
    t->squares += n == 1 ? v * v : v * n;
    t->n += n;
}

static mote_status judge_choices(evaluation *e, const eval_item *it, const str *prompts, json_t *row, mote_error *err) {
    eval_likelihood like[EVAL_CHOICES_MAX];
    str continuations[EVAL_CHOICES_MAX];
    size_t best = 0, best_norm = 0;
    double per[EVAL_CHOICES_MAX];
    json_t *sums = json_array();
    if (!sums || json_object_set_new(row, "loglikelihoods", sums) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < it->n; i++) {
        char *p = arena_alloc(&e->mem, it->choices[i].n + 2, 1);
        if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory");
        p[0] = ' ';
        memcpy(p + 1, it->choices[i].p, it->choices[i].n);
        continuations[i] = e->o->chat ? (str){p + 1, it->choices[i].n} : (str){p, it->choices[i].n + 1};
    }
    TRY(eval_likelihoods(e->s, prompts, continuations, it->n, like, &e->n_tokens, err));
    for (size_t i = 0; i < it->n; i++) {
        per[i] = like[i].sum / (double)utf8_count(it->choices[i].p, it->choices[i].n);
        if (like[i].sum > like[best].sum) best = i;
        if (per[i] > per[best_norm]) best_norm = i;
        (void)json_array_append_new(sums, json_real(like[i].sum));
    }
    double values[2] = {best == it->gold, best_norm == it->gold};
    for (size_t k = 0; k < e->n_metrics; k++) {
        add(&e->tallies[k], values[k], 1);
        (void)json_object_set_new(row, e->task->metrics[k], json_real(values[k]));
    }
    (void)json_object_set_new(row, "gold", json_integer((json_int_t)it->gold));
    return MOTE_OK;
}

static mote_status judge_answer(evaluation *e, const eval_item *it, str prompt, json_t *row, mote_error *err) {
    buf answer;
    double values[MOTE_TASK_METRICS_MAX] = {0};
    buf_init(&answer, (size_t)16 << 20);
    mote_status s = eval_generate(e->s, prompt, e->task->stops, e->o->max_tokens ? e->o->max_tokens : e->task->max_tokens, &answer, &e->n_tokens, err);
    if (s == MOTE_OK) s = e->task->judge(it, buf_str(&answer), values, row, err);
    size_t per_item = json_array_size(json_object_get(it->doc, "instruction_id_list"));
    for (size_t k = 0; k < e->n_metrics && s == MOTE_OK; k++) {
        bool per_instruction = strncmp(e->task->metrics[k], "inst_", 5) == 0;
        add(&e->tallies[k], values[k], per_instruction ? (double)per_item : 1);
        (void)json_object_set_new(row, e->task->metrics[k], json_real(values[k]));
    }
    if (s == MOTE_OK) (void)json_object_set_new(row, "answer", json_stringn(buf_str(&answer).p, answer.n));
    buf_free(&answer);
    return s;
}

static mote_status judge_document(evaluation *e, const eval_item *it, json_t *row, mote_error *err) {
    double like, per[3] = {(double)eval_words(it->choices[0]), (double)it->choices[0].n, (double)it->choices[0].n};
    if (it->choices[0].n == 0) FAIL(err, MOTE_E_FORMAT, "an empty document");
    TRY(eval_rolling(e->s, it->prompts[0], &like, &e->n_tokens, err));
    for (size_t k = 0; k < e->n_metrics; k++) {
        tally *t = &e->tallies[k];
        t->sum += like;
        t->squares += like * like;
        t->n += per[k];
        t->n_squares += per[k] * per[k];
        t->products += like * per[k];
    }
    (void)json_object_set_new(row, "loglikelihood", json_real(like));
    (void)json_object_set_new(row, "words", json_integer((json_int_t)per[0]));
    (void)json_object_set_new(row, "bytes", json_integer((json_int_t)per[1]));
    return MOTE_OK;
}

static mote_status run_item(evaluation *e, const json_t *doc, json_t *row, mote_error *err) {
    eval_item it = {.doc = doc};
    str prompts[EVAL_CHOICES_MAX];
    buf b, full;
    mote_status s;
    buf_init(&b, (size_t)64 << 20);
    buf_init(&full, (size_t)64 << 20);
    TRYG(s, e->task->item(doc, &e->mem, &it, err));
    if (e->task->kind == EVAL_ROLLING) {
        s = judge_document(e, &it, row, err);
        goto out;
    }
    TRYG(s, put_examples(e, doc, &b, err));
    for (size_t i = 0; i < it.n; i++) {
        if (i > 0 && !e->task->many_prompts) {
            prompts[i] = prompts[0];
            continue;
        }
        buf_clear(&full);
        buf_put_str(&full, buf_str(&b));
        buf_put_str(&full, it.prompts[i]);
        TRYG(s, buf_check(&full, "a prompt", err));
        if (e->o->chat) {
            char *message = arena_dup(&e->mem, buf_str(&full));
            if (!message) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
            TRYG(s, through_template(e, (str){message, full.n}, &full, err));
        }
        char *kept = arena_dup(&e->mem, buf_str(&full));
        if (!kept) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
        prompts[i] = (str){kept, full.n};
    }
    s = e->task->kind == EVAL_CHOICE ? judge_choices(e, &it, prompts, row, err) : judge_answer(e, &it, prompts[0], row, err);
out:
    buf_free(&b);
    buf_free(&full);
    return s;
}

static mote_status tell(evaluation *e, size_t i, size_t n, json_t *row, mote_error *err) {
    if (!e->o->on_item) return MOTE_OK;
    char *text = json_dumps(row, JSON_COMPACT);
    if (!text) FAIL(err, MOTE_E_MEMORY, "out of memory");
    int stop = e->o->on_item(e->o->ctx, i + 1, n, text);
    free(text);
    if (stop) FAIL(err, MOTE_E_CANCELLED, "cancelled after %zu of %zu items", i + 1, n);
    return MOTE_OK;
}

static mote_status run_all(evaluation *e, mote_error *err) {
    size_t n = json_array_size(e->docs);
    mote_error first = {0};
    if (e->o->limit) n = MIN(n, e->o->limit);
    for (size_t i = 0; i < n; i++) {
        json_t *row = json_pack("{s:I}", "item", (json_int_t)i);
        if (!row) FAIL(err, MOTE_E_MEMORY, "out of memory");
        mote_error why = {0};
        arena_free(&e->mem);
        mote_status s = run_item(e, json_array_get(e->docs, i), row, &why);
        if (s == MOTE_E_FORMAT || s == MOTE_E_RANGE) { /* the item's own fault */
            e->n_skipped++;
            (void)json_object_set_new(row, "skipped", json_string(why.message));
            if (e->n_skipped == 1) first = why;
            s = MOTE_OK;
        } else if (s != MOTE_OK) s = err_set(err, s, __FILE__, __LINE__, "item %zu: %s", i, why.message);
        if (s == MOTE_OK) s = tell(e, i, n, row, err);
        json_decref(row);
        TRY(s);
    }
    if (e->n_skipped == n) FAIL(err, MOTE_E_FORMAT, "none of the %zu items has the fields of task %s; the first: %s", n, e->task->name, first.message);
    return MOTE_OK;
}

/* exp(-mean) or -mean in bits; the error of a ratio of two sums over n documents. */
static mote_task_metric of_documents(const char *name, const tally *t, double n) {
    double mean = -t->sum / t->n, var = t->squares + 2 * mean * t->products + mean * mean * t->n_squares;
    double error = n > 1 ? sqrt(fmax(var, 0) * n / (n - 1)) / t->n : 0;
    bool bits = strncmp(name, "bits", 4) == 0;
    return (mote_task_metric){name, bits ? mean / log(2) : exp(mean), bits ? error / log(2) : exp(mean) * error};
}

static void summarize(const evaluation *e, size_t n_items, mote_task_result *r) {
    for (size_t k = 0; k < e->n_metrics; k++) {
        const tally *t = &e->tallies[k];
        if (e->task->kind == EVAL_ROLLING) {
            r->metrics[k] = of_documents(e->task->metrics[k], t, (double)n_items);
            continue;
        }
        double mean = t->n > 0 ? t->sum / t->n : 0, var = t->n > 1 ? (t->squares - t->n * mean * mean) / (t->n - 1) : 0;
        r->metrics[k] = (mote_task_metric){e->task->metrics[k], mean, t->n > 0 ? sqrt(fmax(var, 0) / t->n) : 0};
    }
    r->n_metrics = e->n_metrics;
}

/* ---- a text in windows ---- */
static int on_window(void *ctx, size_t done, size_t total, double ppl) {
    const mote_task_opts *o = ctx;
    char row[96];
    (void)snprintf(row, sizeof row, "{\"item\":%zu,\"ppl_so_far\":%.17g}", done - 1, ppl);
    return o->on_item ? o->on_item(o->ctx, done, total, row) : 0;
}

static mote_status run_windows(mote_session *s, const mote_task_opts *o, const eval_task *task, mote_task_result *r, mote_error *err) {
    enum { WINDOW = 512 };
    mote_task_opts own = *o;
    mote_ppl_opts p = mote_ppl_opts_default();
    mote_ppl_result got = {.size = sizeof got};
    file_map f;
    p.n_ctx = MIN((size_t)WINDOW, s->n_ctx);
    p.n_chunks = o->limit;
    p.compare_logits = o->reference;
    p.on_chunk = on_window;
    p.ctx = &own;
    TRY(file_open(&f, o->file, FILE_READ, err));
    mote_status st = run_perplexity(s, (str){(const char *)f.p, f.n}, &p, &got, err);
    file_close(&f);
    TRY(st);
    const double values[MOTE_TASK_METRICS_MAX] = {got.ppl, got.bits_per_byte, got.ppl / got.base_ppl, got.kld_mean, got.kld_median, got.kld_p99, got.same_top, got.rms_dp};
    const double errors[MOTE_TASK_METRICS_MAX] = {got.ppl_error, got.bits_per_byte * got.ppl_error / got.ppl / got.nll, 0, got.kld_error};
    r->n_metrics = o->reference ? MOTE_TASK_METRICS_MAX : 2;
    for (size_t k = 0; k < r->n_metrics; k++) r->metrics[k] = (mote_task_metric){task->metrics[k], values[k], errors[k]};
    r->n_items = got.n_chunks;
    r->n_tokens = got.n_chunks * p.n_ctx;
    return MOTE_OK;
}

mote_status eval_run(mote_session *s, const mote_task_opts *o, mote_task_result *r, mote_error *err) {
    enum { ITEM_BYTES_MAX = 256 << 20 };
    evaluation e = {.s = s, .o = o, .task = o->task ? eval_find_task(o->task) : NULL};
    uint64_t start = clock_ns();
    mote_status st;
    if (!e.task) FAIL(err, MOTE_E_USAGE, "there is no task '%s'", o->task ? o->task : "");
    if (!o->file) FAIL(err, MOTE_E_USAGE, "task %s needs a file of items", o->task);
    arena_init(&e.mem, ITEM_BYTES_MAX);
    e.n_fewshot = o->n_fewshot == MOTE_TASK_DEFAULT ? e.task->n_fewshot : o->n_fewshot;
    while (e.n_metrics < MOTE_TASK_METRICS_MAX && e.task->metrics[e.n_metrics]) e.n_metrics++;
    if (o->reference && e.task->kind != EVAL_WINDOWS) FAIL(err, MOTE_E_USAGE, "task %s is compared with no reference: that is for 'perplexity'", e.task->name);
    if (e.task->kind == EVAL_WINDOWS) {
        TRY(run_windows(s, o, e.task, r, err));
        r->seconds = (double)(clock_ns() - start) * 1e-9;
        return MOTE_OK;
    }
    py_seed(&e.draw, o->fewshot_seed);
    if (e.task->docs) TRYG(st, e.task->docs(&e.docs, s, o->file, s->n_ctx, err));
    else TRYG(st, eval_read_docs(&e.docs, o->file, err));
    e.examples = e.docs;
    if (o->fewshot_file && e.n_fewshot) TRYG(st, eval_read_docs(&e.examples, o->fewshot_file, err));
    TRYG(st, run_all(&e, err));
    r->n_items = (o->limit ? MIN(o->limit, json_array_size(e.docs)) : json_array_size(e.docs)) - e.n_skipped;
    summarize(&e, r->n_items, r);
    r->n_skipped = e.n_skipped;
    r->n_tokens = e.n_tokens;
    r->seconds = (double)(clock_ns() - start) * 1e-9;
out:
    if (e.examples != e.docs) json_decref(e.examples);
    json_decref(e.docs);
    arena_free(&e.mem);
    return st;
}
