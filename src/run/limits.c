/* limits.c: what the machine can do at most, and what that allows a model. */
#include "run/run.h"
#include "tensor/machine.h"

mote_status run_machine(mote_engine *e, bool only_limits, mote_machine *out, mote_error *err) {
    const uint32_t mask = e->cpu_mask == CPU_SCALAR_ONLY ? 0 : e->cpu_mask ? e->cpu_mask : CPU_ALL;
    (void)pthread_mutex_lock(&e->lock);
    mote_status st = machine_measure(out, mask, pool_size(e->pool), only_limits, err);
    (void)pthread_mutex_unlock(&e->lock);
    return st;
}

/* What a series of passes takes at least. */
typedef struct total {
    double ns, bytes, ops, read_gb_s;
    size_t n, n_reading;
} total;

static void add_pass(const mote_session *s, const mote_machine *m, size_t n_seq, size_t n, size_t pos0, total *t) {
    model_work w;
    model_pass_work(s->st, n_seq, n, pos0, &w);
    const double bytes = w.weight_bytes + w.cache_bytes; /* a pass reads them all, the next one again */
    const double read = machine_read_limit(m, bytes), int8 = machine_peak_limit(m, "int8");
    const double floats = MAX(machine_peak_limit(m, "bf16"), machine_peak_limit(m, "f32"));
    const double reading = read > 0 ? bytes / read : 0;
    const double computing = (int8 > 0 ? w.int8_ops / int8 : 0) + (floats > 0 ? w.float_ops / floats : 0);
    t->ns += MAX(reading, computing);
    t->bytes += bytes;
    t->ops += w.int8_ops + w.float_ops;
    t->read_gb_s = read;
    t->n++;
    t->n_reading += reading > computing;
}

void run_bench_limits(const mote_session *s, const mote_bench_opts *o, const mote_machine *m, mote_bench_limit *out) {
    const size_t n_seq = MAX(o->n_parallel, 1), n_prompts = o->shared_prompt ? 1 : n_seq;
    total prompt = {0}, gen = {0};
    for (size_t done = 0; done < o->n_prompt; done += s->n_batch)
        for (size_t q = 0; q < n_prompts; q++) add_pass(s, m, 1, MIN(s->n_batch, o->n_prompt - done), o->n_depth + done, &prompt);
    for (size_t i = 0; i < o->n_gen; i++) add_pass(s, m, n_seq, 1, o->n_depth + o->n_prompt + i, &gen);
    out->prompt_ns = prompt.ns;
    out->prompt_ops = prompt.ops;
    out->prompt_bytes = prompt.bytes;
    out->prompt_by_reading = 2 * prompt.n_reading > prompt.n;
    out->gen_ns = gen.ns;
    out->gen_ops = gen.ops;
    out->gen_bytes = gen.bytes;
    out->gen_read_gb_s = gen.read_gb_s;
    out->gen_by_reading = 2 * gen.n_reading > gen.n;
}
